"""Saved positions: what they hold, and what they refuse."""

import json

import pytest

from shardkit.errors import StateError
from shardkit.loader.order import OrderNumbers
from shardkit.loader.state import Position, ProgressTracker, make_state, read_state

ORDER = {
    "fingerprint": "0123456789abcdef0123456789abcdef",
    "num_samples": 105,
    "batch_size": 10,
    "drop_remainder": True,
    "seed": 7,
    "shuffled": True,
    "chunk_samples": 4,
    "lanes": 3,
    "span": 5,
    "first_span": 16,
}


def order(**changes):
    return OrderNumbers(**{**ORDER, **changes})


def test_the_document_is_small_plain_and_versioned():
    state = make_state(order(), "train", Position(3, 4))
    assert state == {"shardkit_state": 1, "split": "train", "epoch": 3, "step": 4, "order": ORDER}
    for document in (state, json.dumps(state), json.dumps(state).encode()):
        assert read_state(document, order(), "train") == Position(3, 4)


def test_the_end_of_an_epoch_is_the_start_of_the_next():
    assert read_state(make_state(order(), "train", Position(3, 10)), order(), "train") == Position(4, 0)
    assert Position(0, 9).after(1, 10) == Position(1, 0)
    assert Position(2, 3).after(25, 10) == Position(4, 8)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("fingerprint", "f" * 32, "data set"),
        ("seed", 8, "seed"),
        ("batch_size", 11, "batch_size"),
        ("drop_remainder", False, "drop_remainder"),
        ("shuffled", False, "shuffled"),
        ("chunk_samples", 5, "chunk_samples"),
        ("lanes", 4, "lanes"),
        ("span", 6, "span"),
    ],
)
def test_another_order_is_refused_by_name(name, value, what):
    state = make_state(order(), "train", Position(0, 1))
    with pytest.raises(StateError, match=f"another {what}") as caught:
        read_state(state, order(**{name: value}), "train")
    assert (caught.value.setting, caught.value.expected, caught.value.found) == (name, ORDER[name], value)
    for part in (name, str(ORDER[name]), str(value)):
        assert part in str(caught.value)


def test_another_split_is_refused_and_another_data_set_is_said_first():
    state = make_state(order(), "train", Position(0, 1))
    with pytest.raises(StateError, match="another split"):
        read_state(state, order(), "val")
    with pytest.raises(StateError, match="another data set"):
        read_state(state, order(fingerprint="f" * 32, num_samples=99, span=1), "val")


GOOD = make_state(order(), "train", Position(0, 1))


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[]",
        "{}",
        "null",
        b"\xff",
        "[" * 100_000,
        " " * (2 << 20),
        {**GOOD, "epoch": -1},
        {**GOOD, "step": 1.5},
        {**GOOD, "step": True},
        {**GOOD, "order": None},
        {**GOOD, "split": 3},
        {**GOOD, "shardkit_state": "1"},
        {**GOOD, "step": 11},
        42,
    ],
)
def test_what_is_no_position(state):
    with pytest.raises(StateError):
        read_state(state, order(), "train")


def test_a_newer_version_is_refused_by_name():
    with pytest.raises(StateError, match="newer version.*Upgrade"):
        read_state({**GOOD, "shardkit_state": 2}, order(), "train")


def test_a_tracker_counts_to_the_end_of_the_epoch_or_over_it():
    tracker = ProgressTracker(Position(1, 7), 10)
    tracker.advance(4)
    assert tracker.position == Position(2, 0)
    tracker.endless = True
    tracker.advance(14)
    assert tracker.position == Position(3, 4)
