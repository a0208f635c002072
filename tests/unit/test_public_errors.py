"""Whatever arguments a public entry is given, only errors of ours come out.

The entries are found by walking `shardkit.__all__`, the classes there, and the classes of what is returned: one that
this file does not know of fails `test_every_entry_is_called`.

What is not tried, as it is Python's own: arguments that are missing or unknown (`TypeError`), and an index of another
kind or out of range (`TypeError`, `IndexError`, which the protocol of sequences wants). What Keras itself calls is not
called here, as Keras decides on its arguments.
"""

import contextlib
import inspect
import itertools
import os
import signal
import traceback
import typing
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from pictures import make_dataset

import shardkit
from shardkit.errors import ShardkitError
from shardkit.loader.config import LoaderOptions
from shardkit.storage import StoreKeywords

DUNDERS = ("__call__", "__getitem__", "__iter__", "__len__")
MOST_S = 60
# What the keywords of a function stand for.
KEYWORDS = {"Unpack[LoaderOptions]": LoaderOptions, "Unpack[StoreKeywords]": StoreKeywords}
# The kinds of objects that are made of what the public page gives. Only Keras calls the methods of `Resume`'s.
KINDS = (
    *("Loader", "Manifest", "Batch", "ArraySpec", "VerifyReport", "KerasDataset", "WebDatasetSamples", "OrderedWork"),
    *("Stats", "Position", "ShuffleQuality", "SampleRef", "Occurrence", "ImageLimits"),
)
# What only shardkit gives, where it makes an error.
MADE_BY_US = {("PackError", "failures")}
NOT_CALLED = {
    "ArraySpec": "holds what the loader made; nothing of it is checked or read",
    "Batch": "the same",
    "Manifest": "the same; from_json reads what comes from outside",
    "PackResult": "the same",
    "VerifyReport": "the same",
    "ShardkitWarning": "Python makes it",
    "__version__": "a text",
    "KerasDataset.__getitem__": "an index: TypeError and IndexError are Python's",
    "ImageLimits.allows": "given the costs that a decoder found",
    "ImageLimits.check": "the same",
    "ImageLimits.check_either": "the same",
    "ImageLimits.check_size": "the same",
    "KerasDataset.structured": "given batches of the loader's",
    "KerasDataset.batches_from": "given positions of the loader's",
    "Position.after": "given numbers of the loader's",
    "OrderedWork.__next__": "an iterator",
}


class Anything:
    def __init__(self, *_):
        pass


class Mute:
    """Has no text, no path and no number."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __fspath__ = __index__ = __float__ = __str__


def hostile():
    """Values that no parameter wants, by what they are; new ones each time."""
    return {
        "None": None,
        "True": True,
        "False": False,
        "negative": -1,
        "zero": 0,
        "one": 1,
        "2**63": 2**63,
        "2**200": 2**200,
        "too many digits": 10**5000,
        "nan": float("nan"),
        "inf": float("inf"),
        "-inf": float("-inf"),
        "half": 0.5,
        "complex": 1j,
        "empty": "",
        "blank": " ",
        "text": "abc",
        "digits": "9" * 5000,
        "NUL": "a\0b",
        "surrogate": "\ud800",
        "escapes": "\x1b[2J\r\n",
        "long": "x" * 50_000,
        "..": "..",
        "bytes": b"\xff\0",
        "list": [],
        "nested": [[1], [None]],
        "pair": ("a", None),
        "huge pair": (2**31, 2**62),
        "endless pair": (1, 10**400),
        "endless fraction": {"train": 10**400},
        "negative pair": (-1.0, float("nan")),
        "three": (1, 2, 3),
        "dictionary": {},
        "odd dictionary": {1: object(), "a": None},
        "set": {1},
        "generator": (number for number in "abc"),
        "array": np.array([1, 2]),
        "numpy number": np.int64(3),
        "object": object(),
        "mute": Mute(),
        "class": Anything,
        "function": lambda *_: None,
        "no URL": "http://[::1",
        "no bucket": "s3://",
        "one slash": "https:/user:password@host/x",
        "no scheme": "://",
        "other host": "file://host/x",
        "other scheme": "x://y",
        "closed port": "http://127.0.0.1:9/x",
        "braces": "{0..99999999}",
        "JSON": '{"shardkit_state": 1, "epoch": 1e999, "step": [], "order": {}, "split": ""}',
        "folder": "a folder",
        "file": "a file",
        "fifo": "a fifo",
        "missing": "missing",
    }


class Entry(typing.NamedTuple):
    """A function to call, the arguments with which it works, and what is done with what it returns."""

    call: typing.Callable
    valid: dict
    use: typing.Callable = lambda found: None


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data set, and a working folder with odd things in it."""
    root = tmp_path_factory.mktemp("world")
    # One shard: packing again reads the tables of all, for each argument that is none of packing's.
    data = make_dataset(root, 6, classes=2, size=8, shard_samples=6)
    work = root / "work" / "here"
    (work / "a folder").mkdir(parents=True)
    (work / "a file").write_bytes(b"nothing")
    os.mkfifo(work / "a fifo")
    return root, data


@pytest.fixture(autouse=True)
def _in_the_folder(world, monkeypatch):
    monkeypatch.chdir(world[0] / "work" / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(world[0] / "cache"))


def functions(world):
    """The public functions, with what they take."""
    root, data = world
    reaching = {"retries": 0, "timeout": 2.0}
    loader = shardkit.Loader(data, batch_size=2)
    packing = {"workers": 1, "shard_samples": 6, "progress": False}
    found = {
        "Loader": Entry(shardkit.Loader, {"url": data, "batch_size": 2, "image_size": (8, 8), **reaching}, first_batch),
        "pack": Entry(shardkit.pack, {"source": root / "pictures", "dest": data, **packing, **reaching}),
        "unpack": Entry(shardkit.unpack, {"url": data, "folder": root / "unpacked", **reaching}),
        "verify": Entry(shardkit.verify, {"url": data, **reaching}),
        "read_manifest": Entry(shardkit.read_manifest, {"url": data, **reaching}),
        "random_flip": Entry(shardkit.random_flip, {}),
        "random_resized_crop": Entry(shardkit.random_resized_crop, {}),
        "ImageLimits": Entry(
            shardkit.ImageLimits, {"pixels": 1, "memory": "1MB"}, lambda limits: (repr(limits), hash(limits))
        ),
        "to_keras": Entry(shardkit.to_keras, {"loader": loader}),
        "to_tf": Entry(shardkit.to_tf, {"loader": loader}),
        "to_webdataset": Entry(shardkit.to_webdataset, {"loader": loader}),
        "Resume": Entry(shardkit.Resume, {"loader": loader, "directory": root / "run"}),
    }
    for name in shardkit.__all__:
        if name.endswith("Error"):
            found[name] = Entry(getattr(shardkit, name), {"what": "it failed"}, lambda error: (str(error), repr(error)))
    return found


def made(world, kind):
    """An object of one of `KINDS`; Keras is imported for its own only."""
    _, data = world
    loader = shardkit.Loader(data, batch_size=2)
    makers = {
        "ArraySpec": lambda: loader.signature["image"],
        "Batch": lambda: loader.batch(0, 0),
        "ImageLimits": shardkit.ImageLimits,
        "KerasDataset": lambda: shardkit.to_keras(loader),
        "Loader": lambda: loader,
        "Manifest": lambda: loader.manifest,
        "Occurrence": lambda: loader.find("class-0/00000")[0],
        "OrderedWork": lambda: loader.batches(0),
        "Position": lambda: loader.position,
        "SampleRef": lambda: loader.explain(0, 0)[0],
        "ShuffleQuality": lambda: loader.shuffle_quality(0),
        "Stats": loader.stats,
        "VerifyReport": lambda: shardkit.verify(data),
        "WebDatasetSamples": lambda: shardkit.to_webdataset(loader),
    }
    assert makers.keys() == set(KINDS)
    found = makers[kind]()
    assert type(found).__name__ == kind
    return found


def methods(kind, thing):
    """The public methods of an object, with what they take where that is not nothing."""
    state = thing.state() if kind == "Loader" else None
    valid = {
        "Loader.batch": {"epoch": 0, "step": 0},
        "Loader.batch_length": {"step": 0},
        "Loader.explain": {"epoch": 0, "step": 0},
        "Loader.find": {"key": "class-0/00000"},
        "Loader.position_in": {"state": state},
        "Loader.resume": {"state": state},
        "Manifest.from_json": {"data": thing.to_json() if kind == "Manifest" else b""},
    }
    found = {}
    for name, member in vars(type(thing)).items():
        if name.startswith("_") and name not in DUNDERS:
            continue
        if any(name in vars(base) for base in type(thing).__mro__[1:-1]):  # Keras's own, called by it
            continue
        label = f"{kind}.{name}"
        if inspect.isfunction(member) or isinstance(member, classmethod | staticmethod):
            found[label] = Entry(getattr(thing, name), valid.get(label, {}), consumed)
        elif isinstance(member, property) and member.fset is not None:
            found[label] = Entry(setter(thing, name), {"value": getattr(thing, name)})
    return found


def setter(thing, name):
    def set_to(value):
        before = getattr(thing, name)
        setattr(thing, name, value)
        setattr(thing, name, before)

    return set_to


def first_batch(loader):
    with contextlib.closing(loader.batches(0)) as batches:
        next(batches, None)


def consumed(found):
    if isinstance(found, Iterator):
        list(itertools.islice(found, 2))
        if hasattr(found, "close"):
            found.close()


def parameters(function):
    """The names of a function's parameters, and of the keywords that it passes on."""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_error = inspect.isclass(function) and issubclass(function, ShardkitError)
            yield from function.places if is_error else KEYWORDS[parameter.annotation].__annotations__
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            yield parameter.name


@contextlib.contextmanager
def not_for_ever():
    """A call that hangs is a failure that says where."""

    def stop(*_):
        raise AssertionError(f"it hangs for {MOST_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def wrong_errors(label, entry):
    """What comes out of an entry besides errors of ours, when one argument after the other is hostile."""
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entry.use(entry.call(**entry.valid))  # works
        for name in parameters(entry.call):
            if (label, name) in MADE_BY_US:
                continue
            for what, value in hostile().items():
                try:
                    with not_for_ever():
                        entry.use(entry.call(**{**entry.valid, name: value}))
                except ShardkitError as error:
                    str(error)
                except BaseException as error:  # noqa: BLE001 (a panic of Rust's is no Exception)
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    said = f"{type(error).__name__}: {str(error)[:100]!r}"
                    wrong.append(f"{label}({name}={what}): {said} ({last.filename}:{last.lineno})")
    return wrong


def test_every_entry_is_called(world):
    called = functions(world)
    things = {kind: made(world, kind) for kind in KINDS}
    assert set(shardkit.__all__) == set(called) | (set(shardkit.__all__) & NOT_CALLED.keys())
    for name in shardkit.__all__:
        if inspect.isclass(getattr(shardkit, name)) and name not in called:
            assert name in {*KINDS, "PackResult", "ShardkitWarning"}
    found = {label for kind, thing in things.items() for label in methods(kind, thing)}
    assert {label for label in NOT_CALLED if "." in label} <= found | {"OrderedWork.__next__"}


@pytest.mark.parametrize("name", sorted(set(shardkit.__all__) - NOT_CALLED.keys()))
def test_a_function_raises_only_errors_of_ours(world, name):
    assert not (wrong := wrong_errors(name, functions(world)[name])), "\n" + "\n".join(wrong)


def test_what_a_callback_declares_raises_only_errors_of_ours(world):
    keras = pytest.importorskip("keras")
    from shardkit.adapters.keras.callbacks import OtherCallbacks

    root, data = world
    loader = shardkit.Loader(data, batch_size=2)

    def declared(resume_attributes, held):
        one = type("Mine", (keras.callbacks.Callback,), {"resume_attributes": resume_attributes})()
        one.held = held
        callbacks = [shardkit.Resume(loader, root / "run"), one]
        keras.callbacks.CallbackList(callbacks, model=keras.Model())
        return OtherCallbacks([one])

    def saved(others):
        others.states()
        others.undeclared()

    wrong = wrong_errors("resume_attributes", Entry(declared, {"resume_attributes": ("held",), "held": 1}, saved))
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_raises_only_errors_of_ours(world, kind):
    wrong = []
    for label, entry in methods(kind, made(world, kind)).items():
        if label not in NOT_CALLED:
            wrong += wrong_errors(label, entry)
    assert not wrong, "\n" + "\n".join(wrong)
