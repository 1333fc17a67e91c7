"""Configuration files: what is refused, and how helpfully."""

from pathlib import Path

import pytest
from conftest import CONFIGS

from canary_audit.config import load_config, measuring_config, plant_config
from canary_audit.errors import ConfigError

MINIMAL = """
name = "mine"
[data]
source = "corpus.txt"
[[canaries]]
format = "{digit:9}"
prefix = "pin "
levels = [1, 4]
[policy]
path = "policy.toml"
"""


@pytest.fixture
def write(tmp_path):
    def call(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return call


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_loads(path):
    if not path.stem.startswith("policy"):
        assert load_config(path).name == path.stem


def test_paths_are_resolved_against_the_file(write, tmp_path):
    config = load_config(write(MINIMAL))
    assert Path(config.data.source) == tmp_path / "corpus.txt"
    assert Path(config.policy.path) == tmp_path / "policy.toml"


def test_a_local_data_set_is_resolved_and_a_public_name_is_not(write, tmp_path):
    (tmp_path / "local").mkdir()
    source = 'data.source="hf:{}"'
    assert load_config(write(MINIMAL), (source.format("local"),)).data.source == f"hf:{tmp_path / 'local'}"
    assert load_config(write(MINIMAL), (source.format("public/name"),)).data.source == "hf:public/name"
    assert load_config(write(MINIMAL), ('data.source="builtin:prose"',)).data.source == "builtin:prose"


def test_overrides_reach_tables_and_lists_of_tables(write):
    config = load_config(write(MINIMAL), ("training.epochs=3", "canaries.0.controls=40", "name=other"))
    assert (config.training.epochs, config.canaries[0].controls, config.name) == (3, 40, "other")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL + "[training]\nepoch = 3", r"\[training\] unknown key 'epoch'; did you mean 'epochs'\?"),
        (MINIMAL + "[training]\nepochs = 'many'", r"\[training\] epochs: .*integer"),
        (MINIMAL + "[modle]\nkind = 'lstm'", "unknown key 'modle'; did you mean 'model'"),
        (MINIMAL.replace('prefix = "pin "', ""), r"\[canaries.0\] missing key 'prefix'"),
        (MINIMAL.replace("[1, 4]", "[1, 1]"), "levels must be distinct"),
        (MINIMAL + '[[canaries]]\nname = "b"\nformat = "{digit:9}"\nprefix = "pin "', "make them one"),
        (MINIMAL + '[[canaries]]\nformat = "{digit:8}"\nprefix = "pin "', "needs its own name"),
        (MINIMAL + "name = ", "not valid TOML"),
        (MINIMAL.replace('name = "mine"', 'name = "../up"'), "name"),
    ],
)
def test_what_is_wrong_is_named(write, text, says):
    path = write(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("override", ["training.epochs", "=3", "canaries.7.controls=1", "name.x=1", "data.nope=1"])
def test_overrides_that_lead_nowhere_are_refused(write, override):
    with pytest.raises(ConfigError):
        load_config(write(MINIMAL), (override,))


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "binary.toml")


def test_planting_in_a_file_needs_no_configuration():
    config = plant_config(Path("corpus.txt"), "{hex:8}", "key ", ".", "1, 8", 5)
    assert config.canaries[0].levels == (1, 8)
    assert config.data.validation_fraction == 0.0
    with pytest.raises(ConfigError, match="--levels"):
        plant_config(Path("corpus.txt"), "{hex:8}", "key ", ".", "1;8", 5)


def test_an_existing_model_is_measured_with_overrides_too():
    assert measuring_config(("audit.replicates=4",)).audit.replicates == 4
    with pytest.raises(ConfigError, match="unknown key 'nonsense'"):
        measuring_config(("audit.nonsense=3",))
