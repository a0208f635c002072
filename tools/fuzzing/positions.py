"""Saved positions, and the files that hold saved runs."""

from __future__ import annotations

import io
import json
import random
import zipfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from fuzzing.mutate import ODD_NUMBERS, changed_bytes, changed_json, odd_value
from fuzzing.target import damaged
from shardkit.adapters.keras import snapshot
from shardkit.loader.order import EpochOrder, OrderNumbers, Share
from shardkit.loader.state import Position, make_state, read_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from shardkit.storage import Store

__all__ = ["PositionTarget", "ResumeTarget"]

_ORDER = OrderNumbers(
    fingerprint="0123456789abcdef" * 2, num_samples=1000, batch_size=32, drop_remainder=True, seed=7, shuffled=True,
    chunk_samples=20, lanes=4, span=50, first_span=16,
)  # fmt: skip
_NAME = "resume.npz"


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
    """The file of a saved run, and the values in its document."""

    def __init__(self) -> None:
        numbers = np.random.default_rng(0)
        arrays: dict[str, Any] = {
            f"variable.{at}": numbers.random(shape).astype(kind)
            for at, (shape, kind) in enumerate((((3, 4), "<f4"), ((), "<i8"), ((5,), "u1"), ((0, 2), "<f8")))
        }
        document: dict[str, Any] = {
            "finished": False, "stopped": False, "epoch": 2, "step": 5, "backend": "tensorflow",
            "loader": make_state(_ORDER, "train", Position(2, 5)), "callbacks": [["ModelCheckpoint", {"best": 0.5}]],
            "logs": {}, "optimizers": {"optimizer": ["a"]}, "unbuilt": [],
            "variables": [
                {"name": f"v{at}", "label": "kernel", "shape": list(arrays[f"variable.{at}"].shape), "dtype": "float32"}
                for at in range(4)
            ],
        }  # fmt: skip
        state = random.Random(0).getstate()
        document["random"] = snapshot.to_plain({"python": state, "numpy": numbers.random(4)}, "random", arrays)
        self._document, self._arrays = document, arrays
        self.seeds = [_written(document, arrays), _written({**document, "finished": True}, {})]
        self._parse = cast("Callable[[bytes, str], Any]", getattr(snapshot, "parse_snapshot", _read))

    def mutant(self, rng: Random) -> bytes:
        """A changed file, or a whole one of changed members."""
        kind = rng.random()
        if kind < 0.3:
            return damaged(rng, self.seeds)
        if kind < 0.6:
            document = changed_json(rng, self._document)
            if not isinstance(document, dict):
                document = {"shardkit_snapshot": document}
            try:
                return _written(document, self._arrays)
            except (ValueError, RecursionError):
                return damaged(rng, self.seeds)
        return _rewritten(rng, rng.choice(self.seeds))

    def parse(self, data: bytes) -> None:
        """Read it, and make values of what is in it."""
        found = self._parse(data, _NAME)
        assert isinstance(found.document, dict), "the document is no dictionary"
        for value in found.arrays.values():
            assert isinstance(value, np.ndarray), "an array that is none"
            assert not value.dtype.hasobject, "an array of objects"
        hash(repr(found.document)[:1000])


class _Memory:
    """A store of one object."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_if_there(self, name: str, most_bytes: int) -> bytes | None:  # noqa: ARG002
        return self.data

    def write(self, name: str) -> _Memory:  # noqa: ARG002
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _MemoryWriter(_Memory):
    def write(self, data: Any) -> Any:
        if isinstance(data, str):  # the object's name
            return self
        self.data += bytes(data)
        return None


def _read(data: bytes, name: str) -> Any:
    return snapshot.read_snapshot(cast("Store", _Memory(data)), name)


def _written(document: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    store = _MemoryWriter(b"")
    snapshot.write_snapshot(cast("Store", store), _NAME, snapshot.Snapshot(document, arrays))
    return store.data


_HEADERS = (
    b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    b"{'descr': '<f8', 'fortran_order': True, 'shape': (-1,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807), }",
    b"{'descr': [('a', '<i4'), ('b', '|O')], 'fortran_order': False, 'shape': (1,), }",
    b"{'descr': '|V1000000000', 'fortran_order': False, 'shape': (0,), }",
    b"{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,), }",
    b"{'descr': '<U99999999', 'fortran_order': False, 'shape': (100,), }",
    b"{'descr': 7}",
    b"[" * 3000,
)


def _rewritten(rng: Random, data: bytes) -> bytes:
    """The file with members changed in their bytes, headers, names, number or way of being compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = [(name, old.read(name)) for name in old.namelist()]
    for _ in range(rng.choice((1, 1, 2))):
        at, kind = rng.randrange(len(members)), rng.randrange(7)
        name, content = members[at]
        if kind == 0:
            members.append((name, content))
        elif kind == 1:
            members.append((rng.choice(("x", "x.npy", "../x.npy", "", "document", "a/b.npy", "\0.npy")), content))
        elif kind == 2:
            members[at] = (name, content + bytes(rng.choice((1, 1000, 50_000_000 if rng.random() < 0.01 else 5))))
        elif kind == 3:
            header = rng.choice(_HEADERS)
            version = rng.choice((b"\x01\0", b"\x02\0", b"\x03\0", b"\x09\0"))
            width = 2 if version[0] == 1 else 4
            members[at] = (
                name,
                b"\x93NUMPY" + version + len(header).to_bytes(width, "little") + header + content[128:],
            )
        elif kind == 4:
            text = json.dumps({"shardkit_snapshot": odd_value(rng), "epoch": odd_value(rng)}).encode()
            if rng.random() < 0.1:
                text = b"[" * 100_000
            out = io.BytesIO()
            np.save(out, np.frombuffer(text, dtype=np.uint8))
            members[at] = (f"{snapshot._DOCUMENT}.npy", out.getvalue())  # noqa: SLF001 (the file's format)
        else:
            members[at] = (name, changed_bytes(rng, content))
    out = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, method))) as new:
        for name, content in members:
            new.writestr(zipfile.ZipInfo(name or "x"), content, new.compression)
    found = out.getvalue()
    return changed_bytes(rng, found) if rng.random() < 0.1 else found
