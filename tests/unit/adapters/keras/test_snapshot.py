"""Whatever the bytes of a saved run are, it is a run of which every field is of its kind, or a `StateError`."""

import copy
import io
import json
import random
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

import shardkit
from shardkit.adapters.keras.plain import from_bytes, to_bytes
from shardkit.adapters.keras.saved import SavedVariables
from shardkit.adapters.keras.snapshot import CallbackState, Snapshot, parse_snapshot, read_snapshot, write_snapshot
from shardkit.storage import open_store

VALUES = {
    "count": 3,
    "big": 1 << 127,
    "rate": float("inf"),
    "text": "ä\n\ud800",
    "nothing": None,
    "place": (1, [2.5, True]),
    "by_epoch": {0: "a", "b": (), None: {}},
    "array": np.arange(6, dtype=">i2").reshape(2, 3).T,
    "empty": np.zeros((0, 3)),
    "scalar": np.float32(0.1),
    "brain": np.ones((2, 2), ml_dtypes.bfloat16),
}


def snapshot(**changes):
    variables = SavedVariables(
        {"model.kernel": ((2, 3), "float32"), "model.empty": ((0,), "int32")},
        {"model.kernel": np.arange(24, dtype=np.uint8), "model.empty": np.zeros(0, np.uint8)},
        {"model.optimizer": ("model.kernel",)},
        ("model.late",),
    )
    fields = {
        "backend": "jax", "epoch": 1, "step": 2, "finished": False, "stopped": True, "logs": {"loss": 0.5},
        "loader": {"shardkit_state": 1, "epoch": 3}, "variables": variables,
        "callbacks": (CallbackState("Mine", VALUES), CallbackState("Other", {})),
        "random": {"numpy": {"state": np.arange(3, dtype=np.uint32), "pos": 2}},
    }  # fmt: skip
    return Snapshot(**{**fields, **changes})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    write_snapshot(open_store(folder), "resume.npz", snapshot())
    return (folder / "resume.npz").read_bytes()


def parts(data):
    with np.load(io.BytesIO(data)) as found:
        arrays = {name: found[name] for name in found.files}
    return json.loads(arrays.pop("document").tobytes()), arrays


def made_of(document, arrays):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    file = io.BytesIO()
    np.savez(file, document=np.frombuffer(text, np.uint8), **arrays)
    return file.getvalue()


def zipped(*members, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def refused(data):
    with pytest.raises(shardkit.StateError, match=r"^resume\.npz is not a saved run: .*Delete it to begin") as caught:
        parse_snapshot(data, "resume.npz")
    return str(caught.value)


def test_everything_comes_back_as_it_was(saved, tmp_path):
    (tmp_path / "resume.npz").write_bytes(saved)
    found = read_snapshot(open_store(tmp_path), "resume.npz")
    assert (found.backend, found.epoch, found.step, found.finished, found.stopped) == ("jax", 1, 2, False, True)
    assert (found.logs, found.loader) == ({"loss": 0.5}, {"shardkit_state": 1, "epoch": 3})
    assert found.variables.kinds == snapshot().variables.kinds
    assert found.variables.optimizers == {"model.optimizer": ("model.kernel",)}
    assert found.variables.unbuilt == ("model.late",)
    assert found.variables.values["model.kernel"].tolist() == list(range(24))
    assert [each.name for each in found.callbacks] == ["Mine", "Other"]
    values = dict(found.callbacks[0].values)
    for name in ("array", "empty", "brain"):
        array = values.pop(name)
        assert array.dtype == VALUES[name].dtype
        assert array.flags.writeable
        np.testing.assert_array_equal(array, VALUES[name])
    assert values == {name: value for name, value in VALUES.items() if name in values}
    assert type(values["scalar"]) is np.float32
    assert type(values["place"]) is tuple
    assert read_snapshot(open_store(tmp_path), "none.npz") is None


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", 1 << 300, np.array([object()]), {(1,): 2}, iter([])])
def test_what_is_not_plain_is_not_written(tmp_path, value):
    with pytest.raises(shardkit.ConfigError, match="seen of Mine"):
        write_snapshot(
            open_store(tmp_path), "resume.npz", snapshot(callbacks=(CallbackState("Mine", {"seen": value}),))
        )
    assert not list(tmp_path.iterdir())


def test_what_holds_itself_is_not_written(tmp_path):
    value = []
    value.append(value)
    with pytest.raises(shardkit.ConfigError, match="nested"):
        write_snapshot(open_store(tmp_path), "resume.npz", snapshot(logs={"loss": value}))


def test_other_versions_are_named(saved):
    document, arrays = parts(saved)
    for version in (1, 2, 4):
        with pytest.raises(shardkit.StateError, match="another version of shardkit"):
            parse_snapshot(made_of({**document, "shardkit_snapshot": version}, arrays), "resume.npz")
    for version in (-1, 1.5, True, None, "3", 10**30):
        refused(made_of({**document, "shardkit_snapshot": version}, arrays))


DEEP = b"[" * 100_000
ARCHIVES = {
    "empty": b"",
    "text": b"no archive",
    "no members": zipped(),
    "no document": zipped(("0.npy", npy(np.zeros(3)))),
    "compressed": zipped(("document.npy", npy(np.zeros(10**6, np.uint8))), compression=zipfile.ZIP_DEFLATED),
    "lzma": zipped(("document.npy", npy(np.zeros(10**5, np.uint8))), compression=zipfile.ZIP_LZMA),
    "no array": zipped(("document.npy", b"{}")),
    "another name": zipped(("document", npy(np.zeros(3, np.uint8)))),
    "path": zipped(("document.npy", npy(np.frombuffer(b"{}", np.uint8))), ("../0.npy", npy(np.zeros(3)))),
    "floats": zipped(("document.npy", npy(np.zeros(3)))),
    "two dimensions": zipped(("document.npy", npy(np.zeros((3, 3), np.uint8)))),
    "structured": zipped(("document.npy", npy(np.zeros(3, "u1,u1")))),
    "texts": zipped(("document.npy", npy(np.array(["a"])))),
    "dates": zipped(("document.npy", npy(np.zeros(3, "M8[s]")))),
    "void": zipped(("document.npy", npy(np.zeros(3, "V4")))),
    "fortran": zipped(("document.npy", npy(np.zeros((2, 3), np.uint8, order="F")))),
    **{
        f"JSON {number}": zipped(("document.npy", npy(np.frombuffer(text, np.uint8))))
        for number, text in enumerate(
            (b"[]", b"1", b"null", b"{}", b"\xff", DEEP, b'{"a":' * 10**5, b"9" * 5000, b'{"a": 1, "a": 2}', b"NaN")
        )
    },
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_are_no_run(name):
    refused(ARCHIVES[name])


def test_pickles_are_not_opened():
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("it was opened",))

    file = io.BytesIO()
    np.savez(file, document=np.array([Evil()], dtype=object))
    assert "another type than numbers" in refused(file.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_twice(saved):
    document, _ = parts(saved)
    text = npy(np.frombuffer(json.dumps(document).encode(), np.uint8))
    assert "twice" in refused(zipped(("document.npy", text), ("document.npy", text)))


def with_header(header):
    """A member that claims an array of that header."""
    text = header.encode().ljust(118 - 1) + b"\n"
    return zipped(("document.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)))


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-64,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 99999999999999999999), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (63,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (64,,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (6 4,), }",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (64,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (8,), }",
        "{'descr': ('|u1', (8,)), 'fortran_order': False, 'shape': (8,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': __import__('os'), }",
        "(" * 100,
    ],
)
def test_arrays_that_claim_something_else(header):
    refused(with_header(header))


def test_members_that_share_bytes():
    """A quoted bomb: many entries of the directory name the same member."""
    array = npy(np.zeros(100_000, np.uint8))
    data = bytearray(zipped(("0.npy", array)))
    end = data.rindex(b"PK\x05\x06")
    start = data.index(b"PK\x01\x02")
    entry, tail = bytes(data[start:end]), data[end:]
    entries = b"".join(entry.replace(b"0.npy", b"%d.npy" % number) for number in range(9))
    tail[8:12] = (9).to_bytes(2, "little") * 2
    tail[12:16] = len(entries).to_bytes(4, "little")
    refused(bytes(data[:start]) + entries + bytes(tail))


HOSTILE = [None, True, -1, 1.5, float("nan"), 1 << 70, 10**80, "", "x" * 70_000, "\x1b[2J", [], [[]], {}, {"array": 0},
           {"array": -1}, {"array": "0"}, {"typed": ["float32", [1], 0]}, {"typed": ["bfloat16", [-1, -1], 0]},
           {"scalar": ["|O", "00"]}, {"scalar": ["<f4", "0"]}, {"scalar": ["<U9", "00"]}, {"dict": [[[], 1]]},
           {"dict": [[1]]}, {"list": 5}, {"tuple": {}}, {"set": []}, {"list": [], "tuple": []}]  # fmt: skip


def places(value, path=()):
    """Every place in a document."""
    yield path
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


def changed(document, path, value):
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def is_well(data):
    """Whether bytes are a run. Anything except a StateError fails the test."""
    try:
        found = parse_snapshot(data, "resume.npz")
    except shardkit.StateError as error:
        assert len(str(error)) < 3000
        assert str(error).isprintable()
        return False
    assert type(found.epoch) is type(found.step) is int
    assert type(found.finished) is type(found.stopped) is bool
    assert found.epoch >= 0 <= found.step
    assert all(type(name) is str for name in (found.backend, *found.variables.kinds, *found.variables.unbuilt))
    return True


def test_every_field_is_looked_at(saved):
    document, arrays = parts(saved)
    assert is_well(made_of(document, arrays))
    paths = [path for path in places(document) if path]
    fields = {path for path in paths if path[0] not in {"logs", "loader", "random", "callbacks"}}
    rng = random.Random(1)
    for path in paths:
        for value in HOSTILE if path in fields else rng.sample(HOSTILE, 6):
            if not is_well(made_of(changed(document, path, value), arrays)):
                continue
            # What is a name or a count may be another one.
            before = document
            for key in path:
                before = before[key]
            assert path not in fields or type(before) is type(value) or path == ("variables", "unbuilt"), (path, value)
    for name in document:
        without = {key: value for key, value in document.items() if key != name}
        refused(made_of(without, arrays))
    refused(made_of({**document, "more": 1}, arrays))
    for name in arrays:
        refused(made_of(document, {key: value for key, value in arrays.items() if key != name}))
    refused(made_of(document, {**arrays, str(len(arrays)): np.zeros(3)}))
    refused(made_of(document, {**arrays, "more": np.zeros(3)}))


def test_changed_bytes_are_named_errors_and_take_little_memory(saved):
    rng = random.Random(1)
    tracemalloc.start()
    try:
        for number in range(400):
            data = bytearray(saved)
            for _ in range(rng.choice((1, 1, 2, 8))):
                where = rng.choice((0, len(data) - 1200)) + rng.randrange(1200)
                data[where] = rng.choice((0, 255, rng.randrange(256)))
            if number % 5 == 0:
                del data[rng.randrange(len(data)) :][: rng.choice((1, 50, 5000))]
            is_well(bytes(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * 2**20


@pytest.mark.parametrize("text", [b"[[]," * 9 + b"[]" + b"]" * 9, b'{"a":{}},', b"[],", b'"",', b"1.5,", b"{},"])
def test_a_document_takes_memory_in_proportion_to_its_size(text):
    data = zipped(("document.npy", npy(np.frombuffer(b"[" + text * (10**6 // len(text)) + b"0]", np.uint8))))
    tracemalloc.start()
    try:
        refused(data)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_states_as_text():
    state = {"bit_generator": "PCG64", "state": {"state": 1 << 120, "inc": 3}, "key": np.arange(3, dtype=np.uint32)}
    found = from_bytes(to_bytes(state, "state"))
    np.testing.assert_array_equal(found.pop("key"), state.pop("key"))
    assert found == state
    for data in (b"", b"[]", b"[1, 2, 3]", b"[1, 2]", b"[1, [[1, 2, 3]]]", b'[1, [["<f4", [1], "00"]]]', DEEP,
                 b'[{"array": 0}, [["|O", [1], "00"]]]', b'[{"array": 0}, [["<f4", [-1, -1], "00000000"]]]',
                 b'[{"array": 0}, [["<f4", ["a"], "00000000"]]]'):  # fmt: skip
        with pytest.raises(ValueError, match="."):
            from_bytes(data)


def test_what_could_not_be_read_is_not_written(tmp_path):
    store = open_store(tmp_path)
    for changed in ({"logs": {"loss\n": 1.0}}, {"random": {"x" * 100_000: 1}}, {"logs": {"loss": "text"}}):
        with pytest.raises(shardkit.ConfigError, match="cannot be saved"):
            write_snapshot(store, "resume.npz", snapshot(**changed))
    assert list(tmp_path.iterdir()) == []
