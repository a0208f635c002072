"""The tests of `webdataset_workers.py`, in a process of their own.

They fork, as PyTorch's `DataLoader` does, and other tests leave threads of TensorFlow and JAX behind. A fork may not
end with those.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

TESTS = Path(__file__).with_name("webdataset_workers.py")


@pytest.mark.slow
def test_workers_share_the_epochs():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS]
    ran = subprocess.run(command, cwd=TESTS.parents[2], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    assert " skipped" not in ran.stdout
