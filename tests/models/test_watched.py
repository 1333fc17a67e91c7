"""A watched model answers as the model does, and every prefix is told."""

import numpy as np
from narrow_worlds import TopTokens
from worlds import digit_walk

from canary_audit.keep import KeepAll
from canary_audit.models.table import digit_tree
from canary_audit.models.watched import WatchedModel, watched
from canary_audit.models.windowed import windowed
from canary_audit.search import search


def test_every_prefix_is_told_and_nothing_changes():
    model, told = digit_tree(3, np.random.default_rng(1)), []
    plain, watched = (
        search(digit_walk(3), one, thresholds_nats=np.array([np.inf]), keep=KeepAll())
        for one in (model, WatchedModel(model, told.append))
    )
    assert told == [1, 11, 111]
    assert watched.nodes == 111
    np.testing.assert_array_equal(plain.leaves.costs_nats, watched.leaves.costs_nats)


def test_a_watched_window_is_a_window_and_nothing_else_becomes_one():
    model, told = digit_tree(3, np.random.default_rng(1)), []
    assert windowed(watched(model, told.append)) is None
    window = TopTokens(model, 4)
    plain, seen = (
        search(digit_walk(3), one, thresholds_nats=np.array([np.inf]), keep=KeepAll())
        for one in (window, watched(window, told.append))
    )
    assert told == [1, 5, 21]
    assert seen.unseen_leaves == plain.unseen_leaves > 0
