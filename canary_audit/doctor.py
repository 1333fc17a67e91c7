"""What a bug report needs: versions and devices."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version

_PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "scipy", "pydantic", "opacus")


def diagnosis() -> Iterator[tuple[str, str]]:
    """(name, value) of everything that can change a number."""
    from canary_audit.models.devices import available_devices  # noqa: PLC0415 - it loads torch

    yield "canary-audit", version("canary-audit")
    yield "python", platform.python_version()
    yield "platform", f"{platform.system()} {platform.machine()}"
    yield "processors", str(os.cpu_count())
    for package in _PACKAGES:
        yield package, version(package)
    yield "devices", ", ".join(available_devices())
