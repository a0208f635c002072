"""Batches as a `keras.utils.PyDataset`.

Keras asks a `PyDataset` for batches by index, and that index means little: ``fit(shuffle=True)``, the default, permutes
it, which would break windowed reading and every promise about the order. So the index is ignored and batches are
served as a stream. What has to be found out instead is where a stream begins. Keras makes an iterator whenever it
likes, also to peek at the data, and each one begins, in this order, with `on_epoch_begin`, with reading `num_batches`
(or, for endless data, in the call that made it), and then with its first batch. With ``steps_per_epoch`` an iterator
lives on over several of Keras's epochs; then `num_batches` is not read again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardkit.loader import Loader
    from shardkit.sample import Batch

__all__ = ["KerasDataset"]


class KerasDataset(keras.utils.PyDataset):  # type: ignore[misc]
    """A loader's batches in its own order, epoch after epoch.

    An epoch counts as used once its last batch was handed out; what is left before is begun again. Before training,
    Keras asks for two batches to learn their shapes: it gets zeros of the declared shapes, and nothing is read.

    Args:
        loader: The loader.
        repeat: Whether the data never end.
    """

    def __init__(self, loader: Loader, *, repeat: bool = False) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.loader = loader
        self.repeat = repeat
        self._lock = threading.Lock()
        self._stream: Iterator[Batch] | None = None
        self._epoch = 0
        self._step = 0
        self._within_epoch = False
        self._begun = False
        self._rewound = False

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; ``None`` where the data never end."""
        # Read by a new iterator of Keras just before its first batch: see above.
        self._rewound = self._rewound or self._begun
        return None if self.repeat else len(self.loader)

    def __len__(self) -> int:
        return len(self.loader)

    def __getitem__(self, index: int) -> Any:
        with self._lock:
            if not self._within_epoch:
                return self._zeros(index)
            if self._rewound:
                self._close()
            self._begun = self._rewound = False
            return self._next().as_tuple()

    def on_epoch_begin(self) -> None:
        """Called by Keras when it begins to iterate."""
        self._within_epoch = self._begun = True
        self._rewound = False

    def on_epoch_end(self) -> None:
        """Called by Keras when it has iterated, and to start afresh."""
        self._within_epoch = False

    def _next(self) -> Batch:
        if self._stream is None:
            self._step = 0
            self._stream = self.loader.batches(self._epoch)
        batch = next(self._stream)
        self._step = batch.step + 1
        if self._step == len(self.loader):
            self._close()
            self._epoch += 1
        return batch

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()  # type: ignore[attr-defined]

    def _zeros(self, index: int) -> Any:
        """What an epoch's first batches look like."""
        rows = self.loader.batch_length(index)
        values = tuple(
            np.zeros((rows, *(size or 0 for size in spec.shape[1:])), dtype=spec.dtype)
            for spec in self.loader.signature.values()
        )
        return values if len(values) > 1 else values[0]
