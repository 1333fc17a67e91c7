"""Every error a user can meet, in one tree.

    CanaryAuditError
    ├── ConfigError      a configuration or policy file is wrong
    ├── SpaceError       a secret format is malformed, too small or unusable here
    ├── DataError        training data cannot be read, planted or trusted
    ├── LedgerError      a ledger or its key is missing, damaged or does not match
    ├── ModelError       a model cannot be loaded, or gives numbers that cannot be true
    ├── SearchError      a search cannot keep its promise (budget, non-canonical paths)
    ├── EndpointError    a served model cannot be reached, or answers what cannot be true
    ├── BudgetSpentError a budget of requests or tokens is used up
    ├── RunError         a run directory is locked, full or damaged
    └── ResultError      a result or a policy cannot be judged

A message says what is wrong, where, and what to do. It never holds secret text.
The command line turns any of them into exit code 2.
"""


class CanaryAuditError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(CanaryAuditError):
    """A configuration or policy file is wrong: names file, table and key."""


class SpaceError(CanaryAuditError):
    """A secret format is malformed, too small or unusable in this place."""


class DataError(CanaryAuditError):
    """Training data cannot be read, planted or trusted."""


class LedgerError(CanaryAuditError):
    """A ledger or its key is missing, damaged, or does not match the other."""


class ModelError(CanaryAuditError):
    """A model cannot be loaded, or gives numbers that cannot be true."""


class SearchError(CanaryAuditError):
    """A search cannot keep its promise."""


class EndpointError(CanaryAuditError):
    """A served model cannot be reached, does not keep the promise of its tier, or answers what cannot be true."""


class BudgetSpentError(CanaryAuditError):
    """The next request would exceed the budget of requests or tokens. Measurements catch it and widen intervals."""


class RunError(CanaryAuditError):
    """A run directory is locked, full or damaged."""


class ResultError(CanaryAuditError):
    """A result cannot be read or judged."""
