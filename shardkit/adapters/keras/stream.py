"""What Keras reads in one call of `fit`, `evaluate` or `predict`.

Keras asks a data adapter for an iterator, once for each pass over the data, and takes batches from it one by one. Only
Keras calls these methods, and each call of Keras has a stream of its own, so nothing has to be guessed: whatever is
taken from an iterator is the next batch of that pass.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras.src.trainers.data_adapters import data_adapter_utils
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from shardkit.errors import ConfigError
from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shardkit.adapters.keras.batch_pass import BatchPass
    from shardkit.adapters.keras.dataset import KerasDataset
    from shardkit.loader.state import Position, ProgressTracker
    from shardkit.sample import Batch

__all__ = ["STREAMS", "KerasStream"]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A pass whose first batch was read.

    Attributes:
        start: Where it begins.
        first: The first batch, as Keras takes it.
        rest: The others.
    """

    start: Position
    first: Any
    rest: Iterator[Batch]


class _Streams:
    """All streams there are. Keras leaves those of calls that ended early to the garbage collector."""

    def __init__(self) -> None:
        self._streams: weakref.WeakSet[KerasStream] = weakref.WeakSet()
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Make the lock anew."""
        self._lock = threading.Lock()

    def add(self, stream: KerasStream) -> None:
        """Add a stream, which is not kept alive."""
        with self._lock:
            self._streams.add(stream)

    def all(self) -> list[KerasStream]:
        """The streams that are alive."""
        with self._lock:
            return list(self._streams)


STREAMS = _Streams()


class KerasStream(DataAdapter):  # type: ignore[misc]
    """The passes of one call of Keras.

    A pass begins where the data set stands when the pass's first batch is taken. It moves the data set on when Keras
    ends the epoch and has taken all of it.

    Args:
        dataset: The data set.
        class_weight: Weights by class, as `fit` takes them.
        steps: Steps in an epoch of Keras, if it was told.
        moves: Whether a whole pass moves the data set to the next epoch.

    Attributes:
        dataset: The same.
        thread: The thread of the call.
    """

    def __init__(
        self, dataset: KerasDataset, class_weight: Mapping[int, float] | None, *, steps: int | None, moves: bool
    ) -> None:
        self.dataset = dataset
        self._class_weight = class_weight
        self._steps = steps
        self._moves = moves
        self._tracker: ProgressTracker | None = None
        # A pass of which only the first batch was taken can be begun again at no cost. Keras does that after it has
        # looked at the first batch to build a model.
        self._opened: _Opened | None = None
        self._pass: BatchPass | None = None
        self._start: Position | None = None
        self._version = 0
        self._taken = self._epochs = 0
        self._is_reset = False
        self.thread = threading.get_ident()
        STREAMS.add(self)

    def suspend(self) -> None:
        """Let go of threads and of batches that were read ahead, until the next batch is asked for."""
        if self._pass is not None:
            self._pass.suspend()

    def follow(self, tracker: ProgressTracker) -> None:
        """Begin each pass at the tracker's position, after ``tracker.lead`` placeholders."""
        tracker.endless = self.dataset.repeat
        self._tracker = tracker

    @property
    def num_batches(self) -> int | None:
        """Batches in a pass; ``None`` if the data never end. Keras reads it when it drops a pass to begin anew."""
        self._is_reset = True
        return self.dataset.num_batches

    @property
    def batch_size(self) -> None:
        """Unknown to Keras: batches come whole."""
        return

    @property
    def has_partial_batch(self) -> None:
        """Unknown to Keras: batches come whole."""
        return

    @property
    def partial_batch_size(self) -> None:
        """Unknown to Keras: batches come whole."""
        return

    def on_epoch_begin(self) -> None:
        """Called by Keras when it begins an epoch of its own."""
        self._is_reset = False

    def on_epoch_end(self) -> None:
        """Called by Keras when an epoch of its own has ended, and when it drops a pass to begin anew."""
        if self._is_reset:
            self._start = None
            return
        self._opened = None
        if self._start is None or not self._moves:
            return
        # Keras may take some batches before it needs them, so those that it was told to use count.
        self._epochs += 1
        used = self._taken if self._steps is None else min(self._taken, self._epochs * self._steps)
        length = len(self.dataset)
        position = self._start.after(used if self.dataset.repeat else used // length * length, length)
        self.dataset.progress.finish(self._version, position)

    def get_numpy_iterator(self) -> Any:
        """A pass as NumPy arrays."""
        return data_adapter_utils.get_numpy_iterator(self.batches())

    def get_jax_iterator(self) -> Any:
        """A pass as arrays for JAX."""
        return data_adapter_utils.get_jax_iterator(self.batches())

    def get_torch_dataloader(self) -> Any:
        """A pass as torch tensors."""
        return data_adapter_utils.get_torch_dataloader(self.batches())

    def get_tf_dataset(self) -> Any:
        """A pass as a `tf.data.Dataset`, each time it is iterated."""
        from shardkit.adapters.tensorflow import dataset_of_batches

        # Read to learn what a function of the user's makes of a batch; the first pass hands the same batch out.
        self._opened = self._opened or self._open(self._next_start())
        spec, check = data_adapter_utils.get_tensor_spec([self._opened.first]), _checker(self._opened.first)
        # TensorFlow keeps the function for good: it must hold no batch, and not the stream.
        stream = weakref.proxy(self)
        return dataset_of_batches(lambda: map(check, stream.batches()), spec)

    def _next_start(self) -> Position:
        return self.dataset.progress.position if self._tracker is None else self._tracker.position

    def _open(self, start: Position) -> _Opened:
        # Under a tracker, passes end where epochs end, and the first one may begin within an epoch.
        rest = self._pass = self.dataset.batches_from(start, aligned=self._tracker is not None)
        return _Opened(start, self.structured(next(rest)), rest)

    def batches(self) -> Iterator[Any]:
        """A pass, structured for Keras. It begins when its first batch is taken."""
        start = self._next_start()
        if self._opened is None or self._opened.start != start:
            self._opened = self._open(start)
        opened = self._opened
        while self._tracker is not None and self._tracker.lead:
            # Keras counts these steps and does not train on them.
            self._tracker.lead -= 1
            yield keras.tree.map_structure(lambda array: array[:1], opened.first)
        self._start, self._version = start, self.dataset.progress.version
        self._taken = self._epochs = 0
        rest = opened.rest
        yield self._take(opened.first)
        # A batch is let go of as soon as Keras has it, so this frame names none.
        self._opened = None
        del opened
        yield from map(self._take, map(self.structured, rest))

    def _take(self, found: Any) -> Any:
        self._taken += 1
        return found

    def structured(self, batch: Batch) -> Any:
        """A batch as Keras takes it: a tuple of inputs, and targets and weights if there are any, or a dictionary."""
        found = self.dataset.structured(batch)
        found = keras.tree.lists_to_tuples(found)
        found = found if isinstance(found, (tuple, dict)) else (found,)
        if self._class_weight is None:
            return found
        if not isinstance(found, tuple) or len(found) != 2 or not hasattr(found[1], "shape"):
            raise ConfigError(
                "class_weight needs batches of inputs and one array of targets, without sample weights",
                setting="class_weight",
                advice="Weight the samples in the function given to to_keras as map=",
            )
        return (*found, data_adapter_utils.class_weight_to_sample_weights(found[1], self._class_weight))


def _checker(first: Any) -> Callable[[Any], Any]:
    """A function that hands out batches that are like the first one: TensorFlow would cast others without a word."""

    def kind(batch: Any) -> list[tuple[str, str, tuple[int, ...]]]:
        leaves = keras.tree.flatten_with_path(batch)
        arrays = [(".".join(map(str, path)), np.asarray(leaf)) for path, leaf in leaves]
        return [(place, array.dtype.name, array.shape[1:]) for place, array in arrays]

    expected = kind(first)

    def check(batch: Any) -> Any:
        found = kind(batch)
        if found != expected:
            raise ConfigError(
                f"the function given to to_keras as map= made arrays (place, type, shape of a row) {found} of a batch, "
                f"and {expected} of the first one",
                setting="map", advice="TensorFlow needs the same structure, types and shapes of every batch",
            )  # fmt: skip
        return batch

    return check
