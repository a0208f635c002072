"""Does the installed wheel do the main job, with nothing but its own dependencies?"""

import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import shardkit


def main() -> None:
    version = importlib.metadata.version("shardkit")
    assert version == shardkit.__version__
    assert "site-packages" in shardkit.__file__, shardkit.__file__
    assert (Path(shardkit.__file__).parent / "py.typed").is_file()
    assert importlib.util.find_spec("tensorflow") is None, "this environment must have the core dependencies only"
    command = str(Path(sys.executable).with_name("shardkit"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(12):
            path = root / "pictures" / f"class-{number % 2}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 30, 3), number * 20, np.uint8)).save(path)
        subprocess.run([command, "pack", root / "pictures", root / "shards", "--workers", "2"], check=True)
        subprocess.run([command, "verify", root / "shards"], check=True)
        loader = shardkit.Loader(root / "shards", batch_size=5, image_size=(8, 8), drop_remainder=False, shuffle=True)
        assert sum(len(images) for images, _ in loader) == 12
        try:
            shardkit.to_keras(loader)
        except ImportError as exc:
            assert "shardkit[tensorflow]" in str(exc)
        else:
            raise AssertionError("to_keras worked without Keras")
    print(f"shardkit {version}: the wheel works")


if __name__ == "__main__":
    main()
