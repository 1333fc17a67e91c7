"""The experiments on language models start from a transformers model as well as from a built-in one."""

import pytest
import study_setting
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from canary_audit.canaries import derive_secrets, load_key, load_ledger
from canary_audit.config import load_config
from canary_audit.data.sources import open_source
from canary_audit.models.load import save_model
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.studies.conduct import conduct
from canary_audit.studies.papers import PAPERS


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A folder with a GPT-NeoX of a few thousand random weights."""
    data = load_config(study_setting.CONFIGS / "noise.toml").data
    tokenizer = train_tokenizer((record.text for record in open_source(data, 1).records()), 400, 256)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPTNeoXConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=256,
            bos_token_id=0,
            eos_token_id=0,
        )
        network = GPTNeoXForCausalLM(config).eval()
    folder = tmp_path_factory.mktemp("models") / "neox"
    save_model(network, tokenizer, folder)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("noise", marks=pytest.mark.nightly),
        pytest.param("neighbours", marks=pytest.mark.slow),
        pytest.param("mixup", marks=pytest.mark.nightly),
        pytest.param("learning-order", marks=pytest.mark.nightly),
    ],
)
def test_a_pretrained_model_goes_through(name, pretrained, tmp_path):
    overrides = (
        "model.kind=pretrained",
        f"model.path={pretrained}",
        "model.context_tokens=128",
        "data.max_bytes=20000",
        "training.epochs=3",
        "study.seeds=2",
    )
    config = load_config(study_setting.CONFIGS / f"{name}.toml", overrides)
    study = conduct(PAPERS[name], config, tmp_path, jobs=1, only=("language",))
    (section,) = study.sections
    assert section.answer
    assert section.grids
    assert section.charts
    assert study.trends
    page = (tmp_path / "study.md").read_text()
    found = secrets(tmp_path)
    assert found
    assert not [secret for secret in found if secret in page]


def secrets(folder):
    """All secrets of all trainings below a folder."""
    return {
        secret.decode()
        for key in folder.rglob("secrets/key")
        for secret in derive_secrets(load_ledger(key.parents[1] / "ledger.json"), load_key(key)).values()
    }
