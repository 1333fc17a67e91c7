"""Configuration: a TOML file in, a frozen, fully checked `Config` out.

This is the only place where defaults live. Unknown keys are refused and the nearest
known name is suggested; every message names the file, the table and the key.
"""

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from canary_audit.errors import ConfigError
from canary_audit.formats import named_lists
from canary_audit.wordlists import GENERATED, SAMPLED

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]

UNDEFENDED = "none"
"""In a study of defences, the name of the runs without one."""

REFERENCE_SCORES = ("reference", "ez-mia")
"""Values of `[audit] membership_score` that need a reference model."""


class Table(BaseModel):
    """A TOML table: frozen, and no key it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Table):
    """Where the training text comes from.

    `source` is `builtin:prose`, `builtin:synthetic`, `hf:NAME` (a Hugging Face data set) or a path to a
    `.txt`, `.jsonl` or `.parquet` file, relative to the configuration file.
    """

    source: str
    text_field: str = "text"
    """Field of a JSONL, parquet or Hugging Face record that holds the text; dots reach into nested records."""
    split: Literal["paragraph", "line"] = "paragraph"
    """What separates two documents of a plain text file: a blank line, or every line end."""
    max_bytes: Positive | None = None
    """Read no more than this many bytes of text (whole documents)."""
    max_line_bytes: Positive = 1_048_576
    """A longer line is refused: it is a sign of a damaged or hostile file."""
    max_bad_lines: NonNegative = 0
    """Undecodable or malformed lines that may be skipped, and are counted, before the file is refused."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """Share of the documents held out, unplanted, to measure validation loss."""
    seed: int | None = None
    """Decides which documents are held out and where canaries go; the configuration's seed if not given."""
    user_field: str | None = None
    """Field of a record that names who wrote it, for `[privacy] unit = "user"`; a record without it is a user of its
    own."""
    deduplicate: bool = False
    """Train on distinct documents only: a defence. A canary planted k times then reaches the loss once."""
    blacklist: tuple[str, ...] = ()
    """Regular expressions; a document in which one of them matches is not trained on: a defence against the secrets one
    thought of. Held-out documents are kept."""

    @model_validator(mode="after")
    def _blacklist_is_made_of_expressions(self) -> "DataConfig":
        for number, expression in enumerate(self.blacklist, start=1):
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"blacklist, expression {number}: not a regular expression: {error}") from None
        return self


class CanaryConfig(Table):
    """One group of canaries: secrets of one format behind one prefix."""

    name: Identifier = "canary"
    format: str
    """Secret format, such as `{digit:9}`; see the README for the grammar."""
    prefix: str
    suffix: str = ""
    levels: tuple[Positive, ...] = ()
    """Numbers of insertions; `canaries_per_level` canaries are planted at each."""
    canaries_per_level: Positive = 4
    controls: NonNegative = 20
    """Canaries that are drawn like the others and never inserted: they check the null."""
    coin_flips: NonNegative = 0
    """Canaries that are each inserted once with probability 1/2: they bound epsilon."""

    @model_validator(mode="after")
    def _levels_are_distinct(self) -> "CanaryConfig":
        if len(set(self.levels)) != len(self.levels):
            raise ValueError("levels must be distinct; use canaries_per_level for more canaries of one level")
        return self


class ModelConfig(Table):
    """Which model to train: a built-in one from the start, or a pretrained one further.

    The sizes are those of built-in models; a pretrained one brings its own, and its own tokenizer.
    """

    kind: Literal["lstm", "llama", "pretrained"] = "lstm"
    path: str = ""
    """Pretrained only: a folder, a `.gguf` file (both relative to the configuration file) or a name on the Hugging Face
    Hub."""
    revision: str | None = None
    """Pretrained from the Hub only: commit, tag or branch."""
    vocab_size: Annotated[int, Field(ge=300, le=65_536)] = 512
    """Entries of its own byte-level BPE tokenizer, trained on the unplanted text; digits are never merged."""
    hidden_size: Positive = 128
    layers: Positive = 1
    heads: Positive = 4
    """Attention heads (llama only)."""
    context_tokens: Annotated[int, Field(ge=8)] = 64
    """Tokens of a training row; of a built-in model also the most it can read."""

    @model_validator(mode="after")
    def _only_pretrained_models_have_a_path(self) -> "ModelConfig":
        if (self.kind == "pretrained") != bool(self.path):
            raise ValueError("path and kind = 'pretrained' belong together: give both, or neither")
        return self


class TrainingConfig(Table):
    """How to train it: AdamW with a constant learning rate after a short warm-up.

    Under `[privacy]`, `batch_size` is the expected number of rows of a step, and `clip_norm` bounds the gradient of
    every row, not of the batch.
    """

    epochs: NonNegative = 8
    batch_size: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixup_alpha: NonNegativeFloat = 0.0
    """Train on mixtures of two rows, weighted by Beta(alpha, alpha) (mixup, Zhang et al. 2018); 0 mixes none."""
    checkpoint_every_steps: Positive = 200
    method: Literal["full", "lora"] = "full"
    """What is trained: every weight, or low-rank adapters beside all linear layers (Hu et al. 2022), merged in the
    end."""
    lora_rank: Positive = 16
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the products in forward and backward passes; weights and updates stay fp32."""
    track_exposure: bool = True
    """Measure the exposure of every inserted canary after each epoch."""
    device: str = "cpu"
    threads: Positive = 1
    """Processor threads; tiny models are fastest on one."""


class PrivacyConfig(Table):
    """Differential privacy by DP-SGD (Abadi et al. 2016): rows are drawn by Poisson sampling, the gradient of each is
    clipped, and Gaussian noise is added to their sum."""

    target_epsilon: Annotated[float, Field(gt=0)] | None = None
    """Choose the noise so that training ends at this epsilon; or give `noise_multiplier`."""
    noise_multiplier: NonNegativeFloat | None = None
    """Standard deviation of the noise in units of `clip_norm`; 0 clips only, and promises nothing."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """Probability with which the promise may fail; well below one over the number of units."""
    accountant: Literal["auto", "prv", "rdp"] = "auto"
    """How epsilon is counted: PRV (Gopi et al. 2021) is tight, RDP (Mironov 2017) is for huge epsilons."""
    clipping: Literal["hooks", "ghost"] = "hooks"
    """How rows are clipped: hooks keep every row's gradient, ghost clipping keeps norms and reads twice."""
    physical_rows: Positive = 64
    """Rows of one forward and backward pass, at most; it bounds memory and changes no result but the last digits."""
    unit: Literal["row", "user"] = "row"
    """What is protected: a row of tokens, or a user (`[data] user_field`), of whom one row is kept."""

    @model_validator(mode="after")
    def _one_way_to_set_the_noise(self) -> "PrivacyConfig":
        if (self.target_epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give either target_epsilon or noise_multiplier")
        return self


class AuditConfig(Table):
    """How hard to look."""

    nodes_per_canary: Positive = 1_200
    """Model evaluations spent on the rank of one canary when it is too deep to be counted exactly."""
    tracking_nodes_per_canary: Positive = 240
    """The same, for exposure tracked during training."""
    exact_nodes: Positive = 100_000
    """Largest tree of prefixes that is counted exactly by branch and bound, if their past fits the memory."""
    replicates: Annotated[int, Field(ge=2)] = 8
    """Independent replicates behind each interval; fixed before the run."""
    extraction_width: Positive = 512
    """Widest beam the extractor may use."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the audited weights. bfloat16 is about twice as fast, and its noise widens the intervals."""
    context: str | None = None
    """Source text from which an encoder-decoder writes; prefix and secret are looked for in what it writes."""
    references: NonNegative = 0
    """References for the paper's own estimators (uniform sampling, skew-normal); 0 leaves them out."""
    guesses: Literal["grid", "fixed"] = "grid"
    """How many coin-flipped canaries the epsilon bound guesses on: the best of five numbers fixed in advance, corrected
    for the choice, or an eighth of them on either side."""
    membership_score: Literal["loss", "reference", "zlib", "min-k++", "ez-mia"] = "loss"
    """The score that the epsilon bound rests on, fixed here in advance; the others are reported beside it."""
    reference_model: str = ""
    """Model that calibrates the scores `reference` and `ez-mia`: a folder, a `.gguf` file or a name on the Hugging Face
    Hub; without one, the pretrained model that training started from."""
    membership_rows: NonNegative = 0
    """Training rows, and as many held-out rows, whose membership scores are compared; 0 leaves this out."""
    batch_rows: Positive | None = None
    """Rows of one forward pass, at most; without a number, as many as free memory allows, chosen once and recorded."""


class EndpointConfig(Table):
    """How a served model is asked."""

    max_calls: Positive | None = 50_000
    """Requests that may be sent in all; ranks are then estimated from fewer, and intervals widen."""
    max_tokens: Positive | None = None
    """Tokens that may be sent and asked for in all, counted before each request."""
    concurrency: Positive = 8
    """Requests under way at once."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 60.0
    """For one request, all tries together; a body that drips in is cut off then."""
    tries: Positive = 5
    """Of a request that was refused for load (429), failed (5xx) or broke off."""
    max_body_bytes: Positive = 8_388_608
    """A longer answer is refused unread."""
    top_k: Positive = 20
    """Likeliest tokens to ask for, where the server gives no more than these; fewer if it allows fewer."""
    samples: NonNegative = 200
    """Continuations of each prefix drawn at temperature 1, from a model that only writes text."""
    held_out_rows: NonNegative = 16
    """Rows of held-out text scored to see that the model knows its language."""
    ca_file: str = ""
    """Certificate authorities to trust (PEM) instead of the public ones."""


class PolicyReference(Table):
    """Which policy judges the result."""

    path: str


class DefenceConfig(Table):
    """One defence of `study defences`: what it changes of the configuration, or does to the trained model.

    `data`, `training` and `privacy` hold keys of the tables of these names, which replace those of the configuration.
    """

    name: Identifier
    about: str = ""
    """What it is, in a few words for the report."""
    data: dict[str, Any] = {}
    """`deduplicate` or `blacklist`: the text itself is the same for all defences."""
    training: dict[str, Any] = {}
    privacy: dict[str, Any] = {}
    quantize_bits: Annotated[int, Field(ge=2, le=8)] | None = None
    """Train nothing: round the weights of the undefended model to this many bits."""
    stop_at: Annotated[float, Field(gt=0, le=1)] | None = None
    """Train for this share of the epochs that the undefended model took to its least validation loss."""

    @model_validator(mode="after")
    def _does_one_thing(self) -> "DefenceConfig":
        if self.name == UNDEFENDED:
            raise ValueError(f"the name {UNDEFENDED!r} is that of the configuration without a defence; choose another")
        if unknown := set(self.data) - {"deduplicate", "blacklist"}:
            raise ValueError(f"data: a defence changes deduplicate or blacklist, not {', '.join(sorted(unknown))}")
        changes = any((self.data, self.training, self.privacy))
        if changes + (self.quantize_bits is not None) + (self.stop_at is not None) != 1:
            raise ValueError("a defence changes data, training or privacy; or it has quantize_bits; or stop_at")
        return self


class StudyConfig(Table):
    """What `canary-audit study` compares. A single `run` of the configuration is the run without a defence."""

    seeds: Positive = 3
    """Runs of each kind, with the configuration's seed, the next, and so on; every seed has secrets of its own."""
    data: str = "digits"
    """What classifiers are trained on: `digits`, `mnist`, `mnist1d`, or an `.npz` or `.csv` file."""
    data_folder: str = ""
    """Where the files of `mnist`, `mnist1d` and the UCI sets are."""
    train_rows: Positive = 1_000
    """Training examples of a classifier, at most."""
    defences: tuple[DefenceConfig, ...] = ()

    @model_validator(mode="after")
    def _defences_are_distinct(self) -> "StudyConfig":
        names = [defence.name for defence in self.defences]
        if len(set(names)) < len(names):
            raise ValueError("every [[study.defences]] table needs its own name")
        return self


class Config(Table):
    """One audit, from data to verdict."""

    name: Identifier
    seed: int = 1
    data: DataConfig
    canaries: Annotated[tuple[CanaryConfig, ...], Field(min_length=1)]
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    privacy: PrivacyConfig | None = None
    audit: AuditConfig = AuditConfig()
    word_lists: dict[Identifier, str] = {}
    """Lists for `{word:NAME}`: files with one word a line, relative to the configuration file."""
    policy: PolicyReference
    study: StudyConfig = StudyConfig()

    @model_validator(mode="after")
    def _groups_are_distinct(self) -> "Config":
        names = [group.name for group in self.canaries]
        if len(set(names)) != len(names):
            raise ValueError("every [[canaries]] table needs its own name")
        if len({(group.format, group.prefix, group.suffix) for group in self.canaries}) < len(names):
            raise ValueError("two [[canaries]] tables have the same format, prefix and suffix; make them one")
        return self

    @model_validator(mode="after")
    def _sampled_texts_have_a_writer(self) -> "Config":
        if self.model.kind != "pretrained" and any(SAMPLED in named_lists(group.format) for group in self.canaries):
            raise ValueError(
                f"[canaries] format: {{word:{SAMPLED}}} draws texts from the model that training starts with, and a "
                "built-in one starts with random weights: it needs [model] kind = 'pretrained'"
            )
        return self

    @model_validator(mode="after")
    def _private_steps_are_plain(self) -> "Config":
        if self.privacy and (self.training.precision != "fp32" or self.training.mixup_alpha):
            raise ValueError(
                "[privacy] trains in fp32 and on single rows: leave [training] precision and mixup_alpha out"
            )
        return self

    @model_validator(mode="after")
    def _users_are_named(self) -> "Config":
        if self.privacy and self.privacy.unit == "user" and self.data.user_field is None:
            raise ValueError("[privacy] unit = 'user' needs [data] user_field: the field that names who wrote a record")
        if self.privacy and self.privacy.unit == "user" and self.data.deduplicate:
            raise ValueError(
                "[data] deduplicate under [privacy] unit = 'user': it takes away one user's text because another wrote "
                "it first, so no user could be promised anything; leave one of them out"
            )
        return self


class MeasuringConfig(Table):
    """What the audit of an existing model can be told: the tables that are not about data, canaries or the model."""

    audit: AuditConfig = AuditConfig()
    training: TrainingConfig = TrainingConfig()
    endpoint: EndpointConfig = EndpointConfig()


AnyTable = TypeVar("AnyTable", bound=BaseModel)


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read and check one configuration file.

    `overrides` are `table.key=value` strings as given to `--set`; values are TOML, or plain strings. A list of
    tables is reached into by index: `canaries.0.controls=40`. Relative paths are resolved against the file's folder.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds a key or value that is not allowed.
    """
    raw = read_toml(path)
    for override in overrides:
        _apply_override(raw, override)
    config = validate_table(Config, raw, str(path))
    return _resolve_paths(config, path.resolve().parent)


def measuring_config(overrides: tuple[str, ...]) -> MeasuringConfig:
    """The defaults, with `--set` overrides of its tables."""
    raw: dict[str, Any] = {}
    for override in overrides:
        _apply_override(raw, override)
    return validate_table(MeasuringConfig, raw, "--set")


def plant_config(data: Path, secret_format: str, prefix: str, suffix: str, levels: str, seed: int) -> Config:
    """The configuration behind `plant DATA`: plant in a file, hold nothing out, train nothing.

    Raises:
        ConfigError: `levels` is not a list of numbers such as `1,2,4`, or the format needs a model.
    """
    if generated := named_lists(secret_format) & GENERATED:
        raise ConfigError(
            f"--format {secret_format}: {{word:{min(generated)}}} is made from the model, and `plant DATA` knows none; "
            "write a configuration with a [model] table, and give that"
        )
    if not all(level.strip().isdecimal() for level in levels.split(",")):
        raise ConfigError(f"--levels {levels}: write numbers of insertions separated by commas, such as 1,2,4")
    table = {"format": secret_format, "prefix": prefix, "suffix": suffix, "levels": levels.split(",")}
    raw = {
        "name": "planted",
        "seed": seed,
        "data": {"source": str(data), "validation_fraction": 0.0},
        "canaries": [table],
        "policy": {"path": ""},
    }
    return validate_table(Config, raw, "plant")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file, or raise `ConfigError` that says where it is wrong."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text ({error.__class__.__name__})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def validate_table(table: type[AnyTable], raw: dict[str, Any], where: str) -> AnyTable:
    """Check `raw` against `table`; all mistakes are listed in one `ConfigError`."""
    try:
        return table.model_validate(raw)
    except ValidationError as error:
        issues = error.errors(include_input=False, include_url=False)
        lines = [_explain(table, issue) for issue in issues if not _follows_from_another(issue, issues)]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from None


def _follows_from_another(issue: Any, issues: Sequence[Any]) -> bool:
    """Whether the table it is about is only wrong, such as too short, because something in it is."""
    n = len(issue["loc"])
    return any(len(other["loc"]) > n and other["loc"][:n] == issue["loc"] for other in issues)


def _explain(table: type[BaseModel], issue: Any) -> str:
    """One mistake as `[table] key: what is wrong`, with the nearest known key where one is unknown."""
    *parents, key = issue["loc"] or ("",)
    place = "[" + ".".join(map(str, parents)) + "] " if parents else ""
    if issue["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(key), _known_keys(table, parents), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"{place}unknown key '{key}'{hint}"
    if issue["type"] == "missing":
        return f"{place}missing key '{key}'"
    message = str(issue["msg"]).removeprefix("Value error, ")
    if isinstance(key, int):  # a table of a list
        return f"[{'.'.join(map(str, issue['loc']))}] {message}"
    return f"{place}{key}: {message}" if key else message


def _known_keys(table: type[BaseModel], parents: list[Any]) -> list[str]:
    """Names of the fields of the table that `parents` leads to."""
    for name in parents:
        if isinstance(name, int):
            continue
        annotation = table.model_fields[name].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        table = next(kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel))
    return list(table.model_fields)


def _apply_override(raw: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    *parents, key = name.split(".")
    if not equals or not key:
        raise ConfigError(f"--set {name}: write it as table.key=value")
    target: Any = raw
    for parent in parents:
        target = _descend(target, parent, name)
    if not isinstance(target, dict):
        raise ConfigError(f"--set {name}: there is no such table")
    target[key] = _toml_value(text)


def _descend(target: Any, parent: str, name: str) -> Any:
    if isinstance(target, list) and parent.isdecimal() and int(parent) < len(target):
        return target[int(parent)]
    if isinstance(target, dict):
        return target.setdefault(parent, {})
    raise ConfigError(f"--set {name}: there is no such table")


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _resolve_paths(config: Config, folder: Path) -> Config:
    kind, _, place = config.data.source.rpartition(":")
    data = config.data
    if not kind or (kind == "hf" and (folder / place).is_dir()):
        data = data.model_copy(update={"source": f"{kind}{':' if kind else ''}{folder / place}"})
    model = config.model
    if model.path and _is_local(model.path, folder):
        model = model.model_copy(update={"path": str(folder / model.path)})
    audit = config.audit
    if audit.reference_model and _is_local(audit.reference_model, folder):
        audit = audit.model_copy(update={"reference_model": str(folder / audit.reference_model)})
    lists = {name: str(folder / path) for name, path in config.word_lists.items()}
    policy = PolicyReference(path=str(folder / config.policy.path))
    study = config.study.model_copy(update={"data_folder": str(folder / config.study.data_folder)})
    if study.data.endswith((".npz", ".csv")):
        study = study.model_copy(update={"data": str(folder / study.data)})
    return config.model_copy(
        update={"data": data, "model": model, "audit": audit, "word_lists": lists, "policy": policy, "study": study}
    )


def _is_local(path: str, folder: Path) -> bool:
    """A path, or the name of a model on the Hub? A name is `owner/model`, and there is nothing of that name here."""
    return path.startswith((".", "/")) or path.endswith(".gguf") or path.count("/") != 1 or (folder / path).exists()
