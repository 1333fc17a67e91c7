"""Time and memory of a private training step against an ordinary one, and against Opacus as it comes.

    python benchmarks/dp.py [--quick] [--model FOLDER]

The steps are the ones that training takes, on random tokens: sampling, forward and backward pass, clipping, noise and
update. A private step draws a random number of rows, so times are compared by token. All ways to train a network run in
one process on one thread, in turn, and a ratio is the median of those of the turns. Adapters are put into SmolLM2, or
another model if `--model` names one, or into a built-in Llama where there is none. The last line of the output is one
JSON object.
"""

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version

import torch
from dp_steps import DpLstmNetwork, Job, Step, built_in, opacus_alone, plain, private, stored
from peak_memory import peak_megabytes
from subject import cpu_seconds, read_arguments

Ways = Mapping[str, Callable[[], Step]]
"""Ways to train one network, by name; the first is the yardstick."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much of everything."""

    turns: int
    batches: int
    """Batches by which each way is timed in a turn."""
    lstm: Job
    llama: Job
    lora: Job
    """Where no model folder is given."""


FULL = Effort(
    turns=9,
    batches=6,
    lstm=Job(network=built_in("lstm"), vocab_size=512, batch_rows=16, context_tokens=64),
    llama=Job(
        network=built_in("llama", vocab_size=2048, hidden_size=256, layers=4, heads=4, context_tokens=128),
        vocab_size=2048,
        batch_rows=16,
        context_tokens=128,
    ),
    lora=Job(
        network=built_in("llama", vocab_size=4096, hidden_size=512, layers=8, heads=8, context_tokens=64),
        vocab_size=4096,
        batch_rows=8,
        context_tokens=64,
        method="lora",
    ),
)
TINY = Job(
    network=built_in("llama", vocab_size=300, hidden_size=16, heads=2, context_tokens=8),
    vocab_size=300,
    batch_rows=4,
    context_tokens=8,
)
EFFORTS = {
    "full": FULL,
    "quick": replace(FULL, turns=3, batches=2),
    "tiny": Effort(
        turns=1,
        batches=1,
        lstm=replace(TINY, network=built_in("lstm", vocab_size=300, hidden_size=16)),
        llama=TINY,
        lora=replace(TINY, method="lora"),
    ),
}


def lstm_ways(job: Job) -> Ways:
    """The built-in LSTM; its yardstick is ordinary training on the recurrence that private training uses."""
    theirs = replace(job, network=lambda: DpLstmNetwork(job.network()))
    return {
        "same_core": lambda: plain(job, rows_apart=True),
        "nn_lstm": lambda: plain(job),
        "hooks": lambda: private(job, "hooks"),
        "ghost": lambda: private(job, "ghost"),
        "opacus_dplstm": lambda: opacus_alone(theirs),
    }


def llama_ways(job: Job) -> Ways:
    """The built-in Llama."""
    return {
        "plain": lambda: plain(job),
        "hooks": lambda: private(job, "hooks"),
        "ghost": lambda: private(job, "ghost"),
        "opacus": lambda: opacus_alone(job),
    }


def lora_ways(job: Job) -> Ways:
    """Adapters alone are trained."""
    return {"plain": lambda: plain(job), "hooks": lambda: private(job, "hooks")}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What training one network costs."""

    batch_tokens: int
    turns: list[dict[str, float]]
    """Seconds by token of each way, turn by turn."""
    megabytes: dict[str, float | None]

    def ratio(self, name: str, to: str) -> float:
        """Time of one way over another's."""
        return round(statistics.median(turn[name] / turn[to] for turn in self.turns), 2)

    def table(self) -> dict[str, dict[str, float | None]]:
        """Figures by way; ratios are to the first."""
        yardstick = next(iter(self.megabytes))
        return {
            name: {
                "ms_per_batch": round(
                    1e3 * self.batch_tokens * statistics.median(turn[name] for turn in self.turns), 1
                ),
                "ratio": self.ratio(name, yardstick),
                "megabytes": megabytes,
            }
            for name, megabytes in self.megabytes.items()
        }


def measure(job: Job, ways: Ways, megabytes: dict[str, float | None], effort: Effort) -> Measured:
    """Time the ways to train a network, turn about."""
    steps = {name: build() for name, build in ways.items()}
    batch_tokens = job.batch_rows * job.context_tokens
    for take in steps.values():
        timed(take, batch_tokens)
    turns = [
        {name: timed(take, effort.batches * batch_tokens) for name, take in steps.items()} for _ in range(effort.turns)
    ]
    return Measured(batch_tokens=batch_tokens, turns=turns, megabytes=megabytes)


def timed(take: Step, n_tokens: int) -> float:
    """Seconds by token, over as many steps as it takes."""
    step = tokens = 0
    begun = cpu_seconds()
    while tokens < n_tokens:
        tokens += take(step)
        step += 1
    return (cpu_seconds() - begun) / tokens


def main() -> None:
    """Run all comparisons and print one JSON object."""
    arguments = read_arguments((__doc__ or "").splitlines()[0], without_default=True)
    effort = EFFORTS[arguments.effort]
    lora = effort.lora
    if arguments.model.is_dir():
        network = stored(arguments.model)
        lora = replace(lora, network=network, vocab_size=network().config.vocab_size, batch_rows=4)
    jobs = (effort.lstm, effort.llama, lora)
    ways = (lstm_ways(effort.lstm), llama_ways(effort.llama), lora_ways(lora))
    # Memory first: what this process has used and freed would be used again unseen.
    memory = [{name: peak_megabytes(build) for name, build in found.items()} for found in ways]
    lstm, llama, adapted = (
        measure(job, found, megabytes, effort) for job, found, megabytes in zip(jobs, ways, memory, strict=True)
    )
    report = {
        "benchmark": "dp",
        "effort": arguments.effort,
        "threads": torch.get_num_threads(),
        "lora_model": "built-in llama" if lora is effort.lora else arguments.model.name,
        "overhead_llama_hooks": llama.ratio("hooks", "plain"),
        "overhead_llama_ghost": llama.ratio("ghost", "plain"),
        "overhead_llama_opacus": llama.ratio("opacus", "plain"),
        "overhead_lora_hooks": adapted.ratio("hooks", "plain"),
        "overhead_lstm": lstm.ratio("hooks", "same_core"),
        "overhead_lstm_over_nn_lstm": lstm.ratio("hooks", "nn_lstm"),
        "lstm_core_over_nn_lstm": lstm.ratio("same_core", "nn_lstm"),
        "speed_over_dplstm": lstm.ratio("opacus_dplstm", "hooks"),
        "lstm": lstm.table(),
        "llama": llama.table(),
        "lora": adapted.table(),
        "versions": {name: version(name) for name in ("torch", "opacus", "transformers", "peft")},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
