"""Batches as a `keras.utils.PyDataset`.

Keras asks a `PyDataset` for batches by index, and that index means little: ``fit(shuffle=True)``, the default, permutes
it, which would break windowed reading and every promise about the order. So the index is ignored and batches are
served as a stream. What has to be told apart instead:

- *A stream that begins.* Keras makes an iterator for each epoch, and also to look at the data; with
  ``steps_per_epoch`` one iterator lives on over several of Keras's epochs. Each begins with `on_epoch_begin`, then
  reads `num_batches`, then asks for its first batch, all in one thread (with endless data, reading and asking may be
  in two). One that lives on does not read `num_batches` again.
- *The peek.* On TensorFlow, Keras asks for batches 0 and 1 before training, to learn their shapes. It reads
  `num_batches` and asks in the same thread, outside of any epoch. TensorFlow's own prefetching also asks between two
  epochs, but from other threads: those batches are real.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import keras

from shardkit.errors import ConfigError
from shardkit.loader.state import Position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardkit.loader import Loader
    from shardkit.loader.state import Handover
    from shardkit.sample import Batch

__all__ = ["KerasDataset"]

_PEEKED_BATCHES = 2


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
        _check_ranks(loader)
        self.loader = loader
        self.repeat = repeat
        self._lock = threading.Lock()
        self._stream: Iterator[Batch] | None = None
        self._position: Position | None = None
        self._handover: Handover | None = None
        self._rewound_to: Position | None = None
        self._used_up = False
        self._within_epoch = False
        self._begun = False
        self._read_by: int | None = None

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; ``None`` where the data never end."""
        self._read_by = threading.get_ident()
        if self.repeat:
            return None
        # An iterator of Keras's asks how long it is; one that goes on within an epoch ends where that epoch ends.
        handover = self._handover if self._begun else None
        return len(self.loader) - (handover.position.step - handover.lead if handover is not None else 0)

    def __len__(self) -> int:
        return len(self.loader)

    def __getitem__(self, index: int) -> Any:
        with self._lock:
            mine = self._read_by == threading.get_ident()
            if mine and not self._within_epoch and index < _PEEKED_BATCHES:
                return self.loader.zeros(min(index, len(self.loader) - 1))
            if self._begun and (mine or (self.repeat and self._read_by is not None)):
                self._rewind()
            self._begun = False
            self._read_by = None
            if self._handover is not None and self._handover.lead:
                self._handover.lead -= 1
                return self.loader.zeros(0, rows=1)
            return self._next().as_tuple()

    def on_epoch_begin(self) -> None:
        """Called by Keras when it begins to iterate."""
        with self._lock:
            self._within_epoch = self._begun = True
            self._read_by = None
            if (taken := self.loader.take_over()) is not None:
                taken.endless = self.repeat
                # At once: an iterator that Keras makes now may only be drawn from in a later epoch.
                self._handover, self._used_up = taken, False
                self._rewind()

    def on_epoch_end(self) -> None:
        """Called by Keras when it has iterated, and to start afresh."""
        with self._lock:
            self._within_epoch = False
            self._read_by = None

    def _next(self) -> Batch:
        if self._stream is None:
            start = self._position or self.loader.position
            self._stream = self.loader.batches(start.epoch, start.step)
        batch = next(self._stream)
        if batch.step + 1 == len(self.loader):
            self._close()
            self._position = Position(batch.epoch + 1, 0)
            self._used_up = True
        return batch

    def _rewind(self) -> None:
        """Begin a stream: behind what was trained on where somebody counts that, else behind the last whole epoch."""
        self._close()
        handover = self._handover
        if handover is not None and self._used_up and handover.position == self._rewound_to:
            # An epoch went by and nobody counted: that run is over.
            handover = self._handover = None
        if handover is not None:
            self._position = self._rewound_to = handover.position
        self._used_up = False

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()  # type: ignore[attr-defined]


def _check_ranks(loader: Loader) -> None:
    """Processes that train together must each have their own share, or they would all train on the same samples."""
    distribution = keras.distribution.distribution()
    if not hasattr(distribution, "num_model_replicas"):
        # There is none, or Keras is too old to train in several processes.
        return
    shares = min(distribution.num_processes, distribution.num_model_replicas)
    if loader.world_size != shares:
        raise ConfigError(
            f"Keras trains together in {shares} processes with data of their own, and the loader is for "
            f"{loader.world_size}",
            setting="world_size", value=loader.world_size,
            advice="Give the Loader rank='auto', after keras.distribution.initialize",
        )  # fmt: skip
