"""shardkit: packed shards and its `Loader`, alone and through the adapters."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import shardkit
from benchmarks.settings import BATCH_SIZE, IMAGE_SIZE
from shardkit.loader import Loader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = True


def prepare(data: Data, folder: Path) -> Path:
    """`shardkit.pack`; digits as raw arrays."""
    options: dict[str, Any] = {}
    if data.kind == "digits":
        options = {"store": "raw", "image_size": (28, 28), "color_mode": "grayscale"}
    shardkit.pack(data.folder, folder, progress=False, **options)
    return folder


def batches(folder: Path, settings: Settings) -> Any:
    """The loader, or what an adapter makes of it for ``variant`` ``tf`` or ``keras``."""
    options: dict[str, Any] = {"image_size": IMAGE_SIZE, "antialias": settings.antialias}
    if settings.content == "raw" or settings.variant == "digits":
        options = {"image_size": (28, 28), "color_mode": "grayscale"}
    elif settings.content == "encoded":
        options = {"decode": False}
    if (remote := settings.remote) is not None:
        options |= {"storage_options": remote.storage_options, "cache": remote.cache or None}
    place = folder if remote is None else remote.url
    loader = Loader(place, batch_size=BATCH_SIZE, shuffle=True, seed=0, **options)
    if settings.variant == "tf":
        return shardkit.to_tf(loader)
    if settings.variant == "keras":
        return _Fit(loader)
    return _From(loader, settings.start) if settings.start else loader


class _From:
    """The first epoch, from a step on."""

    def __init__(self, loader: Loader, start: int) -> None:
        self._loader, self._start = loader, start

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (batch.as_tuple() for batch in self._loader.batches(0, self._start))


class _Fit:
    """The batches as `fit` gets them: a model that does nothing with them tells how many rows came."""

    def __init__(self, loader: Loader) -> None:
        import keras
        import tensorflow as tf

        class Counter(keras.Model):  # type: ignore[misc]
            def train_step(self, data: Any) -> dict[str, Any]:
                return {"rows": tf.shape(data[0])[0]}

        class Tell(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
                done.put(int(logs["rows"]))

        self._done = done = queue.Queue[int | None](1)
        self._model, self._tell = Counter(), Tell()
        self._model.compile()
        self._data = shardkit.to_keras(loader)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        while (rows := self._done.get()) is not None:
            yield range(rows), range(rows)
        thread.join()

    def _run(self) -> None:
        try:
            self._model.fit(self._data, verbose=0, callbacks=[self._tell])
        finally:
            self._done.put(None)
