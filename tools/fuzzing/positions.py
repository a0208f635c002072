"""Saved positions, and the files that hold saved runs."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self, cast

import ml_dtypes
import numpy as np

from fuzzing.mutate import MOST_BYTES, ODD_NUMBERS, changed_bytes, changed_json
from fuzzing.target import damaged
from shardkit.adapters.keras import snapshot
from shardkit.adapters.keras.saved import SavedVariables
from shardkit.loader.order import EpochOrder, OrderNumbers, Share
from shardkit.loader.state import Position, make_state, read_state

if TYPE_CHECKING:
    from random import Random

    from shardkit.storage import Store

__all__ = ["PositionTarget", "ResumeTarget"]

_ORDER = OrderNumbers(
    fingerprint="0123456789abcdef" * 2, num_samples=1000, batch_size=32, drop_remainder=True, seed=7, shuffled=True,
    chunk_samples=20, lanes=4, span=50, first_span=16,
)  # fmt: skip
_NAME = "resume.npz"
_DOCUMENT = f"{snapshot._DOCUMENT}.npy"  # noqa: SLF001 (the file's format)


class PositionTarget:
    """`read_state`, and the first batch at the position that it gives."""

    def __init__(self) -> None:
        self._states = [make_state(_ORDER, "train", position) for position in (Position(0, 0), Position(3, 17))]
        self.seeds = [json.dumps(state).encode() for state in self._states]

    def mutant(self, rng: Random) -> bytes:
        """A changed document."""
        if rng.random() < 0.3:
            return damaged(rng, self.seeds)
        state = changed_json(rng, rng.choice(self._states))
        if isinstance(state, dict) and rng.random() < 0.5:
            # What is compared first would hide the rest.
            state |= {"split": "train", "order": asdict(_ORDER), "epoch": rng.choice(ODD_NUMBERS)}
            state["step"] = rng.choice(ODD_NUMBERS)
        text = json.dumps(state)
        if rng.random() < 0.02:
            text = rng.choice(("[", '{"a":')) * rng.choice((100, 1000, 100_000)) + text
        return text.encode()

    def parse(self, data: bytes) -> None:
        """Read it as bytes and as text, and go there."""
        position = read_state(data, _ORDER, "train")
        assert 0 <= position.step < _ORDER.num_steps, "no step of the epoch"
        assert position == read_state(json.loads(data), _ORDER, "train"), "a dictionary is read as another position"
        _, samples = next(EpochOrder(_ORDER, position.epoch).batches(Share(), position.step))
        assert len(samples) == _ORDER.batch_size, "no whole batch"
        assert read_state(make_state(_ORDER, "train", position), _ORDER, "train") == position, "another position"


class ResumeTarget:
    """`parse_snapshot`, which is all that sees the file of a saved run before it is compared with a model."""

    def __init__(self) -> None:
        self.seeds = [_written(_run(number)) for number in range(3)]
        members = [_members(seed) for seed in self.seeds]
        self._documents = [json.loads(_document_of(each)) for each in members]
        self._members = [[one for one in each if one[0] != _DOCUMENT] for each in members]

    def mutant(self, rng: Random) -> bytes:
        """A changed file, or a whole one of a changed document or of changed members."""
        kind = rng.random()
        if kind < 0.25:
            return damaged(rng, self.seeds)
        at = rng.randrange(len(self.seeds))
        members, document = self._members[at], self._documents[at]
        if kind < 0.65:
            document = changed_json(rng, document)
            if isinstance(document, dict) and rng.random() < 0.8:
                # What is looked at first would hide the rest.
                document["shardkit_snapshot"] = snapshot.SNAPSHOT_VERSION
            text = json.dumps(document).encode()
            if rng.random() < 0.02:
                text = text.replace(b"0.5", rng.choice((b"[", b'{"":', b'{"list":[')) * rng.choice((49, 1000, 30_000)))
        else:
            members, text = _changed_members(rng, members), json.dumps(document).encode()
        return _zipped(rng, [(_DOCUMENT, _array_file(np.frombuffer(text, dtype=np.uint8))), *members])

    def parse(self, data: bytes) -> None:
        """Read it, and see that every field is of its kind."""
        found = snapshot.parse_snapshot(data, _NAME)
        for count in (found.epoch, found.step):
            assert type(count) is int, "a count is none"
            assert count >= 0, "a count is negative"
        assert type(found.finished) is type(found.stopped) is bool, "a flag is none"
        assert type(found.loader) is dict, "no position"
        for name, (shape, dtype) in found.variables.kinds.items():
            assert type(name) is type(dtype) is str, "a name is none"
            assert all(type(size) is int and size >= 0 for size in shape), "a shape is none"
            assert found.variables.values[name].dtype == np.uint8, "a variable is no bytes"
        assert found.variables.values.keys() == found.variables.kinds.keys(), "a variable has no value"
        for callback in found.callbacks:
            assert type(callback.name) is str, "a callback has no name"
        values = [found.logs, found.random, *(callback.values for callback in found.callbacks)]
        assert all(map(_is_plain, values)), "a value is of a kind that is not saved"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, np.ndarray | np.generic):
        return not value.dtype.hasobject
    return value is None or type(value) in (bool, int, float, str)


def _run(number: int) -> snapshot.Snapshot:
    """A saved run: early, stopped, or with all kinds of values."""
    numbers = np.random.default_rng(number)
    kinds = {f"v{at}": (shape, kind) for at, (shape, kind) in enumerate([((3, 4), "float32"), ((), "int64")])}
    arrays = {"a": numbers.random((2, 3)), "b": np.arange(3, dtype=np.int8), "c": np.zeros((0, 2), dtype=np.complex64)}
    values: dict[str, Any] = {
        "best": 0.5, "wait": np.int64(3), "text": "é", "nothing": None, "pair": (1, [2.5, True]),
        "by": {1: arrays["b"], None: {}}, "small": ml_dtypes.bfloat16(1.5), "more": arrays,
    }  # fmt: skip
    return snapshot.Snapshot(
        backend="tensorflow", epoch=number, step=5 * number, finished=number == 2, stopped=number == 1,
        logs={"loss": 0.5, "accuracy": np.float64(0.25)} if number else {},
        loader=make_state(_ORDER, "train", Position(2, 5)),
        variables=SavedVariables(
            kinds=kinds if number else {},
            values={name: np.frombuffer(numbers.bytes(48), dtype=np.uint8) for name in (kinds if number else {})},
            optimizers={"optimizer": list(kinds)},
            unbuilt=("layer",),
        ),
        callbacks=(snapshot.CallbackState("Mine", values), snapshot.CallbackState("EarlyStopping", {})),
        random={"python": random.Random(0).getstate()} if number else {},
    )  # fmt: skip


class _MemoryWriter:
    """A store of one object, as far as writing needs one."""

    data = b""

    def write(self, data: Any) -> Any:
        if isinstance(data, str):  # the object's name
            return self
        self.data += bytes(data)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _written(run: snapshot.Snapshot) -> bytes:
    store = _MemoryWriter()
    snapshot.write_snapshot(cast("Store", store), _NAME, run)
    return store.data


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _document_of(members: list[tuple[str, bytes]]) -> bytes:
    found: Any = np.load(io.BytesIO(dict(members)[_DOCUMENT]))
    return bytes(found)


def _array_file(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


_HEADERS = (
    b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }   \n",
    b"{'descr': '<f8', 'fortran_order': True, 'shape': (-1,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807, 9223372036854775807), }\n",
    b"{'descr': '|u99', 'fortran_order': False, 'shape': (0,), }\n",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1, " * 200 + b"), }\n",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"0" * 500 + b"), }\n",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807), }",
    b"{'descr': [('a', '<i4'), ('b', '|O')], 'fortran_order': False, 'shape': (1,), }",
    b"{'descr': '|V1000000000', 'fortran_order': False, 'shape': (0,), }",
    b"{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,), }",
    b"{'descr': '<U99999999', 'fortran_order': False, 'shape': (100,), }",
    b"{'descr': 7}",
    b"[" * 3000,
)


def _changed_members(rng: Random, members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Arrays changed in their bytes, headers, names or number."""
    members = members or [("0.npy", _array_file(np.zeros(3)))]
    for _ in range(rng.choice((1, 1, 2))):
        members = list(members)
        at, kind = rng.randrange(len(members)), rng.randrange(8)
        name, content = members[at]
        if kind == 0:
            members.append((name, content))
        elif kind == 1:
            members.append((rng.choice(("x", "x.npy", "../x.npy", "", "document", "a/b.npy", "\0.npy")), content))
        elif kind == 2:
            members[at] = (name, content + bytes(rng.choice((1, 1000, 50_000_000 if rng.random() < 0.01 else 5))))
        elif kind == 3:
            header = rng.choice(_HEADERS)
            version = rng.choice((b"\x01\0", b"\x01\0", b"\x02\0", b"\x03\0", b"\x09\0"))
            width = 2 if version[0] == 1 else 4
            front = b"\x93NUMPY" + version + len(header).to_bytes(width, "little")
            members[at] = (name, front + header + content[128:])
        elif kind == 4:
            kinds = ("<f4", ">f8", "<i8", "|u1", "|b1", "<c16", "<f2", "<M8[s]", "<U3", "|S9", "<f16")
            shape = rng.choice(((), (0,), (3,), (2, 0, 5), (1,) * 32))
            members[at] = (name, _array_file(np.zeros(shape, dtype=rng.choice(kinds))))
        elif kind == 5:
            del members[at]
            members = members or [(name, content)]
        else:
            members[at] = (name, changed_bytes(rng, content))
    return members


def _zipped(rng: Random, members: list[tuple[str, bytes]]) -> bytes:
    """A file with right checksums, at times compressed or changed afterwards."""
    out = io.BytesIO()
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    large = sum(len(content) for _, content in members) > MOST_BYTES
    how = method if large or rng.random() < 0.05 else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", how) as new:
        warnings.simplefilter("ignore")  # of a member that is there twice
        for name, content in members:
            new.writestr(zipfile.ZipInfo(name or "x"), content, new.compression)
    found = out.getvalue()
    return changed_bytes(rng, found) if rng.random() < 0.1 else found[:MOST_BYTES]
