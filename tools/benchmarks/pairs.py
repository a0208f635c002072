"""Loading through adapters beside plain iteration, in one process, epoch by epoch in turn.

``python -m benchmarks.pairs FOLDER PAIRS`` prints JSON: for each way, the rate of each epoch behind its second batch.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import shardkit
from benchmarks.settings import BATCH_SIZE, IMAGE_SIZE
from shardkit.loader import Loader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WAYS"]

# The second plain one says what a ratio of equal things looks like on this machine.
WAYS = ("plain", "plain again", "to_tf", "to_keras in fit")
_UNTIMED = 2


def main(folder: str, num_pairs: str) -> None:
    """Measure and print."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    ways = dict(zip(WAYS, (_plain(folder), _plain(folder), _to_tf(folder), _to_keras(folder)), strict=True))
    for way in ways.values():
        way()
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(int(num_pairs)):
        for name in WAYS if number % 2 == 0 else WAYS[::-1]:
            rates[name].append(_rate(ways[name]()))
    print(json.dumps(rates))


def _loader(folder: str) -> Loader:
    return Loader(folder, batch_size=BATCH_SIZE, image_size=IMAGE_SIZE, shuffle=True, seed=0)


def _rate(ticks: list[tuple[float, int]]) -> float:
    """Samples a second, of the seconds at which batches came and their lengths."""
    return sum(rows for _, rows in ticks[_UNTIMED:]) / (ticks[-1][0] - ticks[_UNTIMED - 1][0])


def _plain(folder: str) -> Callable[[], list[tuple[float, int]]]:
    loader = _loader(folder)
    return lambda: [(time.perf_counter(), len(batch[0])) for batch in loader]


def _to_tf(folder: str) -> Callable[[], list[tuple[float, int]]]:
    dataset = shardkit.to_tf(_loader(folder))
    return lambda: [(time.perf_counter(), len(batch[0])) for batch in dataset]


def _to_keras(folder: str) -> Callable[[], list[tuple[float, int]]]:
    import keras
    import tensorflow as tf

    class Counter(keras.Model):  # type: ignore[misc]
        def train_step(self, data: Any) -> dict[str, Any]:
            return {"rows": tf.shape(data[0])[0]}

    class Tick(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            ticks.append((time.perf_counter(), int(logs["rows"])))

    ticks: list[tuple[float, int]] = []
    model, data = Counter(), shardkit.to_keras(_loader(folder))
    model.compile()

    def fit() -> list[tuple[float, int]]:
        ticks.clear()
        model.fit(data, verbose=0, callbacks=[Tick()])
        return list(ticks)

    return fit


if __name__ == "__main__":
    main(*sys.argv[1:])
