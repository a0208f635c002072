"""Many fits that end before their data: what they leave behind.

``python -m benchmarks.short_fits KIND FITS FOLDER`` prints JSON: memory, threads and open files after each tenth of
the fits. KIND is ``numpy``, ``shardkit`` (a new `to_keras` for each fit) or ``one`` (the same for all).
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from shardkit import to_keras
from shardkit.loader import Loader

_STOP_AT = 2


def main(kind: str, num_fits: str, folder: str) -> None:
    """Measure and print."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.model.stop_training = batch >= _STOP_AT

    loader = Loader(folder, batch_size=32, image_size=(64, 64), shuffle=True)
    arrays = [np.concatenate(parts) for parts in zip(*loader, strict=True)]
    model = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D()])
    model.add(keras.layers.Dense(len(loader.class_names)))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    same = to_keras(loader)
    left = []
    for number in range(int(num_fits)):
        if kind == "numpy":
            model.fit(*arrays, batch_size=32, verbose=0, callbacks=[Stop()])
        else:
            model.fit(same if kind == "one" else to_keras(loader), verbose=0, callbacks=[Stop()])
        if (number + 1) % (int(num_fits) // 10) == 0:
            left.append(_left())
    print(json.dumps(left))


def _left() -> dict[str, float]:
    gc.collect()
    # Pages of files, libraries among them, come and go with what else the machine does.
    status = Path("/proc/self/status").read_text()
    return {
        "mb": int(status.partition("RssAnon:")[2].split()[0]) * 1024 / 1e6,
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
