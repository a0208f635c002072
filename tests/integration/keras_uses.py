"""What users do with `shardkit.to_keras`, each as a function that checks which images came.

``python keras_uses.py FOLDER`` runs all of them on the backend that ``KERAS_BACKEND`` names, over a data set of
`pictures.make_dataset` with the splits ``train`` and ``val``, and prints a line of JSON for each: its name, and what
went wrong or ``null``.
"""

import copy
import json
import multiprocessing
import os
import pickle
import sys
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
from pictures import numbers_in

import shardkit

SIZE = (16, 16)
BACKEND = keras.backend.backend()
VERSION = tuple(map(int, keras.__version__.split(".")[:2]))
USES = {}


def use(function):
    """Add a function to the list."""
    USES[function.__name__] = function
    return function


class Uses:
    """What each use needs: loaders, the plan, and a model that notes what it sees."""

    def __init__(self, folder):
        self.folder = folder

    def loader(self, split="train", **options):
        shuffle = {"shuffle": True, "chunk_size": 3, "lanes": 4} if split == "train" else {}
        return shardkit.Loader(self.folder, split, **{"batch_size": 8, "image_size": SIZE, **shuffle, **options})

    def data(self, split="train", repeat=False, map=None, **options):  # noqa: A002
        return shardkit.to_keras(self.loader(split, **options), repeat=repeat, map=map)

    def plan(self, *epochs, split="train", **options):
        loader = self.loader(split, **options)
        return [numbers_in(batch.arrays["image"]) for epoch in epochs for batch in loader.batches(epoch)]


def to_numpy(array):
    return np.asarray(keras.ops.convert_to_numpy(array))


class Recorder(keras.Model):
    """A classifier that notes the images, targets and weights that reach its steps."""

    def __init__(self):
        super().__init__()
        self.scale, self.flat = keras.layers.Rescaling(1 / 255), keras.layers.Flatten()
        self.dense = keras.layers.Dense(3)
        self.trained, self.targets, self.weights_seen, self.tested, self.predicted = [], [], [], [], []

    def call(self, images):
        return self.dense(self.flat(self.scale(images)))

    def train_step(self, *arguments):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(arguments[-1])
        self.trained.append(numbers_in(to_numpy(x)))
        self.targets.append(y)
        self.weights_seen.append(None if weights is None else to_numpy(weights).tolist())
        return super().train_step(*arguments)

    def test_step(self, *arguments):
        self.tested.append(numbers_in(to_numpy(keras.utils.unpack_x_y_sample_weight(arguments[-1])[0])))
        return super().test_step(*arguments)

    def predict_step(self, *arguments):
        self.predicted.append(numbers_in(to_numpy(keras.utils.unpack_x_y_sample_weight(arguments[-1])[0])))
        return super().predict_step(*arguments)


def compiled(model, **options):
    """The model, run step by step in Python."""
    jit = {} if BACKEND == "tensorflow" else {"jit_compile": False}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(**{"loss": loss, "run_eagerly": True, **jit, **options})
    return model


def recorder(**options):
    return compiled(Recorder(), **options)


class At(keras.callbacks.Callback):
    """Calls a function at one batch of each epoch, or at the end of each."""

    def __init__(self, function, batch=None):
        super().__init__()
        self.function, self.batch = function, batch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            self.function(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if self.batch is None:
            self.function(self.model)


def raises(kind, text, function):
    """Check that a call fails with a message."""
    try:
        function()
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__}")


# Looking at the data


@use
def a_loop_sees_the_epoch_that_is_served(uses):
    data = uses.data()
    for _ in range(2):
        assert [numbers_in(x) for x, _ in data] == uses.plan(0)
    labels = np.concatenate([y for _, y in data])
    assert labels.tolist() == [number % 3 for batch in uses.plan(0) for number in batch]


@use
def the_first_batch_is_real(uses):
    data = uses.data()
    x, y = next(iter(data))
    assert numbers_in(x) == uses.plan(0)[0]
    assert y.tolist() == [number % 3 for number in uses.plan(0)[0]]


@use
def the_length_is_read_before_a_batch(uses):
    data = uses.data()
    assert data.num_batches == len(data) == len(uses.plan(0))
    assert numbers_in(data[0][0]) == uses.plan(0)[0]
    assert numbers_in(data[1][0]) == uses.plan(0)[1]


@use
def normalization_is_adapted(uses):
    data, layer = uses.data("val"), keras.layers.Normalization()
    images = np.concatenate([x for x, _ in data]).astype("float32")
    if VERSION < (3, 14):
        # Keras takes no iterables here before, and fails.
        raises(Exception, "", lambda: layer.adapt(data))
        layer.adapt(images)
    else:
        layer.adapt(data)
    np.testing.assert_allclose(to_numpy(layer.mean).ravel(), images.mean((0, 1, 2)), rtol=1e-4)


@use
def a_batch_by_number_is_the_same_each_time(uses):
    data, plan = uses.data(), uses.plan(0)
    assert [numbers_in(data[3][0]) for _ in range(3)] == [plan[3]] * 3
    assert numbers_in(data[-1][0]) == plan[-1]
    assert [numbers_in(data[step][0]) for step in (5, 0, 6, 7, 1, 2, 4)] == [plan[i] for i in (5, 0, 6, 7, 1, 2, 4)]
    raises(IndexError, "there is no batch", lambda: data[len(data)])
    raises(TypeError, "a whole number", lambda: data["a"])


@use
def batches_by_number_from_threads(uses):
    data, plan = uses.data(), uses.plan(0)
    steps = [step for _ in range(4) for step in range(len(plan))]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda step: numbers_in(data[step][0]), steps))
    assert found == [plan[step] for step in steps]


@use
def data_without_labels(uses):
    data = uses.data("val", label_mode=None)
    plan = uses.plan(0, split="val")
    assert [numbers_in(x) for x in data] == plan
    model = recorder()
    assert len(model.predict(data, verbose=0)) == sum(map(len, plan))
    assert model.predicted == plan


@use
def the_epoch_can_be_set(uses):
    data = uses.data()
    data.epoch = 5
    assert [numbers_in(x) for x, _ in data] == uses.plan(5)
    model = recorder()
    model.fit(data, verbose=0)
    assert (model.trained, data.epoch) == (uses.plan(5), 6)
    raises(shardkit.ConfigError, "epoch", lambda: setattr(data, "epoch", -1))


# Training


@use
def fit_takes_an_epoch_each_time(uses):
    data, model = uses.data(), recorder()
    model.fit(data, epochs=2, verbose=0)
    model.fit(data, epochs=1, verbose=0)
    assert model.trained == uses.plan(0, 1, 2)


@use
def fit_without_shuffle(uses):
    model = recorder()
    model.fit(uses.data(), epochs=2, shuffle=False, verbose=0)
    assert model.trained == uses.plan(0, 1)


@use
def looks_before_and_between_fits_move_nothing(uses):
    data, model = uses.data(), recorder()
    data[0], next(iter(data)), data.num_batches, len(data), list(data)
    model.fit(data, verbose=0)
    data[0], next(iter(data)), data.num_batches, list(data)
    model.fit(data, verbose=0)
    assert model.trained == uses.plan(0, 1)


@use
def a_model_that_is_built_by_fit(uses):
    data, model = uses.data(), recorder()
    assert not model.dense.built
    model.fit(data, epochs=2, verbose=0)
    assert model.trained == uses.plan(0, 1)


@use
def validation_is_whole_each_time(uses):
    model = recorder()
    model.fit(uses.data(), validation_data=uses.data("val"), epochs=3, verbose=0)
    assert model.trained == uses.plan(0, 1, 2)
    assert model.tested == uses.plan(0, split="val") * 3


@use
def some_validation_steps(uses):
    model = recorder()
    model.fit(uses.data(), validation_data=uses.data("val"), validation_steps=2, epochs=3, verbose=0)
    assert model.tested == uses.plan(0, split="val")[:2] * 3
    model = recorder()
    shuffled = uses.data("val", shuffle=True, chunk_size=3)
    model.fit(uses.data(), validation_data=shuffled, validation_steps=1, epochs=3, verbose=0)
    assert model.tested == [numbers_in(shuffled[0][0])] * 3


@use
def the_same_data_validates(uses):
    data, model = uses.data(), recorder()
    model.fit(data, validation_data=data, epochs=2, verbose=0)
    assert model.trained == uses.plan(0, 1)
    assert model.tested == uses.plan(1, 2)


@use
def evaluate_and_predict_are_whole_passes(uses):
    data, model = uses.data("val"), recorder()
    model.evaluate(data, verbose=0)
    model.predict(data, verbose=0)
    assert model.tested == model.predicted == uses.plan(0, split="val")


@use
def a_callback_evaluates_and_iterates_over_the_training_data_in_mid_epoch(uses):
    data, model = uses.data(), recorder()

    def look(model):
        model.evaluate(data, verbose=0)
        assert len(list(data)) == len(data)
        data[3]

    # On JAX, evaluating ends the training state of a step; Keras says so where that is not allowed.
    model.fit(data, epochs=3, verbose=0, callbacks=[At(look, batch=5)])
    assert model.trained == uses.plan(0, 1, 2)
    assert model.tested == uses.plan(0, 1, 2)


@use
def a_callback_predicts_over_the_training_data_in_mid_epoch(uses):
    data, model = uses.data(), recorder()
    model.fit(data, epochs=2, verbose=0, callbacks=[At(lambda model: model.predict(data, verbose=0), batch=2)])
    assert model.trained == uses.plan(0, 1)
    assert model.predicted == uses.plan(0, 1)


@use
def a_callback_iterates_in_mid_epoch(uses):
    data, model, seen = uses.data(), recorder(), []
    note = At(lambda _: seen.append([numbers_in(x) for x, _ in data]), batch=4)
    model.fit(data, epochs=2, verbose=0, callbacks=[note])
    assert model.trained == uses.plan(0, 1)
    assert seen == [uses.plan(0), uses.plan(1)]


@use
def a_callback_evaluates_the_training_data_at_the_end_of_each_epoch(uses):
    data, model = uses.data(), recorder()
    model.fit(data, epochs=2, verbose=0, callbacks=[At(lambda model: model.evaluate(data, verbose=0))])
    assert model.trained == uses.plan(0, 1)
    assert model.tested == uses.plan(1, 2)


@use
def several_callbacks_evaluate_the_training_data(uses):
    data, model = uses.data(), recorder()
    looks = [At(lambda model: model.evaluate(data, verbose=0), batch=batch) for batch in (2, 5)]
    model.fit(data, epochs=2, verbose=0, callbacks=looks)
    assert model.trained == uses.plan(0, 1)
    assert model.tested == uses.plan(0, 0, 1, 1)


@use
def fits_over_endless_data_continue(uses):
    data, model = uses.data(repeat=True), recorder()
    for _ in range(4):
        model.fit(data, steps_per_epoch=5, epochs=1, verbose=0)
    assert model.trained == uses.plan(0, 1, 2)[:20]


@use
def an_epoch_that_ends_one_step_early_begins_again(uses):
    data, model = uses.data(), recorder()
    for _ in range(2):
        model.fit(data, steps_per_epoch=len(data) - 1, epochs=1, verbose=0)
    assert model.trained == uses.plan(0)[:-1] * 2


@use
def the_epoch_is_set_by_a_callback(uses):
    data, model = uses.data(), recorder()
    model.fit(data, epochs=3, verbose=0, callbacks=[At(lambda _: setattr(data, "epoch", 0), batch=3)])
    assert model.trained == uses.plan(0, 0, 0)


@use
def two_models_train_in_turns(uses):
    data, first, second = uses.data(), recorder(), recorder()
    first.fit(data, verbose=0)
    second.fit(data, verbose=0)
    first.fit(data, verbose=0)
    assert first.trained + second.trained == uses.plan(0, 2, 1)


@use
def training_stops_in_mid_epoch_and_begins_the_epoch_again(uses):
    data, model = uses.data(), recorder()
    model.fit(data, verbose=0, callbacks=[At(lambda model: setattr(model, "stop_training", True), batch=3)])
    model.fit(data, verbose=0)
    assert model.trained == uses.plan(0)[:4] + uses.plan(0)


@use
def an_error_in_a_step_begins_the_epoch_again(uses):
    data, model = uses.data(), recorder()

    def fail(_):
        raise InterruptedError("stop here")

    raises(InterruptedError, "stop here", lambda: model.fit(data, verbose=0, callbacks=[At(fail, batch=3)]))
    model.fit(data, verbose=0)
    assert model.trained == uses.plan(0)[:4] + uses.plan(0)


@use
def steps_per_epoch_over_endless_data(uses):
    model = recorder()
    model.fit(uses.data(repeat=True), steps_per_epoch=5, epochs=4, verbose=0)
    assert model.trained == uses.plan(0, 1, 2)[:20]


@use
def steps_per_epoch_that_divides_the_epoch(uses):
    model = recorder()
    model.fit(uses.data(), steps_per_epoch=4, epochs=4, verbose=0)
    assert model.trained == uses.plan(0, 1)


@use
def one_batch_makes_an_epoch(uses):
    model = recorder()
    model.fit(uses.data(batch_size=70), epochs=3, verbose=0)
    assert model.trained == uses.plan(0, 1, 2, batch_size=70)


@use
def a_loader_that_resumes_within_an_epoch(uses):
    loader = uses.loader()
    loader.resume(loader.state(2, 3))
    raises(shardkit.ConfigError, "stands within an epoch", lambda: shardkit.to_keras(loader))
    data, model = shardkit.to_keras(loader, repeat=True), recorder()
    model.fit(data, steps_per_epoch=len(data), epochs=2, verbose=0)
    assert model.trained == uses.plan(2, 3, 4)[3 : 3 + 2 * len(data)]


@use
def class_weight_reaches_the_model(uses):
    model, weights = recorder(), {0: 1.0, 1: 2.0, 2: 5.0}
    model.fit(uses.data(), class_weight=weights, epochs=2, verbose=0)
    assert model.trained == uses.plan(0, 1)
    assert model.weights_seen == [[weights[number % 3] for number in batch] for batch in uses.plan(0, 1)]


@use
def class_weight_beside_other_weights_is_refused(uses):
    data = uses.data(map=lambda x, y: (x, y, np.ones(len(y), "float32")))
    raises(Exception, "class_weight", lambda: recorder().fit(data, class_weight={0: 1.0}, verbose=0))


@use
def workers_change_nothing(uses):
    data, model = uses.data(), recorder()
    data.workers, data.use_multiprocessing, data.max_queue_size = 4, True, 2
    model.fit(data, epochs=2, verbose=0)
    assert model.trained == uses.plan(0, 1)


class Wrapped(keras.utils.PyDataset):
    """A user's own data set around ours."""

    def __init__(self, data, **options):
        super().__init__(**options)
        self.data, self.given = data, []

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        found = self.data[index]
        self.given.append((index, numbers_in(found[0])))
        return found


@use
def an_own_pydataset_around_it(uses):
    for shuffle in (False, True):
        data, model = uses.data(), recorder()
        model.fit(Wrapped(data), epochs=2, shuffle=shuffle, verbose=0)
        assert sorted(model.trained) == sorted(uses.plan(0, 0))
        assert shuffle or model.trained == uses.plan(0, 0)


@use
def an_own_pydataset_around_it_with_workers(uses):
    # Which batches Keras's queue asks for is Keras's own affair: on JAX and torch, where it looks at the data before
    # training, its queue mixes epochs up, whatever the data set.
    plan = uses.plan(0)
    for options in ({"workers": 4}, {"workers": 4, "max_queue_size": 2}):
        for shuffle in (False, True):
            data, model = Wrapped(uses.data(), **options), recorder()
            model.fit(data, epochs=2, shuffle=shuffle, verbose=0)
            assert all(numbers == plan[index] for index, numbers in data.given)
            assert BACKEND != "tensorflow" or sorted(model.trained) == sorted(uses.plan(0, 0))


@use
def an_own_pydataset_that_sets_the_epoch(uses):
    class Moves(Wrapped):
        def on_epoch_end(self):
            self.data.epoch += 1

    data, model = Moves(uses.data()), recorder()
    data.data.epoch = 4
    model.fit(data, epochs=2, shuffle=False, verbose=0)
    first = uses.plan(*range(4, 12)).index(model.trained[0]) // len(data)
    assert model.trained == uses.plan(4 + first, 5 + first)


@use
def what_keras_3_16_plans_cuts_nothing(uses):
    """Keras 3.16 gives each process every n-th batch of a PyDataset."""
    from keras.src.trainers.data_adapters import py_dataset_adapter

    def every_other(self, *arguments, **options):
        raise AssertionError("a PyDataset's batches would be cut here")

    with mock.patch.object(py_dataset_adapter.PyDatasetAdapter, "__init__", every_other):
        data, model = uses.data(), recorder()
        model.fit(data, epochs=2, verbose=0)
    assert model.trained == uses.plan(0, 1)


@use
def processes_that_keras_would_cut_the_data_for_are_refused(uses):
    class Distribution:
        num_model_replicas = num_processes = 2
        auto_shard_dataset = True

    with mock.patch.object(keras.distribution, "distribution", Distribution):
        raises(shardkit.ConfigError, "world_size", lambda: recorder().fit(uses.data(), verbose=0))
        ranked = uses.data(rank=0, world_size=2)
        raises(shardkit.ConfigError, "auto_shard_dataset", lambda: recorder().fit(ranked, verbose=0))


@use
def an_old_keras_is_refused(uses):
    with mock.patch.object(keras, "__version__", "3.6.0"):
        raises(shardkit.ConfigError, "Keras 3.6.0 is not supported", uses.data)


@use
def a_keras_of_other_internals_is_refused(uses):
    from keras.src.trainers.epoch_iterator import EpochIterator

    init = EpochIterator.__init__

    def another(self, *arguments, **options):
        init(self, *arguments, **options)

    with mock.patch.object(EpochIterator, "__init__", another):
        raises(shardkit.ConfigError, "is not supported", lambda: recorder().fit(uses.data(), verbose=0))


# Other structures


@use
def a_map_gives_several_targets_and_weights(uses):
    def with_weights(x, y):
        return x, y, (y + 1).astype("float32")

    model = recorder()
    model.fit(uses.data(map=with_weights), epochs=2, verbose=0)
    assert model.trained == uses.plan(0, 1)
    assert model.weights_seen == [[number % 3 + 1 for number in batch] for batch in uses.plan(0, 1)]


@use
def a_map_gives_dictionaries(uses):
    inputs = keras.Input((*SIZE, 3), name="image", dtype="uint8")
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = {"kind": keras.layers.Dense(3, name="kind")(hidden), "sum": keras.layers.Dense(1, name="sum")(hidden)}
    model = keras.Model({"image": inputs}, outputs)
    model.compile(loss={"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "sum": "mse"})
    data = uses.data(map=lambda x, y: ({"image": x}, {"kind": y, "sum": x.mean((1, 2, 3), dtype="float32")[:, None]}))
    history = model.fit(data, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    x, y = data[2]
    assert numbers_in(x["image"]) == uses.plan(model and data.epoch)[2]
    assert y["kind"].tolist() == [number % 3 for number in numbers_in(x["image"])]


@use
def a_map_gives_two_inputs(uses):
    inputs = [keras.Input((*SIZE, 3)), keras.Input((*SIZE, 3))]
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Add()(inputs))))
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(uses.data(map=lambda x, y: ([x / 255.0, x / 255.0], y)), verbose=0)


@use
def a_map_that_changes_its_types_is_right_or_refused(uses):
    def weighted(x, y):
        return x, y, np.full(len(y), 0.5) if calls.append(None) or len(calls) > 1 else np.ones(len(y), "int64")

    calls, model = [], recorder()
    fit = lambda: model.fit(uses.data(map=weighted), verbose=0)  # noqa: E731
    if BACKEND == "tensorflow":
        raises(Exception, "TensorFlow needs the same", fit)
    else:
        fit()
        assert model.weights_seen[1] == [0.5] * 8


@use
def a_map_that_stops_is_an_error(uses):
    numbers = iter(range(3))
    data = uses.data(map=lambda x, y: (next(numbers), (x, y))[1])
    raises(Exception, "StopIteration", lambda: recorder().fit(data, verbose=0))
    raises(RuntimeError, "map= raised StopIteration", lambda: [numbers_in(x) for x, _ in data])
    raises(RuntimeError, "map= raised StopIteration", lambda: data[0])


@use
def what_keras_would_drop_is_refused(uses):
    data = uses.data()
    zeros = np.zeros(70)
    raises(shardkit.ConfigError, "given y", lambda: recorder().fit(data, y=zeros, verbose=0))
    raises(shardkit.ConfigError, "given sample_weight", lambda: recorder().fit(data, sample_weight=zeros, verbose=0))
    raises(shardkit.ConfigError, "given y", lambda: recorder().evaluate(data, zeros, verbose=0))
    raises(shardkit.ConfigError, "given y", lambda: recorder().fit(data, validation_data=(data, zeros), verbose=0))
    nested = uses.data(map=lambda x, y: (x, {"a": y}))
    raises(shardkit.ConfigError, "class_weight", lambda: recorder().fit(nested, class_weight={0: 1.0}, verbose=0))


@use
def a_map_is_no_function(uses):
    raises(shardkit.ConfigError, "map", lambda: uses.data(map=3))


# Copies


@use
def a_copy_serves_the_same(uses):
    data, model = uses.data(), recorder()
    model.fit(data, verbose=0)
    next(iter(data))
    for twin in (copy.deepcopy(data), pickle.loads(pickle.dumps(data)), copy.copy(data)):
        assert twin.epoch == 1
        assert [numbers_in(x) for x, _ in twin] == uses.plan(1)
        model = recorder()
        model.fit(twin, verbose=0)
        assert (model.trained, twin.epoch, data.epoch) == (uses.plan(1), 2, 1)


@use
def a_copy_in_a_spawned_process(uses):
    data = uses.data()
    with multiprocessing.get_context("spawn").Pool(1) as processes:
        assert processes.apply(numbers_of_batch, (data, 2)) == uses.plan(0)[2]


def numbers_of_batch(data, step):
    return numbers_in(data[step][0])


@use
def the_data_set_says_what_it_is(uses):
    data = uses.data()
    assert data.class_names == ("class-0", "class-1", "class-2")
    assert "epoch=0" in repr(data)
    assert "train" in repr(data)


def main(folder, *names):
    import keras_examples  # noqa: F401
    import keras_resume_uses  # noqa: F401

    warnings.simplefilter("ignore")
    uses = Uses(folder)
    for name in names or USES:
        try:
            USES[name](uses)
            problem = None
        except BaseException:  # noqa: BLE001
            problem = traceback.format_exc()
        print(json.dumps({"use": name, "problem": problem}), flush=True)


if __name__ == "__main__":
    sys.modules["keras_uses"] = sys.modules["__main__"]
    main(*sys.argv[1:])
