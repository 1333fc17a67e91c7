"""Prose that every Python brings along: the topics of `help()` and the docstrings of the standard library.

Source files are parsed, never imported, in an order that depends on nothing but their names.
"""

import ast
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from canary_audit.data.records import text_problem
from canary_audit.errors import DataError

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
_MAIL_OR_DIGITS = re.compile(r"\S@\S|\d{5,}")
_OTHER_PEOPLES_TEXT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}
_ADVICE = "install the full standard library with its sources, or choose builtin:synthetic or a file of your own"


def prose_paragraphs(library: Path | None = None) -> Iterator[str]:
    """Distinct paragraphs without mail addresses and without runs of five or more digits.

    `library` is the folder of the standard library, by default that of the running Python.

    Raises:
        DataError: this Python comes without the help topics, or without docstrings.
    """
    folder = library or Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for text in _texts(folder):
        for paragraph in _BLANK_LINES.split(text):
            if _is_fit(paragraph) and paragraph not in seen:
                seen.add(paragraph)
                yield paragraph


def _is_fit(paragraph: str) -> bool:
    return bool(paragraph.strip()) and not _MAIL_OR_DIGITS.search(paragraph) and text_problem(paragraph) is None


def _texts(folder: Path) -> Iterator[str]:
    yield from _topics(folder / "pydoc_data" / "topics.py")
    n_docstrings = 0
    for path in _modules(folder):
        for docstring in _docstrings(_parse(path)):
            n_docstrings += 1
            yield docstring
    if not n_docstrings:
        raise DataError(f"builtin:prose: the standard library of this Python has no docstrings; {_ADVICE}")


def _topics(path: Path) -> list[str]:
    """Help topics by name. The file is one assignment of a dictionary of strings."""
    if not path.is_file():
        raise DataError(f"builtin:prose: this Python comes without pydoc_data/topics.py; {_ADVICE}")
    topics: dict[str, str] = {}
    for statement in _parse(path).body:
        if isinstance(statement, ast.Assign):
            topics |= ast.literal_eval(statement.value)
    if not topics:
        raise DataError(f"builtin:prose: pydoc_data/topics.py of this Python is empty; {_ADVICE}")
    return [topics[name].strip("\n") for name in sorted(topics)]


def _modules(folder: Path) -> list[Path]:
    def is_ours(path: Path) -> bool:
        parts = path.relative_to(folder).parts
        return parts[0].removesuffix(".py") in sys.stdlib_module_names and _OTHER_PEOPLES_TEXT.isdisjoint(parts)

    return sorted(filter(is_ours, folder.rglob("*.py")), key=lambda path: path.relative_to(folder).parts)


def _parse(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # doubtful escapes in other people's strings
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"builtin:prose: {path.name} cannot be read ({type(error).__name__}); {_ADVICE}") from None


def _docstrings(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
