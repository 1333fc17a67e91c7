"""Word lists made from a model: single tokens of its tokenizer, and texts it wrote."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare
from tiny_tokenizers import KINDS, corpus

from canary_audit import generated_lists
from canary_audit.canaries import derive_secrets, draw_ledger, generated_lists_of, load_ledger, seed_of
from canary_audit.config import CanaryConfig, Config, DataConfig, plant_config, validate_table
from canary_audit.errors import ConfigError, ModelError, SpaceError
from canary_audit.generated_lists import generate_lists, sample_texts, single_tokens
from canary_audit.models.load import load_tokenizer
from canary_audit.models.table import TableModel
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.spaces import parse_space
from canary_audit.vocabulary import vocabulary_of
from canary_audit.wordlists import find_mistake

KEY = bytes(range(32))


def prefix_free(words):
    return not any(one != other and other.startswith(one) for one in words for other in words)


# --- single tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"llama2"}))  # there a space may merge with the word before
def test_each_word_is_one_token_wherever_it_stands_behind_a_space(kind):
    vocabulary = KINDS[kind]()
    words = single_tokens(vocabulary)
    assert len(words) >= 32
    assert len(set(words)) == len(words)
    assert prefix_free(words)
    assert all(word.isascii() and word.isalpha() for word in words)
    text = " ".join(["a", *words[::-1], *words]).encode()
    tokens = vocabulary.encode(text)
    assert [vocabulary.spelled(token).decode().strip() for token in tokens] == ["a", *words[::-1], *words]


def test_a_word_is_left_out_only_if_it_begins_another_or_is_several_tokens():
    vocabulary = KINDS["smollm2"]()
    kept = single_tokens(vocabulary)
    spelled = {vocabulary.spelled(token) for token in range(vocabulary.size)}
    for word in (piece[1:].decode() for piece in spelled if piece.startswith(b" ") and piece[1:].isalpha()):
        if word not in kept:
            begins = any(other.startswith(word) for other in kept)
            assert begins or len(vocabulary.encode(b"a " + word.encode())) != 2


def test_too_few_words_are_refused():
    tiny = vocabulary_of(train_tokenizer(["aa bb cc"], 300, 16))
    with pytest.raises(SpaceError, match=r"only \d+ entries .* and it takes 32; enlarge \[model\] vocab_size"):
        single_tokens(tiny)


# --- sampled texts -------------------------------------------------------------------------------------------------


@dataclass
class Loaded:
    language_model: Any
    tokenizer: Any
    prompt_token: int | None = 0


def world(tokenizer, weights):
    """A model whose tokens are independent draws."""
    log_probs = np.log(np.asarray(weights, dtype=float) / np.sum(weights))[None, :]
    return Loaded(TableModel(log_probs, np.zeros((1, len(tokenizer)), dtype=np.int64)), tokenizer)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(corpus(), 512, 64)


@pytest.fixture(scope="module")
def spoken(tokenizer):
    """A world that says ten tokens only, each a letter or a space and letters, some more often than others."""
    vocabulary = vocabulary_of(tokenizer)
    pieces = [token for token in range(len(tokenizer)) if vocabulary.spelled(token).strip().isalpha()]
    letters = [token for token in pieces if vocabulary.spelled(token).isascii()][-10:]
    weights = np.full(len(tokenizer), 1e-30)
    weights[letters] = range(1, 11)
    return letters, world(tokenizer, weights)


def test_sampled_texts_can_be_planted(spoken):
    texts = sample_texts(spoken[1], 100, seed=1)
    assert len(texts) == len(set(texts)) == 100
    assert find_mistake(texts, texts=True) is None
    assert prefix_free(texts)
    assert parse_space("{word:sampled}", {"sampled": texts}).prefix_free
    assert all(len(text) >= 20 for text in texts)


def test_tokens_are_drawn_at_temperature_one(spoken):
    """Frequencies against the model's own, over the raw draws."""
    letters, loaded = spoken
    draw = np.random.Generator(np.random.Philox(3))
    sampled = list(generated_lists._sampled_tokens(loaded.language_model, 0, len(loaded.tokenizer), draw))
    counts = Counter(token for text in sampled for token in text)
    assert set(counts) <= set(letters)
    n_tokens = counts.total()
    assert n_tokens >= 32 * 32
    expected = np.arange(1, 11) / 55 * n_tokens
    assert chisquare([counts[token] for token in letters], expected).pvalue > 1e-6


def test_the_seed_decides(spoken):
    assert sample_texts(spoken[1], 20, seed=1) == sample_texts(spoken[1], 20, seed=1)
    assert set(sample_texts(spoken[1], 20, seed=1)).isdisjoint(sample_texts(spoken[1], 20, seed=2))


def test_a_model_that_ends_at_once_is_given_up(tokenizer):
    weights = np.full(len(tokenizer), 1e-3)
    weights[tokenizer.eos_token_id] = 100
    with pytest.raises(ModelError, match="the model wrote 0 texts that can be planted, of 20"):
        sample_texts(world(tokenizer, weights), 20, seed=1)


def test_a_model_that_repeats_itself_is_given_up(tokenizer):
    weights = np.full(len(tokenizer), 1e-30)
    weights[tokenizer.encode(" the")[0]] = 1
    with pytest.raises(ModelError, match="the model wrote 1 texts"):
        sample_texts(world(tokenizer, weights), 20, seed=1)


def test_a_model_without_a_first_token_writes_nothing(tokenizer):
    with pytest.raises(ModelError, match="no token to start from"):
        sample_texts(Loaded(None, tokenizer, prompt_token=None), 20, seed=1)


def test_white_space_becomes_one_space_and_control_characters_are_refused():
    vocabulary = KINDS["smollm2"]()
    tokens = vocabulary.encode(b"the cat\n\n  sat on\tthe mat and the dog and the fox and she is here")
    assert generated_lists._plantable(tokens, vocabulary) == (
        "the cat sat on the mat and the dog and the fox and she is here"
    )
    assert generated_lists._plantable(vocabulary.encode(b"x" * 30 + b"\x01"), vocabulary) is None
    assert (
        generated_lists._plantable([*vocabulary.encode(b"q" * 30), *vocabulary.encode("é".encode())[:1]], vocabulary)
        is None
    )
    assert generated_lists._plantable(tokens[:10], vocabulary) is None


# --- in a configuration --------------------------------------------------------------------------------------------


def config_of(*formats, **model):
    canaries = [
        {"name": f"g{place}", "format": one, "prefix": "say ", "coin_flips": 8, "controls": 0}
        for place, one in enumerate(formats)
    ]
    raw = {"name": "x", "data": {"source": "builtin:synthetic", "max_bytes": 20_000}, "canaries": canaries}
    return validate_table(Config, {**raw, "model": model, "policy": {"path": "p"}}, "x.toml")


def test_a_built_in_model_gives_the_tokens_of_its_own_tokenizer():
    config = config_of("{word:tokens:4}", vocab_size=512)
    lists = generate_lists(config, generated_lists_of(config.canaries), key=KEY, unplanted=corpus())
    assert set(lists) == {"tokens"}
    assert lists["tokens"] == single_tokens(vocabulary_of(train_tokenizer(corpus(), 512, 64)))


def test_a_pretrained_model_gives_both(smoke, tmp_path):
    folder = smoke.folder / "model"
    config = config_of("{word:sampled}", "{word:tokens:4}", kind="pretrained", path=str(folder))
    told = []
    needed = generated_lists_of(config.canaries)
    lists = generate_lists(config, needed, key=KEY, unplanted=(), on_texts=lambda *step: told.append(step))
    assert set(lists) == {"tokens", "sampled"}
    assert lists["tokens"] == single_tokens(vocabulary_of(load_tokenizer(folder)))
    assert len(lists["sampled"]) == 20
    assert told[-1] == (20, 20)
    again, other = (generate_lists(config, needed, key=key, unplanted=()) for key in (KEY, b"k" * 32))
    assert again == lists
    assert other["tokens"] == lists["tokens"]
    assert other["sampled"] != lists["sampled"]

    ledger = draw_ledger(config.canaries, KEY, lists)
    assert ledger.schema_version == 2
    (tmp_path / "ledger.json").write_text(ledger.to_json(), encoding="utf-8")
    secrets = derive_secrets(load_ledger(tmp_path / "ledger.json"), KEY)
    sampled = {secrets[canary.id].decode() for canary in ledger.canaries_of("g0")}
    assert len(sampled) == 8
    assert sampled <= set(lists["sampled"])


def test_needed_lists_are_counted_over_all_canaries():
    plans = [
        CanaryConfig(name="a", format="{word:tokens:3}{digit:2}", prefix="x", levels=(1, 2), controls=5),
        CanaryConfig(name="b", format="{word:^tokens} {word:sampled}", prefix="x", coin_flips=7, controls=0),
        CanaryConfig(name="c", format="{word:english}", prefix="x"),
    ]
    assert generated_lists_of(plans) == {"tokens": 2 * 4 + 5 + 7, "sampled": 7}


def test_texts_of_a_model_that_has_learned_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"it needs \[model\] kind = 'pretrained'"):
        config_of("{word:sampled}", kind="lstm")


@pytest.mark.parametrize("name", ["tokens", "sampled"])
def test_planting_without_a_model_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="is made from the model, and `plant DATA` knows none"):
        plant_config(tmp_path / "a.txt", f"{{word:{name}}}", "x ", "", "1", 1)


def test_a_seed_depends_on_key_and_purpose():
    seeds = {seed_of(key, purpose) for key in (KEY, b"k" * 32) for purpose in ("a", "b")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_repeated_user_text_is_no_reason_to_take_another_users_away():
    raw = {"data": DataConfig(source="a.jsonl", user_field="by", deduplicate=True).model_dump()}
    table = {"name": "x", "canaries": [{"format": "{digit:9}", "prefix": "x"}], "policy": {"path": "p"}, **raw}
    assert validate_table(Config, table, "x.toml").data.deduplicate
    with pytest.raises(ConfigError, match="takes away one user's text because another wrote it first"):
        validate_table(Config, {**table, "privacy": {"noise_multiplier": 1.0, "unit": "user"}}, "x.toml")
