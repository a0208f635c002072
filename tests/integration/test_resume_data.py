"""Which data `Resume` counts: those that its own `fit` trains from, whatever else reads them."""

import copy
import pickle
import threading

import fits
import keras
import numpy as np
import pytest
from fits import Stop, fit, loaders, make_model, same_arrays, seed, stopped
from pictures import make_dataset, numbers_in

import shardkit


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), 100, split="train=0.7,val=0.3", stratify=True)


def refused(model, data, callback, **options):
    """What `fit` says, which trains nothing."""
    with pytest.raises(shardkit.ConfigError) as caught:
        model.fit(data, epochs=1, verbose=0, callbacks=[callback], **options)
    assert model.optimizer.iterations.numpy() == 0
    return str(caught.value)


def test_another_loader_is_refused(dataset, tmp_path):
    train, val = loaders(dataset)
    twin = loaders(dataset)[0]
    for other in (val, twin):
        said = refused(make_model(), shardkit.to_keras(train), shardkit.Resume(other, tmp_path))
        assert "another loader than fit trains from" in said
        assert "Give the same loader object to shardkit.to_keras and to shardkit.Resume" in said
    assert not list(tmp_path.iterdir())


def test_other_data_are_refused(dataset, tmp_path):
    train = loaders(dataset)[0]
    data = shardkit.to_keras(train)

    class Wrapper(keras.utils.PyDataset):
        def __len__(self):
            return len(data)

        def __getitem__(self, index):
            return data[index]

    resume = shardkit.Resume(train, tmp_path)
    assert "fit trains from a PyDatasetAdapter" in refused(make_model(), Wrapper(), resume)
    images, labels = data[0]
    model = make_model()
    with pytest.raises(
        shardkit.ConfigError, match=r"shardkit\.to_keras\(loader\) itself, and what changes its batches"
    ):
        model.fit(images, labels, verbose=0, callbacks=[resume])
    with pytest.raises(shardkit.ConfigError, match=r"inside model\.fit only"):
        keras.callbacks.CallbackList([resume], model=model, epochs=1).on_train_begin()


def test_steps_that_cannot_be_counted_are_refused(dataset, tmp_path):
    train = loaders(dataset)[0]
    resume = shardkit.Resume(train, tmp_path)
    said = refused(make_model(), shardkit.to_keras(train), resume, steps_per_epoch=5)
    assert "Give fit shardkit.to_keras(loader, repeat=True)" in said


def test_a_new_run_begins_with_an_epoch(dataset, tmp_path):
    train = loaders(dataset)[0]
    train.resume(train.state(1, 3))
    said = refused(make_model(), shardkit.to_keras(train, repeat=True), shardkit.Resume(train, tmp_path))
    assert "a new run begins with an epoch" in said


def test_a_new_run_begins_where_the_data_stand(dataset, tmp_path):
    train = loaders(dataset)[0]
    data, model = shardkit.to_keras(train), make_model()
    data.epoch = 5
    model.fit(data, epochs=2, verbose=0, callbacks=[shardkit.Resume(train, tmp_path)])
    assert data.epoch == 7
    assert train.position.epoch == 0, "the loader is not moved"


class ReadEverywhere(keras.callbacks.Callback):
    """Evaluates the training data at an epoch's end, and predicts and iterates within an epoch."""

    resume_attributes = ("found",)

    def __init__(self, data):
        super().__init__()
        self.data, self.found = lambda: data, []

    def on_train_batch_end(self, batch, logs=None):
        if batch in {2, 5}:
            data = self.data()
            self.found += [float(self.model.predict(data, verbose=0).sum()), data.epoch]
            self.found += [int(labels.sum()) for _, labels in data][:2]
            self.found += self.model.evaluate(data, verbose=0)

    def on_epoch_end(self, epoch, logs=None):
        self.found += self.model.evaluate(self.data(), verbose=0)


class Trained(keras.Model):
    """Notes the images that it trains on. Its variables are there before training."""

    def __init__(self):
        super().__init__()
        self.dense, self.numbers = keras.layers.Dense(3), []
        self.build((None, 16, 16, 3))

    def build(self, shape):
        self.dense.build((None, 16 * 16 * 3))
        self.built = True

    def call(self, images):
        return self.dense(keras.ops.reshape(keras.ops.cast(images, "float32") / 255, (-1, 16 * 16 * 3)))

    def train_step(self, data):
        self.numbers.append(numbers_in(data[0]))
        return super().train_step(data)


def trained():
    model = Trained()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], run_eagerly=True)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("validate", [True, False])
def test_callbacks_may_read_the_training_data(dataset, tmp_path, validate):
    options = {"validate": validate}
    seed(1)
    plain = fit(dataset, tmp_path / "plain", model=trained(), **options)
    seed(1)
    readers = []

    def reader(data):
        readers.append(ReadEverywhere(data))
        return readers[-1]

    whole = fit(dataset, tmp_path / "whole", reader, model=trained(), **options)
    plan = [numbers_in(batch.arrays["image"]) for epoch in range(3) for batch in loaders(dataset)[0].batches(epoch)]
    assert whole[0].numbers == plain[0].numbers == plan
    same_arrays(whole[0].get_weights(), plain[0].get_weights())
    seed(1)
    for at in ((0, 4), (1, 0), (1, 7), (2, 3)):
        stopped(dataset, tmp_path / "parts", reader, at=at, model=trained(), **options)
    parts = fit(dataset, tmp_path / "parts", reader, model=trained(), **options)
    assert readers[-1].found == readers[0].found
    assert parts[1].history == whole[1].history
    same_arrays(parts[0].get_weights(), whole[0].get_weights())


def test_a_thread_may_read_the_training_data(dataset, tmp_path):
    class ReadElsewhere(keras.callbacks.Callback):
        resume_attributes = ()

        def __init__(self, data):
            super().__init__()
            self.data, self.found = lambda: data, []

        def read(self):
            self.found.append([numbers_in(images) for images, _ in self.data()])

        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                thread = threading.Thread(target=self.read)
                thread.start()
                thread.join()

    readers = []
    model = fit(dataset, tmp_path, lambda data: readers.append(ReadElsewhere(data)) or readers[-1], model=trained())[0]
    assert [numbers for epoch in readers[0].found for numbers in epoch] == model.numbers


def test_a_function_of_batches_is_applied_to_each(dataset, tmp_path):
    def data(loader):
        return shardkit.to_keras(loader, map=lambda images, labels: (images[:, :8] / np.float32(2), labels))

    seed(1)
    whole = fit(dataset, tmp_path / "whole", data=data, validate=False)
    seed(1)
    stopped(dataset, tmp_path / "parts", data=data, at=(1, 3), validate=False)
    parts = fit(dataset, tmp_path / "parts", data=data, validate=False)
    assert parts[1].history == whole[1].history
    same_arrays(parts[0].variables, whole[0].variables)


def test_class_weights_are_applied_after_a_stop(dataset, tmp_path):
    def run(directory, *callbacks):
        train = loaders(dataset)[0]
        model = make_model()
        callbacks = [shardkit.Resume(train, tmp_path / directory, every=0), *callbacks]
        model.fit(
            shardkit.to_keras(train), epochs=2, verbose=0, class_weight={0: 1.0, 1: 2.0, 2: 5.0}, callbacks=callbacks
        )
        return model

    seed(1)
    whole = run("whole")
    seed(1)
    with pytest.raises(InterruptedError):
        run("parts", Stop(1, 2))
    same_arrays(run("parts").variables, whole.variables)


def test_the_same_data_and_callback_train_on_after_an_exception(dataset, tmp_path):
    seed(1)
    whole = fit(dataset, tmp_path / "whole", validate=False)[0]
    seed(1)
    train = loaders(dataset)[0]
    data, model, resume = shardkit.to_keras(train), make_model(), shardkit.Resume(train, tmp_path / "parts", every=0)
    for at in ((0, 3), (1, 1), (2, 7)):
        with pytest.raises(InterruptedError) as caught:
            model.fit(data, epochs=3, verbose=0, callbacks=[resume, Stop(*at)])
        assert caught.tb is not None, "the frames of fit are still there"
        assert data.epoch == at[0]
    model.fit(data, epochs=3, verbose=0, callbacks=[resume])
    assert data.epoch == 3
    same_arrays(model.variables, whole.variables)


def test_a_callback_that_is_used_again_keeps_what_it_counted(dataset, tmp_path):
    class CountFirst(keras.callbacks.Callback):
        resume_attributes = ("epoch", "count")

        def __init__(self):
            super().__init__()
            self.epoch, self.count = None, 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            self.count += self.epoch == 0

    first, last = CountFirst(), CountFirst()
    stopped(dataset, tmp_path, first, at=(1, 3))
    stopped(dataset, tmp_path, first, at=(2, 3))
    fit(dataset, tmp_path, last)
    assert last.count == 8


def test_an_exception_does_not_freeze_the_data(dataset, tmp_path):
    train = loaders(dataset)[0]
    data, model = shardkit.to_keras(train), trained()
    plan = [[numbers_in(batch.arrays["image"]) for batch in train.batches(epoch)] for epoch in range(4)]
    with pytest.raises(InterruptedError):
        model.fit(data, epochs=3, verbose=0, callbacks=[shardkit.Resume(train, tmp_path, every=0), Stop(1, 3)])
    assert data.epoch == 1
    model.numbers.clear()
    model.fit(data, epochs=2, verbose=0)
    assert model.numbers == [*plan[1], *plan[2]], "the epoch begins again, as without Resume"
    data.epoch = 0
    assert numbers_in(data[0][0]) == plan[0][0]


def test_copies_before_training_have_the_same_loader(dataset, tmp_path):
    train = loaders(dataset)[0]
    resume = shardkit.Resume(train, tmp_path, every=0)
    data = shardkit.to_keras(train)
    copied = copy.deepcopy([resume])[0]
    make_model().fit(data, epochs=1, verbose=0, callbacks=[copied])
    make_model().fit(data, epochs=2, verbose=0, callbacks=[copy.copy(resume)])
    # Pickled together they have one loader; another directory has another run.
    data, resume = pickle.loads(pickle.dumps((data, shardkit.Resume(train, tmp_path / "other"))))
    make_model().fit(data, epochs=1, verbose=0, callbacks=[resume])
    assert (tmp_path / "other" / "resume.npz").exists()
    secret = shardkit.Resume(train, tmp_path, storage_options={"key": "value"})
    assert copy.deepcopy(secret)._loader is train
    with pytest.raises(shardkit.ConfigError, match="cannot be pickled"):
        pickle.dumps(secret)


def test_an_evaluation_with_the_callback_saves_nothing(dataset, tmp_path):
    train, val = loaders(dataset)
    model = make_model()
    resume = shardkit.Resume(train, tmp_path, every=0)
    with pytest.raises(InterruptedError):
        model.fit(shardkit.to_keras(train), epochs=2, verbose=0, callbacks=[resume, Stop(1, 3)])
    before = (tmp_path / "resume.npz").read_bytes()
    model.evaluate(shardkit.to_keras(val), verbose=0, callbacks=[resume])
    assert (tmp_path / "resume.npz").read_bytes() == before


@pytest.mark.slow
def test_endless_data_continue_within_an_epoch_of_theirs(dataset, tmp_path):
    def endless(loader):
        return shardkit.to_keras(loader, repeat=True)

    options = {"data": endless, "steps_per_epoch": 5, "epochs": 5}
    seed(1)
    whole = fit(dataset, tmp_path / "whole", **options)
    seed(1)
    for at in ((1, 4), (3, 1)):
        stopped(dataset, tmp_path / "parts", at=at, **options)
    parts = fit(dataset, tmp_path / "parts", **options)
    assert parts[1].history == whole[1].history
    same_arrays(parts[0].variables, whole[0].variables)
    # A run that continues from there with a directory of its own.
    train = loaders(dataset)[0]
    data = shardkit.to_keras(train, repeat=True)
    for name in ("one", "two"):
        resume = shardkit.Resume(train, tmp_path / name)
        fits.make_model().fit(data, steps_per_epoch=5, epochs=1, verbose=0, callbacks=[resume])
    assert data.epoch == 1
