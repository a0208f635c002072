"""Where the test material lies: pictures and tar files that no one in this project wrote."""

import os
from pathlib import Path

import pytest

__all__ = ["material_dir"]


def material_dir(*parts: str) -> Path:
    """A folder or file of the material; skips the test where there is none on this machine.

    Args:
        parts: The path below the material's folder.

    Returns:
        The path, which exists.
    """
    named = os.environ.get("SHARDKIT_MATERIAL")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "material"
    found = root.joinpath(*parts)
    if not found.exists():
        pytest.skip(f"no test material at {found}: set SHARDKIT_MATERIAL to a folder that has it")
    return found
