"""Where training text comes from: a configuration in, a stream of documents out."""

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from canary_audit.config import DataConfig
from canary_audit.data.blacklist import matcher, without_listed
from canary_audit.data.jsonl import JsonlFormat
from canary_audit.data.lines import Lines, open_lines
from canary_audit.data.prose import prose_paragraphs
from canary_audit.data.records import BadLine, Format, Record
from canary_audit.data.synthetic import VERSION, synthetic_paragraphs
from canary_audit.data.text import TextFormat
from canary_audit.errors import DataError

_BUILTINS = ("builtin:prose", "builtin:synthetic")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Training text in one of the formats, with the limits of the configuration."""

    name: str
    """As configured, but a file by its name alone: no result tells where it lies on a disk."""
    format: Format
    max_bytes: int | None
    max_bad_lines: int
    details: Mapping[str, str] = field(default_factory=dict)
    """What else decides which text comes out, such as the Python version."""

    @property
    def extension(self) -> str:
        return self.format.extension

    def records(self, bad_lines: list[BadLine] | None = None) -> Iterator[Record]:
        """Stream the documents, whole ones up to `max_bytes` of text. Skipped lines are appended to `bad_lines`.

        Raises:
            DataError: there are more bad lines than allowed, or no document is left.
        """
        skipped: list[BadLine] = [] if bad_lines is None else bad_lines
        n_documents = n_bytes = 0
        for item in self.format.read():
            if isinstance(item, BadLine):
                self._skip(item, skipped)
                continue
            n_bytes += len(item.text.encode())
            if self.max_bytes is not None and n_bytes > self.max_bytes:
                break
            n_documents += 1
            yield item
        if not n_documents:
            cause = "its first document is longer than data.max_bytes" if n_bytes else "it holds no document"
            raise DataError(f"{self.name}: nothing to train on: {cause}")

    def _skip(self, bad_line: BadLine, skipped: list[BadLine]) -> None:
        if len(skipped) >= self.max_bad_lines:
            raise DataError(
                f"{self.name}: {bad_line.place} {bad_line.reason}. Mend it, or raise data.max_bad_lines "
                f"(now {self.max_bad_lines}) to leave such lines out"
            )
        skipped.append(bad_line)


def open_source(config: DataConfig, seed: int) -> Source:
    """Find the source that `config.source` names. `seed` decides the text of `builtin:synthetic` and nothing else.

    Raises:
        DataError: there is no such source, or it cannot be read.
    """
    kind, _, location = config.source.partition(":")
    if kind == "builtin":
        return _builtin(config, seed)
    if kind == "hf":
        return _hugging_face(config, location)
    path = Path(config.source)
    return _source(config, path.name, open_file(path, config))


def open_file(path: Path, config: DataConfig) -> Format:
    """The format of a file, told by its ending.

    Raises:
        DataError: the file is missing, unreadable, or of no format known here.
    """
    ending = path.suffix.lower()
    if ending == ".txt":
        _refuse_user_field(config, path.name)
        return TextFormat(lines=open_lines(path, config.max_line_bytes), split=config.split)
    if ending == ".jsonl":
        return JsonlFormat(
            lines=open_lines(path, config.max_line_bytes), text_field=config.text_field, user_field=config.user_field
        )
    if ending == ".parquet":
        from canary_audit.data.parquet import open_parquet  # noqa: PLC0415  (pyarrow is heavy)

        return open_parquet(path, config.text_field, config.max_line_bytes, user_field=config.user_field)
    raise DataError(f"{path}: the ending says neither .txt, .jsonl nor .parquet; convert it to one of them")


def read_documents(path: Path, config: DataConfig) -> Iterator[str]:
    """Texts of a planted or validation file, in order; with `config.deduplicate` the first of equal ones only.

    Raises:
        DataError: the file is missing or damaged. No bad line is tolerated here: planting has left them out.
    """
    source = Source(name=path.name, format=open_file(path, config), max_bytes=None, max_bad_lines=0)
    texts = (record.text for record in source.records())
    return _distinct(texts) if config.deduplicate else texts


def read_owned_documents(path: Path, config: DataConfig) -> Iterator[tuple[str, str | None]]:
    """Texts of a planted file, in order, each with the name of the user who wrote it (`config.user_field`); None where
    the record does not say, as for every canary. Those on the blacklist are left out.

    Raises:
        DataError: the file is missing or damaged, or of a format without fields.
    """
    source = Source(name=path.name, format=open_file(path, config), max_bytes=None, max_bad_lines=0)
    is_listed = matcher(config.blacklist)
    return ((record.text, record.owner) for record in source.records() if not is_listed(record.text))


def training_documents(path: Path, config: DataConfig) -> Iterator[str]:
    """Texts of a planted file that are trained on: those of `read_documents` that are not on the blacklist."""
    return without_listed(read_documents(path, config), config.blacklist)


def _distinct(texts: Iterator[str]) -> Iterator[str]:
    seen: set[bytes] = set()  # digests: sixteen bytes a document, whatever its length
    for text in texts:
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield text


def _builtin(config: DataConfig, seed: int) -> Source:
    if config.source == "builtin:prose":
        return _builtin_source(config, prose_paragraphs, {"python": platform.python_version()})
    if config.source != "builtin:synthetic":
        raise DataError(f"data.source: no such text '{config.source}'; choose {' or '.join(_BUILTINS)}")
    if config.max_bytes is None:
        raise DataError("data.source: builtin:synthetic never ends; set data.max_bytes")
    return _builtin_source(config, lambda: synthetic_paragraphs(seed), {"version": str(VERSION), "seed": str(seed)})


def _refuse_user_field(config: DataConfig, name: str) -> None:
    if config.user_field is not None:
        raise DataError(
            f"data.user_field: {name} is plain text, whose documents have no fields and name no user; give JSONL, "
            "parquet or a Hugging Face data set"
        )


def _builtin_source(config: DataConfig, paragraphs: Callable[[], Iterator[str]], details: Mapping[str, str]) -> Source:
    def lines() -> Iterator[bytes]:
        for paragraph in paragraphs():
            for line in f"{paragraph}\n".split("\n"):
                yield line.encode() + b"\n"

    _refuse_user_field(config, config.source)
    text = TextFormat(lines=Lines(read=lines, max_line_bytes=config.max_line_bytes), split=config.split)
    return _source(config, config.source, text, details)


def _hugging_face(config: DataConfig, location: str) -> Source:
    # The library takes a second to import.
    from canary_audit.data.hugging_face import dataset_details, display_name, open_dataset  # noqa: PLC0415

    rows = open_dataset(location, config.text_field, config.max_line_bytes, user_field=config.user_field)
    return _source(config, display_name(location), rows, dataset_details())


def _source(config: DataConfig, name: str, format_: Format, details: Mapping[str, str] | None = None) -> Source:
    return Source(
        name=name,
        format=format_,
        max_bytes=config.max_bytes,
        max_bad_lines=config.max_bad_lines,
        details=details or {},
    )
