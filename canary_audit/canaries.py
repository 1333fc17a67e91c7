"""Canaries: secrets derived from one key, and the ledger that commits to them without holding any.

A secret is a function of the key and the canary's id, so the key and the ledger together give every secret back. The
ledger alone gives none: its commitments are keyed, because nine digits under a plain hash are guessed in seconds.
Whoever commits the ledger before training cannot swap a canary or turn a coin afterwards.
"""

import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from pydantic import ConfigDict, TypeAdapter, ValidationError

from canary_audit.errors import LedgerError, SpaceError
from canary_audit.formats import named_lists
from canary_audit.spaces import SecretSpace, parse_space
from canary_audit.wordlists import BUILTIN_WORD_LISTS, GENERATED, SAMPLED, find_mistake

KEY_BYTES = 32
REDACTED = "[secret]"

CanaryRole = Literal["level", "control", "coin"]

_CLOSED = ConfigDict(extra="forbid", strict=True)
_ID = re.compile(r"[a-z0-9-]{1,64}")
_INSERTIONS_OF_ROLE: Mapping[str, range] = {"level": range(1, 2**63), "control": range(1), "coin": range(2)}


class GroupPlan(Protocol):
    """What is planned for one group; `config.CanaryConfig` has these fields and documents them."""

    @property
    def name(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    @property
    def levels(self) -> tuple[int, ...]: ...
    @property
    def canaries_per_level(self) -> int: ...
    @property
    def controls(self) -> int: ...
    @property
    def coin_flips(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Canary:
    """One canary, without its secret."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    id: str
    """Such as `number-x032-1`, `number-control-07` or `number-coin-013`."""
    group: str
    role: CanaryRole
    insertions: int
    """Times it is planted: its level; 0 for a control; 1 or 0, as its coin fell, for a coin."""
    commitment: str
    """HMAC-SHA256, under the ledger's key, of id, role, insertions and secret; hex."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Canaries of one format behind one prefix."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    name: str
    format: str
    prefix: str
    suffix: str


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All canaries of an audit, and the commitments to their secrets.

    Raises:
        LedgerError: on creation, if an id repeats or is malformed, a canary contradicts its group or role, or a word
            list is malformed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    schema_version: Literal[1, 2] = 1
    """2 if there are word lists. A ledger of version 1 that names word lists was drawn from the built-in ones."""
    groups: tuple[Group, ...]
    canaries: tuple[Canary, ...]
    key_commitment: str
    """HMAC-SHA256 under the key of all the rest of the ledger, hex: no canary can be added, removed or re-worded."""

    word_lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The words of every list that a format of the groups uses, so that the ledger is enough to audit elsewhere."""

    def __post_init__(self) -> None:
        if (self.schema_version == 2) != bool(self.word_lists):
            raise LedgerError(f"schema version {self.schema_version} contradicts {len(self.word_lists)} word lists")
        for name, words in self.word_lists.items():
            if mistake := find_mistake(words, texts=name == SAMPLED):
                raise LedgerError(f"word list {name!r}, word {mistake[0]}: {mistake[1]}")
        names = {group.name for group in self.groups}
        if len(names) != len(self.groups):
            raise LedgerError("two groups of the ledger share a name")
        seen: set[str] = set()
        for canary in self.canaries:
            if not _ID.fullmatch(canary.id) or canary.id in seen:
                raise LedgerError(f"canary id {canary.id!r} repeats, or is not 1 to 64 of a-z, 0-9 and '-'")
            if canary.group not in names:
                raise LedgerError(f"canary {canary.id}: the ledger has no group {canary.group!r}")
            if canary.insertions not in _INSERTIONS_OF_ROLE[canary.role]:
                raise LedgerError(f"canary {canary.id}: {canary.insertions} insertions contradict role {canary.role!r}")
            seen.add(canary.id)

    def to_json(self) -> str:
        """Canonical JSON, the content of `ledger.json`: sorted keys, two-space indent, one trailing newline."""
        content = asdict(self)
        if self.schema_version == 1:
            del content["word_lists"]
        return json.dumps(content, sort_keys=True, indent=2) + "\n"

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON in hex, which is that of the file."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def group(self, name: str) -> Group:
        """The group of that name.

        Raises:
            LedgerError: there is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise LedgerError(f"no group {name!r} in the ledger; it has {', '.join(group.name for group in self.groups)}")

    def space(self, group: Group) -> SecretSpace:
        """The secrets of a group's format.

        Raises:
            SpaceError: an edited format or word list is malformed.
        """
        return parse_space(group.format, self.word_lists)

    def canaries_of(self, group: str) -> tuple[Canary, ...]:
        """The canaries of one group, in ledger order."""
        return tuple(canary for canary in self.canaries if canary.group == group)


def draw_ledger(
    plans: Sequence[GroupPlan], key: bytes, word_lists: Mapping[str, tuple[str, ...]] | None = None
) -> Ledger:
    """Draw all canaries of the plans: distinct, uniform in their space, and the same for the same plans and key.

    `word_lists` are lists that formats may name beside the built-in ones; those made from the model are among them.

    Raises:
        SpaceError: a format is malformed, too small for its canaries, or has no clear end.
        LedgerError: two plans share a name, or a name cannot be part of an id.
    """
    groups = tuple(Group(name=p.name, format=p.format, prefix=p.prefix, suffix=p.suffix) for p in plans)
    uncommitted = tuple(canary for plan in plans for canary in _uncommitted(plan, key))
    used_lists = _used_lists(plans, word_lists or {})
    draft = Ledger(
        schema_version=2 if used_lists else 1,
        groups=groups,
        canaries=uncommitted,
        key_commitment="",
        word_lists=used_lists,
    )
    drawn = _draw_secrets(draft, key)
    committed = tuple(replace(canary, commitment=_commitment(canary, drawn[canary.id], key)) for canary in uncommitted)
    ledger = replace(draft, canaries=committed)
    return replace(ledger, key_commitment=_key_commitment(ledger, key))


def generated_lists_of(plans: Sequence[GroupPlan]) -> dict[str, int]:
    """Names of the lists that must be made from the model, each with the number of canaries whose format names it."""
    needed: dict[str, int] = {}
    for plan in plans:
        n_canaries = len(plan.levels) * plan.canaries_per_level + plan.controls + plan.coin_flips
        for name in sorted(named_lists(plan.format) & GENERATED):
            needed[name] = needed.get(name, 0) + n_canaries
    return needed


def seed_of(key: bytes, purpose: str) -> int:
    """A 63-bit seed for what is drawn once for a key and kept in the ledger; it tells nothing of secrets or coins."""
    return int.from_bytes(_hmac(_hmac(key, b"canary-audit seed key"), purpose.encode())[:8]) >> 1


def derive_secrets(ledger: Ledger, key: bytes) -> dict[str, bytes]:
    """Give back every secret, by canary id, after checking every commitment.

    Raises:
        LedgerError: the key is not the ledger's, or the ledger was edited; names the first canary that shows it.
        SpaceError: an edited format is malformed or too small.
    """
    derived = _draw_secrets(ledger, key)
    for canary in ledger.canaries:
        if not hmac.compare_digest(canary.commitment, _commitment(canary, derived[canary.id], key)):
            raise LedgerError(
                f"canary {canary.id}: its commitment does not match. Either the key belongs to another ledger, "
                "or the ledger was edited after it was drawn; use the ledger and key that were written together"
            )
    if not hmac.compare_digest(ledger.key_commitment, _key_commitment(ledger, key)):
        raise LedgerError(
            "the ledger was edited after it was drawn: every canary in it matches the key, but one was removed, "
            "reordered, or a prefix or suffix changed; use the ledger as it was written"
        )
    return derived


def load_ledger(path: Path) -> Ledger:
    """Read `ledger.json`.

    Raises:
        LedgerError: it is missing, or is not a ledger of this version.
    """
    try:
        return TypeAdapter(Ledger).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise LedgerError(f"{path}: no such file; `canary-audit plant` or `run` writes it") from None
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        issue = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, issue["loc"])) or "the file"
        raise LedgerError(f"{path}: not a canary ledger: {place}: {issue['msg']}") from None
    except LedgerError as error:
        raise LedgerError(f"{path}: {error}") from None


def new_key() -> bytes:
    """A fresh key of 32 random bytes from the operating system."""
    return os.urandom(KEY_BYTES)


def load_key(path: Path) -> bytes:
    """Read a key that `save_key` wrote.

    Raises:
        LedgerError: it is missing, or is not 64 hexadecimal digits (the message does not repeat it).
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise LedgerError(f"{path}: no such key; it lies in secrets/ of the run that drew the ledger") from None
    except OSError as error:
        raise LedgerError(f"{path}: the key cannot be read: {error.strerror}") from None
    if not re.fullmatch(rb"[0-9a-f]{64}\n?", text):
        raise LedgerError(f"{path}: not a key; it must be 64 hexadecimal digits")
    return bytes.fromhex(text.decode())


def save_key(folder: Path, key: bytes) -> Path:
    """Write the key as `folder/key`, readable by its owner alone, unless it is there already; return its path.

    Raises:
        LedgerError: another key is there (it is left alone), or the file cannot be written.
    """
    path = folder / "key"
    if path.exists():
        if not hmac.compare_digest(load_key(path), key):
            raise LedgerError(f"{path}: holds another key, which other canaries depend on; use a new run directory")
        return path
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        _write_private(path, key.hex().encode() + b"\n")
    except OSError as error:
        raise LedgerError(f"{path}: the key cannot be written: {error.strerror}") from None
    return path


def canary_text(group: Group, secret: bytes) -> str:
    """The text that is planted: prefix, secret, suffix."""
    return group.prefix + secret.decode() + group.suffix


def redact(text: str, secrets: Iterable[bytes]) -> str:
    """Replace every secret in `text` by a fixed mark, the longest match first."""
    longest_first = sorted({secret.decode() for secret in secrets if secret}, key=lambda secret: (-len(secret), secret))
    if not longest_first:
        return text
    return re.sub("|".join(map(re.escape, longest_first)), REDACTED, text)


def _used_lists(plans: Sequence[GroupPlan], word_lists: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    used = frozenset().union(*(parse_space(plan.format, word_lists).word_lists for plan in plans))
    known = {**BUILTIN_WORD_LISTS, **word_lists}
    return {name: known[name] for name in sorted(used)}


def _uncommitted(plan: GroupPlan, key: bytes) -> Iterable[Canary]:
    """The canaries of a plan, in ledger order, with their coins thrown but no commitment yet."""

    def canary(role: CanaryRole, label: str, number: int, of: int, insertions: int) -> Canary:
        id = f"{plan.name}-{label}-{number:0{len(str(of))}d}"
        return Canary(id=id, group=plan.name, role=role, insertions=insertions, commitment="")

    for level in plan.levels:
        for number in range(1, plan.canaries_per_level + 1):
            yield canary("level", f"x{level:03d}", number, plan.canaries_per_level, level)
    for number in range(1, plan.controls + 1):
        yield canary("control", "control", number, plan.controls, 0)
    for number in range(1, plan.coin_flips + 1):
        coin = canary("coin", "coin", number, plan.coin_flips, 0)
        yield replace(coin, insertions=_coin(coin.id, key))


def _coin(canary_id: str, key: bytes) -> int:
    """1 or 0, from a key of its own, so that no secret says anything about a coin."""
    coin_key = _hmac(key, b"canary-audit coin key")
    return _hmac(coin_key, canary_id.encode())[0] & 1


def _draw_secrets(ledger: Ledger, key: bytes) -> dict[str, bytes]:
    """The secret of every canary; canaries of one format never share one."""
    spaces = {group.name: _usable_space(group, ledger) for group in ledger.groups}
    taken: dict[str, set[bytes]] = {group.format: set() for group in ledger.groups}
    drawn = {}
    for canary in ledger.canaries:
        space = spaces[canary.group]
        drawn[canary.id] = _draw_secret(space, canary, key, taken[space.format])
        taken[space.format].add(drawn[canary.id])
    return drawn


def _draw_secret(space: SecretSpace, canary: Canary, key: bytes, taken: set[bytes]) -> bytes:
    """A uniform secret that is not taken: keyed random bits, thrown away while they miss either condition."""
    n_bits = (space.size - 1).bit_length()
    n_blocks = -(-n_bits // 256)
    attempt = 0
    while True:
        label = f"canary-audit secret|{canary.group}|{canary.id}|{attempt}"
        bits = b"".join(_hmac(key, f"{label}|{block}".encode()) for block in range(n_blocks))
        index = int.from_bytes(bits) >> (256 * n_blocks - n_bits)
        if index < space.size and (secret := space.secret(index)) not in taken:
            return secret
        attempt += 1


def _usable_space(group: Group, ledger: Ledger) -> SecretSpace:
    """The space of a group, if it is large enough and a secret's end can be told."""
    space = ledger.space(group)
    sharing = {other.name for other in ledger.groups if other.format == group.format}
    n_canaries = sum(canary.group in sharing for canary in ledger.canaries)
    if space.size < 2 * n_canaries:
        raise SpaceError(
            f"group {group.name!r}: {group.format!r} holds {space.size} secrets, too few for {n_canaries} canaries; "
            f"lengthen the format to at least {2 * n_canaries} secrets, or plan fewer canaries"
        )
    try:
        space.check_suffix(group.suffix)
    except SpaceError as error:
        raise SpaceError(f"group {group.name!r}: {error}") from None
    return space


def _commitment(canary: Canary, secret: bytes, key: bytes) -> str:
    text = f"canary-audit commitment|{canary.id}|{canary.role}|{canary.insertions}|".encode()
    return _hmac(key, text + secret).hex()


def _key_commitment(ledger: Ledger, key: bytes) -> str:
    text = replace(ledger, key_commitment="").to_json()
    return _hmac(key, b"canary-audit ledger|" + text.encode()).hex()


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)


def _write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 that is whole or absent, whatever interrupts this."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
