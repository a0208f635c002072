"""The public page: what is there, and how light it is."""

import importlib
import subprocess
import sys
import time

import pytest

import shardkit

HEAVY = ["tensorflow", "keras", "pyarrow", "cv2", "PIL", "simplejpeg", "webdataset", "torch", "jax", "matplotlib"]


def test_everything_in_all_is_there_and_nothing_else_is_public():
    assert sorted(shardkit.__all__) == list(shardkit.__all__)
    for name in shardkit.__all__:
        assert getattr(shardkit, name) is not None
    assert dir(shardkit) == sorted(shardkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Lodaer'"):
        _ = shardkit.Lodaer


def test_public_names_have_docstrings_with_arguments_and_errors():
    for name in (
        "pack",
        "unpack",
        "verify",
        "read_manifest",
        "to_keras",
        "to_tf",
        "Loader",
        "random_flip",
        "random_resized_crop",
    ):
        text = getattr(shardkit, name).__doc__
        assert "Args:" in text
        assert "Raises:" in text, name


@pytest.mark.parametrize(
    "code",
    [
        "import shardkit",
        "import shardkit, sys; shardkit.__version__, shardkit.ShardkitError, shardkit.Batch",
        "import sys; sys.argv = ['x', '--help']; from shardkit.cli import main\ntry: main()\nexcept SystemExit: pass",
    ],
)
def test_what_is_heavy_is_not_imported(code):
    check = f"\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_importing_the_loader_needs_no_framework():
    code = "from shardkit.loader import Loader; import sys; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_help_does_not_hang():
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "shardkit.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
    # The promise is 0.4 s on an idle machine; ten times that is a hang.
    assert time.monotonic() - started < 4


def test_a_missing_framework_names_the_extra(monkeypatch):
    adapters = importlib.import_module("shardkit.adapters")
    for module in ("shardkit.adapters.keras.dataset", "shardkit.adapters.keras.resume", "shardkit.adapters.tensorflow"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'shardkit\[tensorflow\]'"):
        adapters.to_keras(None)
    with pytest.raises(ImportError, match=r"pip install 'shardkit\[tensorflow\]'"):
        adapters.to_tf(None)
    with pytest.raises(ImportError, match=r"pip install 'shardkit\[tensorflow\]'"):
        adapters.Resume(None, "run")


@pytest.mark.parametrize("name", ["to_keras", "to_tf", "to_webdataset", "Resume"])
@pytest.mark.parametrize("loader", [None, "data", [1, 2]])
def test_an_adapter_takes_nothing_but_a_loader(name, loader):
    with pytest.raises(shardkit.ConfigError, match=r"loader must be a shardkit\.Loader"):
        getattr(shardkit, name)(loader, *(["run"] if name == "Resume" else []))
