"""Changes to a decoded answer: what a broken or dishonest server gets wrong in it.

Each takes an answer and returns one to send instead; it may change the one it was given. They know an answer only by
its field names, and that every float in it is a log-probability.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[Any], Any]

SERIES = {
    *("tokens", "token_logprobs", "top_logprobs", "text_offset", "prompt_logprobs"),
    *("completion_probabilities", "content"),
    *("output_token_logprobs", "output_top_logprobs", "output_token_ids_logprobs"),
    *("input_token_logprobs", "input_top_logprobs", "input_token_ids_logprobs"),
}
"""Fields that hold one entry for each token."""
OF_TOPS = {
    "top_logprobs",
    "prompt_logprobs",
    *(name for name in SERIES if name.endswith(("top_logprobs", "ids_logprobs"))),
}
"""Fields that hold several tokens for each token."""
WHOLE = {"logprobs", "prompt_logprobs", "completion_probabilities", *(name for name in SERIES if "put_" in name)}
"""Fields that hold all log-probabilities of an answer."""
COUNTS = {"prompt_tokens", "tokens_evaluated"}
READ_OR_WRITTEN = {"tokens", "token_ids", "prompt_token_ids", "output_ids"}
"""Fields that say which tokens were read or written."""
NAMED = {"completion_probabilities", "content", "output_token_logprobs", "input_token_logprobs"}
"""Fields whose entries say it too."""

Place = tuple[Any, Any]
"""A container and a key or index of it."""


def places(node: Any) -> Iterator[Place]:
    """Every place of a tree, parents before children."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(inner):
        yield node, key
        yield from places(value)


def log_probs(answer: Any) -> list[Place]:
    return [(node, key) for node, key in places(answer) if isinstance(node[key], float)]


def fields(answer: Any, names: set[str]) -> list[Place]:
    found = [(node, key) for node, key in places(answer) if isinstance(node, dict) and key in names]
    return [(node, key) for node, key in found if key in node]


def series(answer: Any) -> list[list[Any]]:
    """Lists with one entry for each token, innermost lists of likeliest tokens left out."""
    lists = [node[key] for node, key in fields(answer, SERIES) if isinstance(node[key], list)]
    innermost = groups(answer)
    return [each for each in lists if not any(each is group for group in innermost)]


def groups(answer: Any) -> list[Any]:
    """Dictionaries or lists with the likeliest or chosen tokens at one place."""
    found = []
    for node, key in fields(answer, OF_TOPS):
        entries = node[key] or []
        if entries and all(isinstance(entry, dict) and "logprob" in entry for entry in entries):
            found.append(entries)
        else:
            found += [entry for entry in entries if entry]
    return found


def each_log_prob(change: Callable[[float], Any]) -> Change:
    """All log-probabilities, one by one."""

    def changed(answer: Any) -> Any:
        for node, key in log_probs(answer):
            node[key] = change(node[key])
        return answer

    return changed


def sum_too_large(answer: Any) -> Any:
    """The tokens at each place have 1.05 together."""
    for group in groups(answer):
        found = log_probs(group)
        excess = math.log(1.05) - math.log(sum(math.exp(node[key]) for node, key in found) or 1.0)
        for node, key in found:
            node[key] += excess
    return answer


def without_fields(answer: Any) -> Any:
    for node, key in fields(answer, WHOLE):
        node.pop(key, None)
    return answer


def null_fields(answer: Any) -> Any:
    for node, key in fields(answer, WHOLE):
        node[key] = None
    return answer


def one_token_missing(answer: Any) -> Any:
    """The last of the likeliest or chosen tokens is left out."""
    for group in groups(answer):
        if isinstance(group, dict):
            group.popitem()
        else:
            group.pop()
    return answer


def one_token_twice(answer: Any) -> Any:
    """The first of the likeliest or chosen tokens comes again at the end, with another number."""
    for group in groups(answer):
        if isinstance(group, list):
            group.append(copy.deepcopy(group[0]))
            for node, key in log_probs(group[-1]):
                node[key] -= 1.0
    return answer


def one_entry_too_few(answer: Any) -> Any:
    for each in series(answer):
        del each[-1:]
    return answer


def one_entry_too_many(answer: Any) -> Any:
    for each in series(answer):
        each.extend(copy.deepcopy(each[-1:]))
    return answer


def empty(answer: Any) -> Any:
    """No choice, or no entry where there are no choices."""
    for node, key in fields(answer, {"choices"}) or [place for place in fields(answer, SERIES) if place[1] != "tokens"]:
        node[key] = [] if isinstance(node[key], list) else node[key]
    return answer


def other_count(answer: Any) -> Any:
    """One token more was read than was sent."""
    for node, key in fields(answer, COUNTS):
        node[key] += 1
    return answer


def other_names(answer: Any) -> Any:
    """The numbers of the likeliest or chosen tokens, under the names of their neighbours."""
    for group in groups(answer):
        if isinstance(group, dict):
            renamed = {_next(name): value for name, value in group.items()}
            group.clear()
            group.update(renamed)
        else:
            group[:] = [_next(entry) for entry in group]
    return answer


def other_tokens(answer: Any) -> Any:
    """The last token it says it read or wrote is another."""
    for node, key in fields(answer, READ_OR_WRITTEN | NAMED):
        if isinstance(node[key], list) and node[key]:
            node[key][-1] = _next(node[key][-1])
    return answer


def _next(token: Any) -> Any:
    """Another token, in whatever form it is written."""
    if isinstance(token, int):
        return token + 1
    if isinstance(token, list):
        return [token[0], _next(token[1]), *token[2:]]
    if isinstance(token, dict):
        changed = {key: _next(token[key]) for key in ("id", "token") if key in token}
        return {**token, **changed, "bytes": [byte ^ 1 for byte in token["bytes"]]}
    name, _, number = token.rpartition(":")
    if number.isdecimal() and name in {"", "token_id"}:
        return f"{name}:{int(number) + 1}".removeprefix(":")
    return token[:-1] + chr(ord(token[-1]) ^ 1) if token else "?"


def lone_surrogate(answer: Any) -> Any:
    """Half a character in what the model wrote, which no encoding can write."""
    for node, key in fields(answer, {"text", "content"}):
        if isinstance(node[key], str):
            node[key] = "\ud800"
    return answer


def wrong_type(level: int) -> Change:
    """On the way down to each log-probability, something else stands at this level; above it if the way is shorter."""

    def changed(node: Any, depth: int = 0) -> Any:
        if isinstance(node, float):
            return {"value": node}
        if not log_probs(node):
            return node
        if depth == level:
            return 7
        if isinstance(node, dict):
            return {key: changed(value, depth + 1) for key, value in node.items()}
        return [changed(value, depth + 1) for value in node]

    return changed
