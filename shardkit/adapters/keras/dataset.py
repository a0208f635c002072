"""A loader as Keras takes it, and as a user looks at it.

The order is a pure function, so every use gets the batches that belong to it, whatever else runs at the same time:

- *Python* iterates with `KerasDataset.__iter__` and asks for single batches with `KerasDataset.__getitem__`.
- *Keras* takes the data set for a data adapter, of which it reads the number of batches when it begins `fit`,
  `evaluate` or `predict`. At that moment it gets a `KerasStream` of its own, and calls nothing else here.

`docs/explanation/keras.md` says why this is safe.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import keras
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from keras.src.trainers.epoch_iterator import EpochIterator

from shardkit.adapters.keras.batch_pass import BatchPass
from shardkit.adapters.keras.cursor import BatchCursor
from shardkit.adapters.keras.fit import is_read_by_caller, suspend_idle_streams
from shardkit.adapters.keras.progress import Progress
from shardkit.adapters.keras.stream import KerasStream
from shardkit.adapters.keras.versions import check_version, unsupported
from shardkit.errors import ConfigError
from shardkit.loader.state import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from shardkit.loader import Loader
    from shardkit.sample import Batch

__all__ = ["KerasDataset"]


class KerasDataset(DataAdapter):  # type: ignore[misc]
    """A loader's batches, for `fit`, `evaluate` and `predict`, and for Python.

    Args:
        loader: The loader.
        repeat: Whether the data never end.
        map: Turns each batch's arrays into what the model takes, or ``None``.

    Attributes:
        loader: The loader.
        repeat: Whether the data never end.
        progress: Which epoch is served.
    """

    def __init__(self, loader: Loader, *, repeat: bool = False, map: Callable[..., Any] | None = None) -> None:  # noqa: A002
        check_version()
        if map is not None and not callable(map):
            raise ConfigError("map must be a function of a batch's arrays", setting="map", value=map)
        if loader.position.step and not repeat:
            raise ConfigError(
                "the loader stands within an epoch, and Keras reads whole epochs", setting="loader",
                value=loader.position, advice="Use shardkit.Resume for a run of fit, or to_keras(loader, repeat=True)",
            )  # fmt: skip
        self.loader = loader
        self.repeat = repeat
        self.progress = Progress(loader.position)
        self._map = map
        self._cursor = BatchCursor(loader)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names by integer label."""
        return self.loader.class_names

    @property
    def epoch(self) -> int:
        """The epoch that Python reads, and that Keras's next pass begins with. It can be set."""
        return self.progress.position.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        if type(epoch) is not int or epoch < 0:
            raise ConfigError("epoch must be a whole number, at least 0", setting="epoch", value=epoch)
        self.progress.position = Position(epoch, 0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the epoch that is served, in order; without end if the data repeat. Moves no epoch."""
        batches = self.batches_from(self.progress.position)
        return (self.structured(batch) for batch in batches)

    def __getitem__(self, index: int) -> Any:
        """A batch of the epoch that is served. Reads ahead where batches are asked for in order. Moves no epoch.

        Args:
            index: Its number; negative numbers count from the end.

        Returns:
            The arrays, as Keras takes them.

        Raises:
            IndexError: The epoch has no such batch.
            TypeError: The index is no whole number.
        """
        index = index.__index__() if hasattr(index, "__index__") else index
        if not isinstance(index, int):
            raise TypeError(f"a batch's index must be a whole number, not {index!r}")
        length = len(self.loader)
        if not -length <= index < length and not (self.repeat and index >= 0):
            raise IndexError(f"there is no batch {index}: an epoch has {length}")
        position = self.progress.position.after(index if index >= 0 else index + length, length)
        return self.structured(self._cursor.batch_at(position))

    def structured(self, batch: Batch) -> Any:
        """A batch's arrays, as the loader hands them out, or what the user's function makes of them.

        Raises:
            RuntimeError: The user's function raised ``StopIteration``.
        """
        found = batch.as_tuple()
        if self._map is None:
            return found
        try:
            return self._map(*found) if isinstance(found, tuple) else self._map(found)
        except StopIteration as exc:
            # Python and Keras would take it for the end of the data.
            raise RuntimeError("the function given to to_keras as map= raised StopIteration") from exc

    def batches_from(self, start: Position, *, aligned: bool = False) -> BatchPass:
        """As many batches as an epoch has from a position on, or all that follow if the data repeat.

        Args:
            start: Where to begin.
            aligned: Whether to end where the epoch ends that the position is in.
        """
        return BatchPass(self.loader, start, None if self.repeat else len(self.loader) - (start.step if aligned else 0))

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; ``None`` if the data never end."""
        reader = sys._getframe(1)  # noqa: SLF001
        if reader.f_code is EpochIterator.__init__.__code__:
            self._open_stream(reader)
        return None if self.repeat else len(self.loader)

    def _open_stream(self, reader: FrameType) -> None:
        """Give the call of Keras that begins a stream of its own.

        Keras keeps a data adapter as it is given one, and then does not say which weights `fit` has for the classes.
        """
        iterator: Any = reader.f_locals.get("self")
        class_weight = reader.f_locals.get("class_weight", self)
        if class_weight is self or getattr(iterator, "data_adapter", None) is not self:
            raise unsupported("its EpochIterator is not the one shardkit knows")
        _check_arguments(reader.f_locals)
        _check_ranks(self.loader)
        suspend_idle_streams()
        # Within `fit`, only its own passes move the epoch.
        iterator.data_adapter = KerasStream(
            self, class_weight, steps=reader.f_locals["steps_per_epoch"], moves=not is_read_by_caller(self)
        )

    def _not_opened(self) -> Any:
        raise unsupported("it did not begin to read the data as shardkit knows it")

    get_numpy_iterator = get_tf_dataset = get_jax_iterator = get_torch_dataloader = _not_opened

    def __getstate__(self) -> dict[str, Any]:
        # Streams and their threads stay behind.
        return {"loader": self.loader, "repeat": self.repeat, "map": self._map, "position": self.progress.position}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["loader"], repeat=state["repeat"], map=state["map"])  # type: ignore[misc]
        self.progress.position = state["position"]

    def __repr__(self) -> str:
        return f"KerasDataset({self.loader!r}, repeat={self.repeat}, epoch={self.epoch})"


def _check_arguments(given: Mapping[str, Any]) -> None:
    """Keras drops what is given beside a data adapter, without a word."""
    for name in ("y", "sample_weight"):
        if given.get(name) is not None:
            raise ConfigError(
                f"Keras was given {name} beside a data set that holds inputs, targets and weights", setting=name,
                advice="Make them of each batch by the function given to to_keras as map=",
            )  # fmt: skip


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
    if shares > 1 and getattr(distribution, "auto_shard_dataset", False):
        raise ConfigError(
            "Keras is asked to cut the data among the processes, and the loader has cut them already",
            setting="auto_shard_dataset", value=True,
            advice="Give keras.distribution.DataParallel auto_shard_dataset=False",
        )  # fmt: skip
