"""Calling transformers on files that somebody else wrote.

transformers has no error of its own for a damaged or foreign folder, and talks while it works.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging

from canary_audit.errors import ModelError

_FOREIGN_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    SafetensorError,
    StrictDataclassError,
    struct.error,
)
"""What transformers, peft and tokenizers were seen to raise for damaged files."""


@contextmanager
def reading_foreign_files(failure: str) -> Iterator[None]:
    """Within the block transformers is quiet, and what it raises becomes a `ModelError` that begins with `failure`."""
    try:
        with quiet_transformers():
            yield
    except _FOREIGN_ERRORS as error:
        raise ModelError(f"{failure}: {first_line(error)}") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no advice from transformers: what it would report is checked here, and raised."""
    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its name if it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
