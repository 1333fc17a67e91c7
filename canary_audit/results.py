"""What an audit found: frozen, versioned types and their JSON form.

`result.json` is the contract with the outside: every report format renders from it and `gate` judges it anew.
All types are immutable. What could not be measured is a `NotAvailable` with its reason, never `None`.
Costs are negative log-likelihoods in bits, sums over the tokens that overlap the secret.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from canary_audit.errors import ResultError

SCHEMA_VERSION: Final = 1

VerdictName = Literal["PASS", "FAIL", "ERROR", "INCONCLUSIVE"]
Role = Literal["level", "control", "natural"]


class Frozen(BaseModel):
    """Immutable, closed to unknown fields, and free of NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NotAvailable(Frozen):
    """A number that this audit could not give, and why."""

    not_available: str


Maybe = float | NotAvailable


class Reason(Frozen):
    """One ground of a verdict. `code` is stable and made for machines, `message` for people."""

    code: str
    message: str
    canaries: tuple[str, ...] = ()


ExposureMethod = Literal[
    "branch-and-bound",
    "stochastic-enumeration",
    "enumeration",
    "uniform-sampling",
    "skew-normal",
    "inside-top-k",
    "certificate",
]


class Exposure(Frozen):
    """Exposure of one canary, log2|R| - log2(rank) (Carlini et al. 2019, section 4.2), with a 95 % interval."""

    bits: Maybe
    """Not available where only the interval is known: a token lay outside a served model's top k, or a budget ended."""
    low: float
    high: float
    method: ExposureMethod
    """`inside-top-k` counts what the top k shows and bounds the rest; `certificate` knows the canary's own probability
    alone."""
    exact: bool
    """True if the rank was counted; the interval then spans only the model's measured noise floor."""
    rank: Maybe
    """Number of secrets at least as likely as the canary, itself included (ties count)."""
    rank_high: float
    """Upper end of the rank's interval."""


class PaperEstimate(Frozen):
    """The paper's own estimators, for comparison; they never decide a verdict."""

    method: Literal["uniform-sampling", "skew-normal"]
    bits: float
    low: float
    high: float
    n_references: int
    goodness_of_fit_p: Maybe
    """Parametric-bootstrap Kolmogorov-Smirnov p-value (skew-normal only)."""
    capped: bool
    """True if the fitted value went beyond log2|R| and was cut there."""


class SampledExtraction(Frozen):
    """How often the model wrote the secret, verbatim, when asked to go on from the prefix."""

    n_samples: int
    """Texts drawn at temperature 1."""
    hits: int
    rate_low: float
    rate_high: float
    """Clopper-Pearson interval of the chance of one sample, at 95 %."""
    greedy: bool
    """Whether the greedy continuation holds it."""


class Extraction(Frozen):
    """Whether this canary's secret came out of the search that knows only prefix and format."""

    found: bool
    rank: int | NotAvailable
    """Place among the extracted secrets, 1 = the most likely."""
    certified: bool
    """True if no other secret can be more likely than those placed before it."""
    nodes: int
    """Prefixes the model was asked about, for the whole search this canary was part of."""
    calls: int
    """Batched model calls of that search."""
    edits: int = 0
    """Edits between the secret and what came out; more than 0 for near-verbatim text of a model that only writes."""
    samples: SampledExtraction | NotAvailable = NotAvailable(not_available="the model was not asked to write")


class CanaryResult(Frozen):
    """Everything measured about one canary."""

    id: str
    group: str
    role: Role
    insertions: int
    space_bits: float
    """log2|R|: the most bits exposure can reach."""
    nll_bits: Maybe
    exposure: Exposure | NotAvailable
    """Not available from a model that only writes text."""
    certificate_bits: float
    """Exposure is at least this: at most 1/P secrets can be as likely as one of probability P."""
    samples_needed: Maybe = NotAvailable(not_available="not computed")
    """Continuations at temperature 1 after which the secret has come out with probability one half: the n of (n,
    1/2)-discoverable extraction (Hayes et al. 2025)."""
    p_value: Maybe
    """Probability of a rank this small had the canary never been inserted."""
    adjusted_p_value: Maybe
    """The same after Holm's correction over all inserted canaries."""
    extraction: Extraction
    paper_estimates: tuple[PaperEstimate, ...] = ()


class GroupResult(Frozen):
    """One group of canaries: a format behind a prefix, and the extraction run on it."""

    name: str
    format: str
    prefix: str
    suffix: str
    space_size: str
    """|R| as a decimal string: it can exceed what JSON readers hold exactly."""
    space_bits: float
    notice: str | None = None
    """What was unusual about the tree of its secrets, in one sentence."""
    noise_floor_nats: float
    """Largest difference seen when the same secrets were scored in batches of another shape."""
    extraction_sought: int
    extraction_found: int
    extraction_certified: int
    extraction_nodes: int
    extraction_calls: int
    search_nodes: int
    """Prefixes the model was asked about to rank every canary of the group."""
    search_calls: int


class LevelResult(Frozen):
    """All canaries of one group inserted equally often."""

    group: str
    insertions: int
    n_canaries: int
    n_extracted: int
    extracted_low: float = 0.0
    extracted_high: float = 1.0
    """Clopper-Pearson interval of the share that comes out, at 95 %."""
    median_bits: Maybe
    """Not available unless every canary of the level has a point value."""
    low_bits: Maybe
    high_bits: Maybe
    """Smallest and largest exposure of the level; ends of intervals where there are no point values."""
    p_value: float
    """Fisher's combined p-value of the level."""


class NullCheck(Frozen):
    """Do the never-inserted controls rank uniformly, as they must?"""

    n_controls: int
    mean_bits: Maybe
    """Expected 1/ln 2 = 1.443 bits."""
    uniform_p: Maybe
    """Kolmogorov-Smirnov p-value of their ranks against the uniform distribution."""


class CoinCanary(Frozen):
    """A canary that a coin put in or left out; `score` is its primary membership score (higher = more likely in)."""

    id: str
    inserted: bool
    score: float


Assumption = Literal["none", "gaussian"]
"""What a bound on epsilon assumes of the training: nothing, or a mechanism at most as revealing as Gaussian noise."""
BoundAssumption = Literal["none", "independent", "gaussian"]
"""The same, or that canaries are scored independently of each other; bounds of that kind are for comparison only."""
BoundMethod = Literal["one-run-grid", "one-run-fixed", "clopper-pearson", "one-run-f-dp", "gaussian-dp"]


class EpsilonBound(Frozen):
    """One lower bound on epsilon, with what it rests on."""

    method: BoundMethod
    assumption: BoundAssumption
    epsilon: float
    """Epsilon is at least this, at the confidence of the result; 0 shows nothing."""
    ceiling: float
    """What it could have been at most, had every guess been right."""
    guesses: int
    correct: int


class Accounting(Frozen):
    """What differential privacy the training promises, and for what (Abadi et al. 2016)."""

    epsilon: float
    delta: float
    unit: str
    """What is protected, such as "a row of up to 64 tokens"."""
    n_units: int
    noise_multiplier: float
    clip_norm: float
    sampling: Literal["Poisson"]
    sampling_rate: float
    steps: int
    noise_only_steps: int
    """Steps whose draw was empty; they were taken all the same, with noise alone."""
    accountant: Literal["prv", "rdp"]


class Epsilon(Frozen):
    """Differential privacy: what was promised, and what the coin-flipped canaries show."""

    accounted: Maybe
    """Epsilon that the training promises for one unit."""
    unit: str | NotAvailable
    delta: float
    accounting: Accounting | NotAvailable
    lower_bound: Maybe
    """Epsilon is at least this, at `confidence`; 0 shows nothing."""
    confidence: float
    assumption: Assumption
    """Of `lower_bound`; bounds with another one are in `bounds` only."""
    ceiling: Maybe
    """What `lower_bound` could have been at most."""
    guesses: int
    """Guesses that `lower_bound` rests on."""
    bounds: tuple[EpsilonBound, ...]
    """That bound, and others for comparison."""
    score: str
    """The membership score of the canaries, fixed before the run."""
    canaries: tuple[CoinCanary, ...]
    auc: Maybe
    """Probability that an inserted canary outscores one left out; 0.5 is chance."""
    p_value: Maybe
    """One-sided Mann-Whitney test of that probability against one half."""


class OperatingPoint(Frozen):
    """How many members an attacker finds who accuses this share of the others; the interval holds at 95 %, over the
    chance of both sides."""

    fpr: float
    tpr: float
    low: float
    high: float


class MembershipResult(Frozen):
    """One membership score: does it tell what was trained on from what was not?"""

    sample: Literal["canaries", "rows"]
    """Coin-flipped canaries, or rows of the training data against held-out ones."""
    score: str
    primary: bool
    """True for the one score fixed in advance; of the others the best is chosen by chance too."""
    n_in: int
    n_out: int
    auc: float
    auc_low: float
    auc_high: float
    operating_points: tuple[OperatingPoint, ...]
    roc: tuple[tuple[float, float], ...]
    """(false positive rate, true positive rate), ascending; thinned to what a plot shows."""


class DataResult(Frozen):
    """What the model was trained on, as far as the audit can tell."""

    source: str
    sha256: str
    """Of the unplanted text."""
    planted_sha256: str
    n_documents: int
    n_bytes: int
    details: dict[str, str]
    """Provenance: for `builtin:prose` the Python version its text was read from."""


class PresenceCheck(Frozen):
    """Canary occurrences counted in the tokenized training stream, in one epoch, against the plan."""

    planned: int
    seen: int
    deduplicated: bool


class EpochResult(Frozen):
    """One epoch of training."""

    epoch: int
    training_bits_per_token: float
    validation_bits_per_char: Maybe
    exposure_by_level: dict[str, float]
    """Insertions -> median exposure in bits."""


class TrainingResult(Frozen):
    """How the model was trained here."""

    epochs: tuple[EpochResult, ...]
    steps: int
    tokens: int
    """Tokens that reached the loss, over all epochs."""
    presence: PresenceCheck
    best_epoch: int | NotAvailable
    """Epoch of least validation loss."""


Tier = Literal["full-logits", "chosen-tokens", "prompt-logprobs", "top-k", "text-only"]
"""What a model lets an audit see: every log-probability; those of any tokens asked for; those of the tokens of a given
text; those of the likeliest k; nothing but what it writes."""


class ModelResult(Frozen):
    """Exactly what was audited."""

    fingerprint: str
    kind: str
    tier: Tier
    files: dict[str, str]
    """File name -> SHA-256; the fingerprint is the SHA-256 over this list. A served model has no files to see: its
    address, name and tokenizer stand here."""
    n_parameters: int | NotAvailable
    dtype: str
    batch_rows: int | NotAvailable
    """Rows of one forward pass, at most: it decides the last digits of every score."""
    notices: tuple[str, ...] = ()
    """What was unusual about reading the model, one sentence each."""


class ProbeFinding(Frozen):
    """One thing an endpoint was tried for, on a text whose tokens are known."""

    name: str
    holds: bool
    detail: str


class EndpointResult(Frozen):
    """The window through which a served model was seen."""

    url: str
    api: str
    probe: tuple[ProbeFinding, ...]
    noise_floor_nats: float
    """Spread of a control text scored three times."""
    tokens: int
    """Of all requests: sent and answered."""
    max_calls: int | NotAvailable
    max_tokens: int | NotAvailable
    budget_spent: bool
    """True if the budget ended the measurement; intervals are then wider than they could be."""


class LanguageCheck(Frozen):
    """Has the model learned its language? A model that has not cannot be cleared."""

    validation_bits_per_char: Maybe
    baseline_bits_per_char: Maybe
    """What the token frequencies of that text alone would give (an order-0 model)."""
    learned: bool


class PositiveControl(Frozen):
    """A throwaway copy of the audited weights, taught a few fresh secrets: does this audit see them?"""

    status: Literal["detected", "missed", "not-run"]
    reason: str
    p_value: Maybe
    n_canaries: int
    insertions: int


class PolicyTable(Frozen):
    """What a release must satisfy; see `gate.py` for how it is judged."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    """Family-wise error: how often a harmless model may be failed."""
    max_exposure_bits: Annotated[float, Field(ge=0)]
    """A canary leaks if it is significant at alpha and the low end of its exposure is above this."""
    fail_on_extraction: bool
    """Fail if any judged canary came out of the extraction."""
    max_insertions: Annotated[int, Field(gt=0)] | Literal["any"]
    """Judge canaries inserted at most this often."""
    max_epsilon: Annotated[float, Field(gt=0)] | None = None
    """Fail a model whose epsilon is surely above this, at 95 % confidence; without it, only a promise that the audit
    refutes fails."""
    epsilon_assumption: Assumption = "none"
    """The bound that is held against `max_epsilon`: one that always holds, or a tighter one for DP-SGD only."""
    control_levels: tuple[int, ...] = ()
    """Levels that serve as positive control and are not judged (for models that cannot be copied)."""
    positive_control_p: Annotated[float, Field(gt=0, lt=1)]
    """The positive control counts as detected at or below this p-value."""
    min_controls: Annotated[int, Field(ge=0)]
    """Never-inserted controls a PASS needs at least."""


class AuditResult(Frozen):
    """One audit, whole: the content of `result.json`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    tool_version: str
    name: str
    seed: int
    verdict: VerdictName
    reasons: tuple[Reason, ...]
    policy: PolicyTable | NotAvailable
    """Not available where an audit only measured; `gate` brings its own."""
    policy_sha256: str | NotAvailable
    config_sha256: str
    ledger_sha256: str
    model: ModelResult
    endpoint: EndpointResult | NotAvailable = NotAvailable(not_available="the model ran where it was audited")
    calls: int = 0
    """Requests to a served model that were answered, the probe's included; of a model that ran here, batched passes."""
    data: DataResult | NotAvailable
    training: TrainingResult | NotAvailable
    language: LanguageCheck
    groups: tuple[GroupResult, ...]
    levels: tuple[LevelResult, ...]
    canaries: tuple[CanaryResult, ...]
    null: NullCheck
    epsilon: Epsilon | NotAvailable
    membership: tuple[MembershipResult, ...] = ()
    positive_control: PositiveControl

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, two-space indent, one trailing newline."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=2, allow_nan=False) + "\n"


def load_result(path: Path) -> AuditResult:
    """Read and check a `result.json`.

    Raises:
        ResultError: it is missing, is not JSON, or does not follow the schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(f"{path}: no such file; `canary-audit run` or `audit` writes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{path}: not a JSON file ({error.__class__.__name__})") from None
    return parse_result(raw, str(path))


def parse_result(raw: Any, where: str) -> AuditResult:
    """Check a decoded result against the schema; `where` names it in errors."""
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise ResultError(f"{where}: schema version {version!r}; this program reads version {SCHEMA_VERSION}")
    try:
        return AuditResult.model_validate(raw)
    except ValidationError as error:
        issue = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, issue["loc"]))
        raise ResultError(f"{where}: {place}: {issue['msg']}") from None


def result_schema() -> dict[str, Any]:
    """JSON Schema of `result.json`, as published in `docs/result.schema.json`."""
    return AuditResult.model_json_schema(mode="serialization")
