"""Neighbours of hidden states: states, search and places against direct computations, and what the study must show."""

import numpy as np
import pytest
import torch
from study_setting import setting

from canary_audit.canaries import Canary, Group, Ledger
from canary_audit.config import ModelConfig, PrivacyConfig
from canary_audit.errors import ConfigError, DataError
from canary_audit.models.networks import build_network
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.studies.language.hidden_states import HiddenStates, hidden_states
from canary_audit.studies.language.runs import Planted
from canary_audit.studies.neighbours import language
from canary_audit.studies.neighbours.datastore import build_datastore, most_voted, vote
from canary_audit.studies.neighbours.language_report import language_section
from canary_audit.studies.neighbours.probes import places_of, probed_rows
from canary_audit.studies.neighbours.support import CanarySupport, SeedSupport, Support

SECRETS = {"a-x002-1": b"1234", "a-x001-1": b"777", "a-control-1": b"42"}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the pin is what the pins are"], 300, 64)


def planted(*documents: str) -> Planted:
    def canary(id, role, insertions):
        return Canary(id=id, group="a", role=role, insertions=insertions, commitment="")

    ledger = Ledger(
        groups=(Group(name="a", format="{digit:4}", prefix="the pin is ", suffix=" ok"),),
        canaries=(canary("a-x002-1", "level", 2), canary("a-x001-1", "level", 1), canary("a-control-1", "control", 0)),
        key_commitment="",
    )
    return Planted(ledger=ledger, secrets=SECRETS, documents=documents, held_out=())


COPIES = ("the pin is 1234 ok", "what", "the pin is 777 ok", "the pins are what they are", "the pin is 1234 ok")


@pytest.mark.parametrize("kind", ["lstm", "llama"])
def test_states_are_what_the_projection_reads(kind, tokenizer):
    network = build_network(ModelConfig(kind=kind, hidden_size=16, context_tokens=16), len(tokenizer), 0.5, seed=1)
    network.train()
    rows = probed_rows(planted(*COPIES), tokenizer, 16).rows
    found = hidden_states(network, rows, [0, rows.n_rows - 1])
    assert network.training
    assert len(found) == rows.lengths[[0, -1]].sum()
    network.eval()
    for row in (0, rows.n_rows - 1):
        own, length = found.rows == row, int(rows.lengths[row])
        cells = torch.from_numpy(rows.tokens[row].astype(np.int64))[None]
        with torch.inference_mode():
            logits = network(input_ids=cells[:, :length]).logits[0]
            again = network.lm_head(torch.from_numpy(found.states[own]))
        assert torch.allclose(again, logits, atol=1e-5)
        assert found.top[own].tolist() == logits.argmax(dim=-1).tolist()
        assert found.tokens[own].tolist() == cells[0, 1 : length + 1].tolist()
        assert found.columns[own].tolist() == list(range(1, length + 1))


@pytest.mark.parametrize("context_tokens", [8, 16, 64])
def test_probes_are_the_tokens_of_secret_and_prefix(context_tokens, tokenizer):
    probed = probed_rows(planted(*COPIES), tokenizer, context_tokens)
    assert [probe.canary.id for probe in probed.canaries] == ["a-x002-1", "a-x001-1"]
    for probe in probed.canaries:
        secret, template = (
            tokenizer.decode(probed.rows.tokens[cells].tolist()) for cells in (probe.secret, probe.template)
        )
        assert secret.strip() == SECRETS[probe.canary.id].decode()
        assert "the pin is ".endswith(template), "all but the first token"
        assert template.endswith("pin is ")


def test_texts_without_canaries_have_no_probes(tokenizer):
    with pytest.raises(DataError, match="levels"):
        probed_rows(planted("what", "they are"), tokenizer, 16)


def test_rows_of_canaries_are_always_kept(tokenizer, monkeypatch):
    probed = probed_rows(planted(*(["the pins are what they are"] * 20), *COPIES), tokenizer, 16)
    everything = probed.chosen(4, seed=1)
    assert everything == list(range(probed.rows.n_rows))
    canaries = everything[probed.first_canary_row :]
    n_canary_tokens = int(probed.rows.lengths[canaries].sum())
    monkeypatch.setattr("canary_audit.studies.neighbours.probes.MOST_STATES", n_canary_tokens + 40)
    chosen = probed.chosen(4, seed=1)
    assert chosen == sorted(chosen)
    assert set(canaries) < set(chosen)
    assert probed.rows.lengths[chosen].sum() <= n_canary_tokens + 40
    network = build_network(ModelConfig(hidden_size=4, context_tokens=16), len(tokenizer), 0.0, seed=1)
    entries = hidden_states(network, probed.rows, chosen)
    for probe in probed.canaries:
        places = places_of(entries, probe.secret)
        assert entries.tokens[places].tolist() == probed.rows.tokens[probe.secret].tolist()
    assert (entries.rows[probed.ordinary(entries, 1)] < probed.first_canary_row).all()


def entries_of(rows: list[list[int]], width: int = 3) -> HiddenStates:
    """Random states before the given tokens."""
    cells = [(row, column, token) for row, tokens in enumerate(rows) for column, token in enumerate(tokens, start=1)]
    own, columns, tokens = (np.array(part) for part in zip(*cells, strict=True))
    states = np.random.default_rng(3).normal(size=(len(cells), width)).astype(np.float32)
    return HiddenStates(states=states, tokens=tokens, top=tokens, rows=own, columns=columns)


def test_equal_texts_have_one_number_wherever_they_stand():
    store = build_datastore(entries_of([[5, 6, 0, 7, 0], [7, 0, 5, 6, 0], [5, 6]]), start=0, end=0)
    assert store.documents.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 2, 2]
    behind_a_start = build_datastore(entries_of([[5, 6, 0, 9, 5, 6, 0]]), start=9, end=0)
    assert len(set(behind_a_start.documents.tolist())) == 1


def test_votes_against_a_search_one_by_one():
    generator = np.random.default_rng(4)
    rows = [[*generator.integers(1, 5, size=50).tolist(), 0] for _ in range(5)]
    rows += [rows[0], rows[1]]
    store = build_datastore(entries_of(rows), start=0, end=0)
    entries, queries = store.entries, np.arange(0, len(store.entries), 7)
    found = vote(store, queries, k=3)
    for number, query in enumerate(queries):
        order = np.argsort(((entries.states - entries.states[query]).astype(float) ** 2).sum(axis=1), kind="stable")
        own = (entries.rows == entries.rows[query]) & (np.abs(entries.columns - entries.columns[query]) <= 30)
        own |= store.documents == store.documents[query]
        for votes, allowed in ((found.kept, order), (found.excluded, [place for place in order if not own[place]])):
            tokens = entries.tokens[allowed[:3]].tolist()
            assert votes[number] == max(tokens, key=lambda token: (tokens.count(token), -tokens.index(token)))


def test_the_nearest_decides_a_tie_and_nobody_votes_where_nobody_is():
    assert most_voted(np.array([[4, 2, 2, 4], [3, 5, 5, -1], [7, -1, -1, -1], [-1, -1, -1, -1]])).tolist() == [
        4,
        5,
        7,
        -1,
    ]
    store = build_datastore(entries_of([[1, 2, 0]]), start=0, end=0)
    assert vote(store, np.arange(3)).excluded.tolist() == [-1, -1, -1]


def support(right, kept, excluded, stored) -> Support:
    return Support(n_tokens=4, right=right, kept=kept, excluded=excluded, stored=stored)


def test_verdicts_and_section():
    stored, learned, lost = support(1.0, 1.0, 0.0, 1.0), support(1.0, 1.0, 1.0, 0.0), support(0.2, 0.5, 0.5, 0.1)
    canaries = tuple(
        CanarySupport(canary=name, insertions=4, secret=one)
        for name, one in zip("abc", (stored, learned, lost), strict=True)
    )
    assert [one.verdict for one in canaries] == ["only because of its row", "also without its row", "not produced"]
    seeds = [
        SeedSupport(seed=seed, n_states=9, template=learned, ordinary=lost, secrets={4: stored}, canaries=canaries)
        for seed in (1, 2)
    ]
    section = language_section(seeds)
    assert section.trends[0].holds
    assert section.answer.startswith("For 2 of 6 inserted secrets, yes")
    assert len(section.grids[1].rows) == 6


def test_rows_of_users_are_refused(tmp_path):
    given = setting(tmp_path, config="neighbours")
    privacy = PrivacyConfig(noise_multiplier=1.0, unit="user")
    config = given.config.model_copy(update={"privacy": privacy})
    with pytest.raises(ConfigError, match="unit"):
        language.run(given.__class__(config=config, folder=tmp_path))


@pytest.mark.slow
def test_neighbours_without_its_rows_do_not_know_a_stored_secret(tmp_path):
    section = language.run(setting(tmp_path, config="neighbours"))
    (trend,) = section.trends
    assert trend.id == "C4"
    assert trend.holds, trend.ours
    assert section.answer
