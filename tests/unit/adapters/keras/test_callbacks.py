"""What of the other callbacks is saved and put back: what is declared, and nothing else."""

import keras
import numpy as np
import pytest
from keras_sources import unknown_attributes

import shardkit
from shardkit.adapters.keras.callbacks import OtherCallbacks
from shardkit.adapters.keras.snapshot import CallbackState

WEIGHTS = [np.zeros((2, 3), np.float32), np.zeros(3, np.float32)]


class Counter(keras.callbacks.Callback):
    resume_attributes = ("count", "seen")

    def __init__(self):
        super().__init__()
        self.count, self.seen, self.path, self.table = 0, [], "here", {"a": [1]}


class Undeclared(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.count, self.names, self.path, self.inner = 0, {"a"}, "here", type("Inner", (), {})()
        self.mean, self.dice, self.function = keras.metrics.Mean(), np.random.default_rng(1), lambda: 3
        self.model_of_mine = keras.Sequential()


class Patient(keras.callbacks.EarlyStopping):
    resume_attributes = ("steps",)
    steps = 0


class Silent(Undeclared):
    resume_attributes = ()


def check(callback, **values):
    OtherCallbacks([callback]).check([CallbackState(type(callback).__name__, values)], lambda: WEIGHTS)


def test_what_is_declared_is_put_back_and_nothing_else():
    first, second = Counter(), Counter()
    first.count, first.seen, first.path = 3, [1, (2, np.arange(2))], "there"
    states = OtherCallbacks([first]).states()
    assert set(states[0].values) == {"count", "seen"}
    others = OtherCallbacks([second])
    others.check(states, list)
    others.put_back(states)
    assert (second.count, second.path, second.seen[0]) == (3, "here", 1)
    assert second.seen[1][1].tolist() == [0, 1]
    assert second.seen is not first.seen


def test_a_file_cannot_set_anything_else():
    for callback, name in [
        (Counter(), "path"),
        (Counter(), "__class__"),
        (Counter(), "_model"),
        (Undeclared(), "count"),
        (Patient(), "patience"),
        (keras.callbacks.ModelCheckpoint("a.keras"), "filepath"),
        (keras.callbacks.ModelCheckpoint("a.keras"), "save_freq"),
        (keras.callbacks.CSVLogger("a.csv"), "filename"),
        (keras.callbacks.TensorBoard("a"), "log_dir"),
        (keras.callbacks.BackupAndRestore("a"), "backup_dir"),
        (keras.callbacks.RemoteMonitor(), "root"),
        (keras.callbacks.LambdaCallback(), "on_epoch_end"),
    ]:
        with pytest.raises(shardkit.StateError, match=f"sets {name} of {type(callback).__name__}, which is not decl"):
            check(callback, **{name: "/elsewhere"})


@pytest.mark.parametrize("value", ["3", [3], {"a": 3}, -1, 1.5, True, np.arange(3)])
def test_another_kind_of_value_is_refused(value):
    for callback, name in [(Patient(), "wait"), (keras.callbacks.ModelCheckpoint("a.keras"), "_last_batch_seen")]:
        with pytest.raises(shardkit.StateError, match=f"sets {name} of .* to something else than a count"):
            check(callback, **{name: value})


def test_kinds_of_keras():
    history = {"loss": [0.5, np.arange(2)], "val": [None]}
    check(keras.callbacks.History(), epoch=[0, 1], history=history)
    check(keras.callbacks.CSVLogger("a.csv"), keys=["loss", "val"])
    check(Patient(), best=np.float32(3), best_weights=[each + 1 for each in WEIGHTS], steps="anything")
    check(Patient(), best=None, best_weights=None)
    for name, value in [
        ("epoch", [1.5]),
        ("epoch", [-1]),
        ("history", [1]),
        ("history", {"a": 1}),
        ("history", {1: []}),
    ]:
        with pytest.raises(shardkit.StateError, match=f"sets {name} of History"):
            check(keras.callbacks.History(), **{name: value})
    wrong = [WEIGHTS[0], WEIGHTS[1].astype("float64")]
    for value in ([], WEIGHTS[:1], [*WEIGHTS, WEIGHTS[0]], WEIGHTS[::-1], wrong, ["a", "b"], 3, {"a": 1}):
        with pytest.raises(
            shardkit.StateError, match="sets best_weights of Patient to something else than the model's"
        ):
            check(Patient(), best_weights=value)


def test_callbacks_are_told_apart_by_name_and_order():
    first, second, third = Counter(), Counter(), Patient()
    first.count, second.count, third.steps = 1, 2, 3
    states = OtherCallbacks([first, third], [second]).states()
    others = [Counter(), Counter(), Patient()]
    resumed = OtherCallbacks([others[2], others[0]], [others[1]])
    resumed.put_back(states, after=False)
    assert [each.count for each in others[:2]] == [1, 0]
    resumed.put_back(states, before=False)
    assert [each.count for each in others[:2]] == [1, 2]
    assert others[2].steps == 3


def test_what_changes_and_is_not_declared_is_told_once():
    callback = Undeclared()
    others = OtherCallbacks([callback])
    assert others.undeclared() == []
    callback.count += 1
    assert others.undeclared() == ["count of Undeclared"]
    callback.count += 1
    callback.names.add("b")
    callback.inner.hidden = 1
    callback.mean.update_state(1.0)
    callback.dice.normal()
    callback.function = print
    callback.made = object()
    found = {f"{name} of Undeclared" for name in ("names", "inner", "mean", "dice", "made")}
    assert set(others.undeclared()) == found
    assert others.undeclared() == []


def test_a_declaration_speaks_for_what_could_be_declared():
    callback = Counter()
    others = OtherCallbacks([callback])
    callback.count, callback.made = 1, object()
    callback.table["a"].append(2)
    assert others.undeclared() == ["table of Counter"]
    silent = Silent()
    others = OtherCallbacks([silent])
    silent.count = 5
    assert (others.undeclared(), others.states()[0].values) == ([], {})


def test_declarations_of_all_classes_count():
    class More(Patient):
        resume_attributes = ["more"]  # noqa: RUF012

        def __init__(self):
            super().__init__()
            self.more = (1, 2)

    values = OtherCallbacks([More()]).states()[0].values
    assert {"wait", "stopped_epoch", "best_weights", "steps", "more"} <= set(values)
    assert "patience" not in values


@pytest.mark.parametrize("names", ["wait", ("wait", 3), 5, None, {"wait"}, ("a b",), ("__class__",), ("",)])
def test_declarations_are_checked(names):
    callback = type("Mine", (keras.callbacks.Callback,), {"resume_attributes": names})()
    with pytest.raises(shardkit.ConfigError, match="resume_attributes of Mine must be a tuple of names") as caught:
        OtherCallbacks([callback])
    assert caught.value.setting == "resume_attributes"


@pytest.mark.parametrize("value", [object(), {1, 2}, keras.metrics.Mean(), np.array(["a"])])
def test_what_is_declared_and_cannot_be_saved_is_an_error(value):
    callback = Counter()
    callback.seen = [value]
    with pytest.raises(shardkit.ConfigError, match=r"cannot save seen of Counter: seen\[0\] is a"):
        OtherCallbacks([callback]).states()


def test_tensors_of_a_metric_are_saved_as_numbers():
    history = keras.callbacks.History()
    history.on_train_begin()
    history.history = {"loss": [keras.ops.convert_to_tensor(0.5)], "each": [keras.ops.ones((2,))]}
    found = OtherCallbacks([history]).states()[0].values["history"]
    assert found["loss"] == [0.5]
    assert found["each"][0].tolist() == [1.0, 1.0]


def test_every_callback_of_keras_is_known():
    assert unknown_attributes() == {}
