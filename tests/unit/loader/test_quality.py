"""Shuffle quality as numbers."""

import numpy as np
import pytest

from shardkit.loader.order import OrderNumbers
from shardkit.loader.quality import measure_shuffle


def order(**changes):
    given = {
        "fingerprint": "0" * 32, "num_samples": 20_000, "batch_size": 100, "drop_remainder": True, "seed": 0,
        "shuffled": True, "chunk_samples": 4, "lanes": 16, "span": 20, "first_span": 16,
    }  # fmt: skip
    return OrderNumbers(**{**given, **changes})


SORTED = np.repeat(np.arange(200), 100)
MIXED = np.random.default_rng(0).permutation(SORTED)


def test_an_ideal_shuffle_is_one():
    quality = measure_shuffle(order(chunk_samples=1, span=0), SORTED)
    assert quality.label_mix == pytest.approx(1, abs=0.03)
    assert quality.neighbour_distance == pytest.approx(1, abs=0.05)
    assert quality.classes_ideal == pytest.approx(200 * (1 - 0.995**100), rel=0.01)
    assert quality.advice == ()


def test_sorted_and_not_shuffled_is_near_zero():
    quality = measure_shuffle(order(shuffled=False), SORTED)
    assert quality.label_mix < 0.02
    assert quality.neighbour_distance < 0.001
    assert any("repack" in line for line in quality.advice)
    assert any("global" in line for line in quality.advice)


def test_shuffled_when_packed_is_good_without_a_buffer():
    assert measure_shuffle(order(shuffled=False), MIXED).label_mix == pytest.approx(1, abs=0.03)


def test_the_advice_gives_what_it_promises():
    poor = order(chunk_samples=100, span=50, lanes=4)
    quality = measure_shuffle(poor, SORTED)
    promised = {line.split(":")[0]: float(line.rsplit(" ", 1)[1]) for line in quality.advice}
    smaller = measure_shuffle(order(chunk_samples=25, span=50, lanes=4), SORTED).label_mix
    larger = measure_shuffle(order(chunk_samples=100, span=100, lanes=4), SORTED).label_mix
    assert quality.label_mix < smaller
    assert promised["a chunk_size of a quarter"] == pytest.approx(smaller, abs=0.006)
    if larger > 1.1 * quality.label_mix:
        assert promised["twice the shuffle_buffer"] == pytest.approx(larger, abs=0.006)


def test_one_class_is_not_a_division_by_zero():
    assert measure_shuffle(order(num_samples=100, batch_size=10), np.zeros(100, dtype=np.int64)).label_mix == 1
