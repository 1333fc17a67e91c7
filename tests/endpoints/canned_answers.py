"""True answers of servers, in the shapes that their sources give them, and the requests they answer."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from canary_audit.endpoints.chat import ChatDialect
from canary_audit.endpoints.dialect import Request, Window
from canary_audit.endpoints.llamacpp import LlamaCppDialect
from canary_audit.endpoints.openai import OpenAiDialect
from canary_audit.endpoints.sglang import SglangDialect
from canary_audit.endpoints.vllm import VllmDialect
from canary_audit.vocabulary import ByteVocabulary

MODEL = "tiny"
A, B, C, D = b"ABCD"
PREFIX = [b"x"[0], b"y"[0]]
TOP = {A: -0.5, B: -1.5, C: -2.5}
"""The likeliest next tokens, in that order; D is likely too little to be among them."""
RANKS = {A: 1, B: 2, C: 3}
TAIL = -6.0
VOCABULARY = ByteVocabulary()
TOP_K = len(TOP)

vllm = VllmDialect(MODEL, VOCABULARY, TOP_K)
sglang = SglangDialect(MODEL, VOCABULARY, TOP_K)
llamacpp = LlamaCppDialect(MODEL, VOCABULARY, TOP_K)
openai = OpenAiDialect(MODEL, VOCABULARY, TOP_K)
openai_one = OpenAiDialect(MODEL, VOCABULARY, TOP_K, echo_max_tokens=1)
chat = ChatDialect(MODEL, VOCABULARY, TOP_K, prefill="plain")
chat_vllm = ChatDialect(MODEL, VOCABULARY, TOP_K, prefill="vllm")


def by_id(log_probs):
    return {f"token_id:{token}": value for token, value in log_probs.items()}


def completion(logprobs, n_prompt=2, **more):
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "model": MODEL,
        "choices": [{"index": 0, "text": "A", "logprobs": logprobs, "finish_reason": "length", **more}],
        "usage": {"prompt_tokens": n_prompt, "completion_tokens": 1, "total_tokens": n_prompt + 1},
    }


def next_token(drawn, log_prob, named):
    return {"text_offset": [0], "tokens": [drawn], "token_logprobs": [log_prob], "top_logprobs": [named]}


def vllm_prompt(places):
    named = [
        {
            str(token): {"logprob": value, "rank": RANKS.get(token, 9), "decoded_token": chr(token)}
            for token, value in place.items()
        }
        for place in places
    ]
    return completion(None, n_prompt=1 + len(named), prompt_logprobs=[None, *named])


def generated(n_prompt=2, **meta):
    return {
        "text": "A",
        "output_ids": [A],
        "meta_info": {
            "id": "1",
            "finish_reason": {"type": "length", "length": 1},
            "prompt_tokens": n_prompt,
            "completion_tokens": 1,
            "output_token_logprobs": [[-0.5, A, None]],
            **meta,
        },
    }


def triples(log_probs):
    return [[value, token, None] for token, value in log_probs.items()]


def llama_entry(token, log_prob, named):
    shown = [{"id": token, "token": chr(token), "bytes": [token], "logprob": value} for token, value in named.items()]
    return {"id": token, "token": chr(token), "bytes": [token], "logprob": log_prob, "top_logprobs": shown}


def llama(entries, n_prompt=2):
    return {
        "index": 0,
        "content": "A",
        "tokens": [],
        "tokens_predicted": len(entries),
        "tokens_evaluated": n_prompt,
        "stop_type": "limit",
        "completion_probabilities": entries,
    }


def chat_answer(drawn, log_prob, named):
    def entry(token, value):
        return {"token": chr(token), "logprob": value, "bytes": [token]}

    shown = [entry(token, value) for token, value in named.items()]
    content = [{**entry(drawn, log_prob), "top_logprobs": shown}]
    message = {"role": "assistant", "content": chr(drawn)}
    choice = {"index": 0, "message": message, "logprobs": {"content": content}, "finish_reason": "length"}
    return {"model": "tiny-2025-01-01", "choices": [choice], "usage": {"prompt_tokens": 31}}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request, a true answer to it, and what it says."""

    name: str
    request: Request[Any]
    body: Any
    expected: Any


top_of = Window(log_probs=TOP, is_top=True, n_top=TOP_K)
with_tail = Window(log_probs={**TOP, D: TAIL}, is_top=True, n_top=TOP_K)
chosen = Window(log_probs={A: -0.5, D: TAIL}, is_top=False)
text_top = {chr(token): value for token, value in TOP.items()}
TEXTS = ("one", "two")
written = {"max_tokens": 4, "temperature": 1.0, "n": 2, "seed": 3}
two_choices = {"model": MODEL, "choices": [{"index": place, "text": text} for place, text in enumerate(TEXTS)]}
echoed = {"tokens": ["x", "y", "D"], "token_logprobs": [None, -4.0, TAIL], "top_logprobs": [None, {}, {}]}
echoed_and_one = {"tokens": ["x", "y", "D", "A"], "token_logprobs": [None, -4.0, TAIL, -0.5], "text_offset": []}

CASES = [
    Case(
        name="vllm chosen",
        request=vllm.window(PREFIX, [D], tier="chosen-tokens"),
        body=completion(next_token(f"token_id:{A}", -0.5, by_id({A: -0.5, D: TAIL}))),
        expected=chosen,
    ),
    Case(
        name="vllm top",
        request=vllm.window(PREFIX, (), tier="top-k"),
        body=completion(next_token(f"token_id:{B}", -1.5, by_id(TOP))),
        expected=top_of,
    ),
    Case(
        name="vllm prompt window",
        request=vllm.window(PREFIX, [D, A], tier="prompt-logprobs"),
        body=vllm_prompt([{PREFIX[1]: -4.0}, {D: TAIL, **TOP}]),
        expected=with_tail,
    ),
    Case(
        name="vllm forced",
        request=vllm.forced(PREFIX, D),
        body=completion(next_token(f"token_id:{D}", TAIL, by_id({D: TAIL, A: -0.5}))),
        expected=TAIL,
    ),
    Case(
        name="vllm score",
        request=vllm.score([*PREFIX, D], 1),
        body=vllm_prompt([{PREFIX[1]: -4.0, A: -0.5}, {D: TAIL, A: -0.5}]),
        expected=np.array([-4.0, TAIL]),
    ),
    Case(name="vllm write", request=vllm.write("xy", **written), body=two_choices, expected=TEXTS),
    Case(
        name="sglang chosen",
        request=sglang.window(PREFIX, [A, D], tier="chosen-tokens"),
        body=generated(output_token_ids_logprobs=[triples({A: -0.5, D: TAIL})]),
        expected=chosen,
    ),
    Case(
        name="sglang top",
        request=sglang.window(PREFIX, (), tier="top-k"),
        body=generated(output_top_logprobs=[triples(TOP)]),
        expected=top_of,
    ),
    Case(
        name="sglang prompt window",
        request=sglang.window(PREFIX, [D], tier="prompt-logprobs"),
        body=generated(
            3,
            input_token_logprobs=[[None, PREFIX[1], None], [TAIL, D, None]],
            input_top_logprobs=[None, triples(TOP)],
        ),
        expected=with_tail,
    ),
    Case(
        name="sglang forced",
        request=sglang.forced(PREFIX, D),
        body=generated(3, input_token_logprobs=[[None, PREFIX[1], None], [TAIL, D, None]]),
        expected=TAIL,
    ),
    Case(
        name="sglang score",
        request=sglang.score([*PREFIX, D], 1),
        body=generated(3, input_token_logprobs=[[None, PREFIX[0], None], [-4.0, PREFIX[1], None], [TAIL, D, None]]),
        expected=np.array([-4.0, TAIL]),
    ),
    Case(
        name="sglang write",
        request=sglang.write("xy", **written),
        body=[{**generated(), "text": text} for text in TEXTS],
        expected=TEXTS,
    ),
    Case(
        name="llamacpp top",
        request=llamacpp.window(PREFIX, [D], tier="chosen-tokens"),
        body=llama([llama_entry(D, TAIL, TOP)]),
        expected=top_of,
    ),
    Case(
        name="llamacpp forced",
        request=llamacpp.forced(PREFIX, D),
        body=llama([llama_entry(D, TAIL, {A: -0.5})]),
        expected=TAIL,
    ),
    Case(
        name="llamacpp score",
        request=llamacpp.score([*PREFIX, D], 1),
        body=llama([llama_entry(PREFIX[1], -4.0, {A: -0.5}), llama_entry(D, TAIL, {A: -0.5})], n_prompt=1),
        expected=np.array([-4.0, TAIL]),
    ),
    Case(
        name="llamacpp write",
        request=llamacpp.write("xy", **written),
        body=[{**llama([]), "content": text} for text in TEXTS],
        expected=TEXTS,
    ),
    Case(
        name="openai top",
        request=openai.window(PREFIX, [D], tier="top-k"),
        body=completion(next_token("A", -0.5, text_top)),
        expected=top_of,
    ),
    Case(
        name="openai forced",
        request=openai.forced(PREFIX, D),
        body=completion(echoed, n_prompt=3),
        expected=TAIL,
    ),
    Case(
        name="openai score",
        request=openai_one.score([*PREFIX, D], 1),
        body=completion(echoed_and_one, n_prompt=3),
        expected=np.array([-4.0, TAIL]),
    ),
    Case(name="openai write", request=openai.write("xy", **written), body=two_choices, expected=TEXTS),
    Case(
        name="chat top",
        request=chat.window(PREFIX, [D], tier="top-k"),
        body=chat_answer(A, -0.5, TOP),
        expected=top_of,
    ),
]
