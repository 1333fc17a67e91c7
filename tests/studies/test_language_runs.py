"""Language models of a study: same text for all seeds, fresh secrets for each, one look after every epoch."""

from dataclasses import replace

import numpy as np
import pytest
import study_setting

from canary_audit.errors import ConfigError, RunError
from canary_audit.studies.language.runs import language_run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    made = study_setting.setting(tmp_path_factory.mktemp("study"))
    config = made.config
    return replace(
        made,
        config=config.model_copy(
            update={
                "data": config.data.model_copy(update={"max_bytes": 8_000}),
                "training": config.training.model_copy(update={"epochs": 2}),
                "model": config.model.model_copy(update={"hidden_size": 16}),
            }
        ),
    )


def look(network, tokenizer, planted):
    assert not network.training
    return {"weight": network.lm_head.weight.detach().numpy().copy(), "n": np.array(len(planted.documents))}


@pytest.fixture(scope="module")
def runs(tiny):
    return [language_run(tiny, seed, look=look) for seed in tiny.seeds]


def test_every_epoch_is_seen(runs, tiny):
    for run in runs:
        assert len(run.looks) == len(run.summary.training.epochs) == 2
        first, second = (one["weight"] for one in run.looks)
        assert not np.array_equal(first, second)
        assert np.array_equal(second, run.load().network.lm_head.weight.detach().numpy())


def test_seeds_share_their_text_and_nothing_else(runs):
    first, second = (run.planted for run in runs)
    assert first.held_out == second.held_out
    canaries = [set(planted.canary_texts.values()) for planted in (first, second)]
    assert canaries[0].isdisjoint(canaries[1])
    plain = [
        [text for text in planted.documents if text not in own]
        for planted, own in zip((first, second), canaries, strict=True)
    ]
    assert plain[0] == plain[1]
    assert not np.array_equal(runs[0].looks[0]["weight"], runs[1].looks[0]["weight"])


def test_a_canary_is_there_as_often_as_it_was_planted(runs):
    planted = runs[0].planted
    for canary in planted.ledger.canaries:
        assert planted.documents.count(planted.canary_texts[canary.id]) == canary.insertions


def test_a_finished_run_is_read_and_not_repeated(runs, tiny, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("trained again")

    monkeypatch.setattr("canary_audit.pipeline.train_model", refuse)
    again = language_run(tiny, 1, look=look)
    assert np.array_equal(again.looks[1]["weight"], runs[0].looks[1]["weight"])


def test_what_training_changes_is_a_run_of_its_own(runs, tiny):
    tracked = language_run(tiny, 1, track_exposure=True)
    assert tracked.summary.training.epochs[0].exposure_by_level
    assert tracked.model_dir != runs[0].model_dir


def test_looks_that_are_gone_are_told(tiny):
    run = language_run(tiny, 5, look=look)
    (run.model_dir.parent / "looks" / "0001.npz").unlink()
    with pytest.raises(RunError, match="what was seen in epoch 1 is gone"):
        language_run(tiny, 5, look=look)


def test_a_study_of_learning_needs_learning_and_held_out_text(tiny):
    with pytest.raises(ConfigError, match="needs both above 0"):
        language_run(tiny, 1, epochs=0)
