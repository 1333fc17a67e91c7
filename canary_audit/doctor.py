"""What a bug report needs: versions and devices."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version

_PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "scipy", "pydantic", "opacus")


def diagnosis() -> Iterator[tuple[str, str]]:
    """(name, value) of everything that can change a number."""
    import torch  # noqa: PLC0415 - slow, and only this verb of the light ones needs it

    yield "canary-audit", version("canary-audit")
    yield "python", platform.python_version()
    yield "platform", f"{platform.system()} {platform.machine()}"
    yield "processors", str(os.cpu_count())
    for package in _PACKAGES:
        yield package, version(package)
    yield "devices", ", ".join(_devices(torch.cuda.device_count()))


def _devices(n_gpus: int) -> Iterator[str]:
    yield "cpu"
    yield from (f"cuda:{index}" for index in range(n_gpus))
