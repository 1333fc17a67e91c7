"""The setting of an experiment, for tests: the default configuration, two seeds, a folder of its own."""

from pathlib import Path

from canary_audit.config import Config, load_config
from canary_audit.studies.experiment import Setting

CONFIGS = Path(__file__).parents[1] / "configs"
REAL_DATA = Path(__file__).parents[2] / "shared" / "data" / "classification"
"""MNIST, MNIST-1D and the UCI sets, where they are at hand."""


def setting(folder: Path, *, config: str = "noise", **study: object) -> Setting:
    """What `canary-audit study` gives an experiment; `study` changes keys of the table `[study]`."""
    loaded: Config = load_config(CONFIGS / f"{config}.toml")
    changed = loaded.study.model_copy(update={"seeds": 2, **study})
    return Setting(config=loaded.model_copy(update={"study": changed}), folder=folder)
