"""Shared fixtures. This file also puts `tests/` on the path, so `import result_factory` works in its subfolders."""

import pytest
import result_factory
from hypothesis import settings

settings.register_profile("no-clock", deadline=None)  # a slow machine is no failure
settings.load_profile("no-clock")


@pytest.fixture
def make_result():
    """The factory of a whole, realistic `AuditResult`; see `result_factory`."""
    return result_factory.make_result
