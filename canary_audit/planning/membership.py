"""The part of a plan that is about membership scores: whether those asked for can be taken at all."""

from pathlib import Path

from canary_audit.config import REFERENCE_SCORES, Config
from canary_audit.errors import ConfigError


def require_membership(config: Config) -> None:
    """Refuse, before anything is planted, membership scores that could not be taken in the end.

    Raises:
        ConfigError: the primary score needs a reference model and there is none; the reference model is not there; or
            training rows are to be compared with held-out ones, and none are held out.
    """
    audit = config.audit
    asks = audit.membership_rows > 0 or any(group.coin_flips for group in config.canaries)
    has_reference = bool(audit.reference_model) or config.model.kind == "pretrained"
    if asks and audit.membership_score in REFERENCE_SCORES and not has_reference:
        raise ConfigError(
            f"[audit] membership_score: '{audit.membership_score}' needs a model that has not seen the canaries, and a "
            "built-in model starts from none; name one as [audit] reference_model, or choose 'loss', 'zlib' or "
            "'min-k++'"
        )
    if Path(audit.reference_model).is_absolute() and not Path(audit.reference_model).exists():
        raise ConfigError(f"[audit] reference_model: {audit.reference_model}: no such folder or file")
    if audit.membership_rows and not config.data.validation_fraction:
        raise ConfigError(
            "[audit] membership_rows: nothing is held out to compare training rows with; set [data] "
            "validation_fraction, or leave membership_rows out"
        )
