"""The same model here and behind every API: the same ranks, or intervals that hold them."""

import functools

import numpy as np
import pytest
from served_worlds import model_of, number_secrets, number_walk, numbers_table, served

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.served import affordable_prefixes
from canary_audit.exposure.estimates import RankSettings
from canary_audit.exposure.ranks import measure_ranks
from canary_audit.exposure.windows import measure_rank_bounds
from canary_audit.extraction import extract

COUNT_ALL = RankSettings(exact_nodes=20_000)
LEAST_HELD = 182
"""Of 200 intervals at 95 %: fewer come once in a hundred."""


def slow(*shape):
    return pytest.param(*shape, marks=pytest.mark.slow)


@functools.cache
def true_ranks():
    """Counted here, in process."""
    report = measure_ranks(
        number_walk(), numbers_table(), number_secrets(), settings=COUNT_ALL, rng=np.random.default_rng(1)
    )
    assert all(estimate.exact for estimate in report.estimates)
    return [estimate.rank for estimate in report.estimates]


@pytest.mark.parametrize("shape", ["vllm", slow("sglang"), "llamacpp"])
def test_chosen_tokens_give_the_very_ranks_that_are_counted_in_process(shape):
    with served(numbers_table(), shape) as (client, offers, _):
        model = model_of(client, offers["chosen-tokens"][0])
        report = measure_ranks(number_walk(), model, number_secrets(), settings=COUNT_ALL, rng=np.random.default_rng(1))
        extracted = extract(number_walk(), model, 1, max_width=64)
    assert [estimate.rank for estimate in report.estimates] == true_ranks()
    assert (extracted.secrets[0].secret, extracted.secrets[0].certified) == (b"4071", True)


@pytest.mark.parametrize("shape", [slow("vllm"), slow("sglang"), "llamacpp", "openai"])
def test_intervals_from_prompt_log_probs_hold_the_rank(shape):
    config = EndpointConfig(concurrency=4)
    with served(numbers_table(), shape, max_calls=700, config=config) as (client, offers, _):
        model = model_of(client, offers["prompt-logprobs"][0])
        report = measure_ranks(
            number_walk(),
            model,
            number_secrets(),
            settings=RankSettings(),
            rng=np.random.default_rng(1),
            nodes_left=affordable_prefixes(client.calls_left, model, cost_at_first=2.0),
            whole_costs=functools.partial(model.whole_costs, number_walk()),
            own_whole=True,
        )
        assert client.calls <= 700
    held = [one.low <= rank <= one.high for one, rank in zip(report.estimates, true_ranks(), strict=True)]
    assert sum(held) >= LEAST_HELD


@pytest.mark.parametrize(
    ("shape", "top_k"), [slow("vllm", 8), slow("sglang", 7), slow("llamacpp", 6), ("openai", 5), ("chat", 9)]
)
def test_intervals_from_the_top_k_hold_the_rank(shape, top_k):
    config = EndpointConfig(concurrency=4, top_k=top_k)
    with served(numbers_table(), shape, config=config) as (client, offers, _):
        report = measure_rank_bounds(
            number_walk(),
            model_of(client, offers["top-k"][0]),
            number_secrets(),
            settings=COUNT_ALL,
            rng=np.random.default_rng(1),
        )
    held = [one.low <= rank <= one.high for one, rank in zip(report.estimates, true_ranks(), strict=True)]
    assert sum(held) >= LEAST_HELD
    censored = [one for one in report.estimates if one.censored]
    assert censored
    assert all(one.rank is None for one in censored)
