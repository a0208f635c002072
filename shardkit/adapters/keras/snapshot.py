"""A training run in one file: named arrays and a JSON document, written atomically. No pickle.

The file is data that anybody may have changed. `parse_snapshot` takes any bytes: it gives a run of which every field
is of its kind, or a `StateError`. Whether it fits the model and the callbacks is seen later, before anything is put
back.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.adapters.keras.archive import read_arrays, write_arrays
from shardkit.adapters.keras.fields import Fields, is_name
from shardkit.adapters.keras.plain import Array, Decoder, load_json, to_plain
from shardkit.adapters.keras.saved import SavedVariables
from shardkit.errors import ConfigError, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardkit.storage import Store, Writer

__all__ = ["SNAPSHOT_VERSION", "CallbackState", "Snapshot", "parse_snapshot", "read_snapshot", "write_snapshot"]

# Memory is taken for what is there: a file has as many bytes as it has.
_MOST_BYTES = 2**40
_MOST_DOCUMENT_BYTES = 2**26
SNAPSHOT_VERSION = 3
_DOCUMENT = "document"
_VERSION = "shardkit_snapshot"


@dataclass(frozen=True, slots=True)
class CallbackState:
    """What one callback had counted.

    Attributes:
        name: The name of its class.
        values: Its attributes.
    """

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is in the file.

    Attributes:
        backend: Keras's backend.
        epoch: Keras's epoch, from 0.
        step: The steps of it that are done.
        finished: Whether the run is. The epoch is then the one after it.
        stopped: Whether a callback has stopped it.
        logs: The metrics of the last step, by name.
        loader: The position in the data, as `Loader.state` gives it.
        variables: What the model holds.
        callbacks: What the other callbacks have counted, in their order.
        random: The states of the process's random generators, by library.
    """

    backend: str
    epoch: int
    step: int
    finished: bool
    stopped: bool
    logs: Mapping[str, Any]
    loader: Mapping[str, Any]
    variables: SavedVariables
    callbacks: tuple[CallbackState, ...]
    random: Mapping[str, Any]


class _FileOf(io.RawIOBase):
    """A store's writer as the file that `numpy.savez` wants."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._writer.write(data)
        return len(memoryview(data).cast("B"))


def write_snapshot(store: Store, name: str, snapshot: Snapshot) -> None:
    """Write the file; a kill at any moment leaves the one before.

    Args:
        store: Where.
        name: The file's name.
        snapshot: What.

    Raises:
        ConfigError: There is more in it than numbers, texts and arrays, or too much text.
        StorageError: It cannot be written.
    """
    arrays: list[Array] = []
    try:
        text = json.dumps(_document(snapshot, arrays)).encode()
        # What would not be taken when it is read must not be found out only then: a name that cannot be printed.
        fields = Fields(load_json(text), "its document")
        fields.count(_VERSION)
        _snapshot(fields, Decoder(arrays))
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"the run cannot be saved, since {exc}", advice="Only numbers, texts and arrays can") from exc
    if len(text) > _MOST_DOCUMENT_BYTES:
        raise ConfigError(
            f"the run cannot be saved, since what is no array takes {len(text)} bytes of at most "
            f"{_MOST_DOCUMENT_BYTES}",
            advice="Keep long lists of numbers in attributes of callbacks as numpy arrays",
        )
    members = {_DOCUMENT: np.frombuffer(text, dtype=np.uint8)}
    with store.write(name) as writer, _FileOf(writer) as file:
        write_arrays(file, members | {str(number): array for number, array in enumerate(arrays)})


def read_snapshot(store: Store, name: str) -> Snapshot | None:
    """Read the file.

    Args:
        store: Where.
        name: The file's name.

    Returns:
        What is in it; ``None`` where there is no file.

    Raises:
        StateError: It is not such a file, or of another version.
        StorageError: It cannot be read.
    """
    # Not being able to read it must not be taken for a file that is no saved run.
    data = store.read_if_there(name, _MOST_BYTES)
    return None if data is None else parse_snapshot(data, name)


def parse_snapshot(data: bytes, name: str) -> Snapshot:
    """The run that a file's bytes stand for, whoever wrote them. No model is needed.

    Args:
        data: The bytes. Memory is taken in proportion to their number.
        name: The file's name, for errors.

    Raises:
        StateError: They are no saved run, or one of another version of shardkit.
    """
    try:
        return _parsed(data, name)
    except StateError:
        raise
    except (ValueError, RecursionError) as exc:
        raise StateError(
            f"{name} is not a saved run: {exc}", setting="directory",
            advice="Delete it to begin from the start, or give Resume another directory",
        ) from exc  # fmt: skip


def _parsed(data: bytes, name: str) -> Snapshot:
    arrays = read_arrays(data)
    text = arrays.pop(_DOCUMENT, None)
    if text is None or text.dtype != np.uint8 or text.ndim != 1:
        raise ValueError("it has no document")
    if len(text) > _MOST_DOCUMENT_BYTES:
        raise ValueError(f"its document has {len(text)} bytes")
    fields = Fields(load_json(text.tobytes()), "its document")
    version = fields.count(_VERSION)
    if version != SNAPSHOT_VERSION:
        raise StateError(
            f"{name} was saved by another version of shardkit",
            setting=_VERSION, expected=version, found=SNAPSHOT_VERSION,
            advice="Resume with that version of shardkit, or give Resume another directory",
        )  # fmt: skip
    if set(arrays) != {str(number) for number in range(len(arrays))}:
        raise ValueError("it has arrays that are not known")
    decoder = Decoder([arrays[str(number)] for number in range(len(arrays))])
    return _snapshot(fields, decoder)


def _document(snapshot: Snapshot, arrays: list[Array]) -> dict[str, Any]:
    return {
        _VERSION: SNAPSHOT_VERSION,
        "backend": snapshot.backend,
        "epoch": snapshot.epoch,
        "step": snapshot.step,
        "finished": snapshot.finished,
        "stopped": snapshot.stopped,
        "logs": {name: to_plain(value, f"the metric {name}", arrays) for name, value in snapshot.logs.items()},
        "loader": snapshot.loader,
        "variables": snapshot.variables.document(arrays),
        "callbacks": [
            {
                "name": each.name,
                "values": {
                    name: to_plain(value, f"{name} of {each.name}", arrays) for name, value in each.values.items()
                },
            }
            for each in snapshot.callbacks
        ],
        "random": {name: to_plain(value, f"the state of {name}", arrays) for name, value in snapshot.random.items()},
    }


def _snapshot(fields: Fields, decoder: Decoder) -> Snapshot:
    found = Snapshot(
        backend=fields.name("backend"),
        epoch=fields.count("epoch"),
        step=fields.count("step"),
        finished=fields.flag("finished"),
        stopped=fields.flag("stopped"),
        logs=_values(fields.any("logs"), "logs", decoder),
        loader=fields.object("loader"),
        variables=SavedVariables.of(fields.any("variables"), decoder),
        callbacks=tuple(_callback(each, decoder) for each in fields.list("callbacks")),
        random=_values(fields.any("random"), "random", decoder),
    )
    fields.finish()
    decoder.finish()
    if not all(isinstance(value, (float, np.ndarray)) for value in found.logs.values()):
        raise ValueError("a metric is no number")
    return found


def _callback(document: Any, decoder: Decoder) -> CallbackState:
    fields = Fields(document, "a callback")
    name = fields.name("name")
    state = CallbackState(name, _values(fields.any("values"), f"the callback {name}", decoder))
    fields.finish()
    return state


def _values(document: Any, where: str, decoder: Decoder) -> dict[str, Any]:
    if type(document) is not dict or not all(is_name(name) for name in document):
        raise ValueError(f"{where} is no object")
    return {name: decoder.value(value, f"{name} of {where}") for name, value in document.items()}
