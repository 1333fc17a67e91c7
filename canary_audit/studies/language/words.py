"""Words and lines that the experiments on language models share."""

import math
from collections.abc import Iterable, Sequence

from canary_audit.studies.findings import Series


def level_name(level: int) -> str:
    """Canaries of one number of insertions."""
    return f"inserted {level}x" if level else "never inserted"


def listed(values: Iterable[object]) -> str:
    """What was found with each seed, in their order, such as `9 and 10`; once if it is the same with all of them.

    What did not happen (None) is `never`.
    """
    texts = ["never" if value is None else str(value) for value in values]
    if len(set(texts)) == 1:
        return texts[0]
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def band(name: str, x: Sequence[float], by_seed: Sequence[Sequence[float]]) -> Series:
    """Mean over the seeds at each point, with their range; `by_seed` has shape (n_seeds, n_points)."""
    columns = list(zip(*by_seed, strict=True))
    return Series(
        name=name,
        x=tuple(x),
        y=tuple(math.fsum(column) / len(column) for column in columns),
        low=tuple(map(min, columns)),
        high=tuple(map(max, columns)),
    )
