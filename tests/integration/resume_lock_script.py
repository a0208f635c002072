"""Trains with `Resume`. Its arguments: data set, directory, and ``wait`` to wait in the third step."""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import shardkit


class Wait(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        print("step", batch, flush=True)
        if batch == 2 and "wait" in sys.argv[3:]:
            time.sleep(600)


def main():
    train = shardkit.Loader(sys.argv[1], "train", batch_size=8, image_size=(16, 16), shuffle=True)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(
        shardkit.to_keras(train), epochs=1, verbose=0, callbacks=[shardkit.Resume(train, sys.argv[2], every=0), Wait()]
    )


if __name__ == "__main__":
    main()
