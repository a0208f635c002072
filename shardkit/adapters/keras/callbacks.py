"""What the other callbacks of a run have come to hold, such as counters of patience and the history.

Only what is declared is saved, and only what is declared is put back: a saved run is a file that anybody may have
changed, and could otherwise set a callback's path. `progress_table` declares for Keras's own callbacks, the class
attribute `resume_attributes` for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from shardkit.adapters.keras.changes import digest_of, is_function
from shardkit.adapters.keras.declared import Declared
from shardkit.adapters.keras.plain import Array, to_plain
from shardkit.adapters.keras.snapshot import CallbackState
from shardkit.errors import ConfigError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["OtherCallbacks"]


class OtherCallbacks:
    """The callbacks beside `Resume`, in their order.

    Args:
        before: Those that Keras calls before `Resume`, as they are before training begins.
        after: Those that it calls after `Resume`.

    Raises:
        ConfigError: `resume_attributes` of one is no tuple of names.
    """

    def __init__(self, before: Iterable[Any], after: Iterable[Any] = ()) -> None:
        self._before = [_Other(callback) for callback in before if _has_state(callback)]
        self._after = [_Other(callback) for callback in after if _has_state(callback)]
        self._told: set[tuple[str, str]] = set()

    def states(self) -> tuple[CallbackState, ...]:
        """What they have counted.

        Raises:
            ConfigError: What one declares cannot be saved. It is named.
        """
        return tuple(CallbackState(other.declared.name, other.values()) for other in (*self._before, *self._after))

    def undeclared(self) -> list[str]:
        """What has changed since training began, and neither is declared nor was told before."""
        changed = {
            (each.declared.name, name): None for each in (*self._before, *self._after) for name in each.changed()
        }
        new = [each for each in changed if each not in self._told]
        self._told.update(new)
        return [f"{name} of {callback}" for callback, name in new]

    def check(self, states: Sequence[CallbackState], weights: Callable[[], Sequence[Array]]) -> None:
        """Refuse states that they cannot take, before any is given to them.

        Args:
            states: The states of a saved run.
            weights: Gives the model's weights.

        Raises:
            StateError: One sets what is not declared, or to another kind of value. Callback and attribute are named.
        """
        for other, state in self._pairs(states):
            other.check(state, weights)

    def put_back(self, states: Sequence[CallbackState], *, before: bool = True, after: bool = True) -> None:
        """Give them back what they had counted.

        Args:
            states: What `check` took.
            before: Whether to give it to those that Keras calls before `Resume`.
            after: Whether to give it to those that it calls after `Resume`.
        """
        chosen = [*(self._before if before else ()), *(self._after if after else ())]
        for other, state in self._pairs(states):
            if any(other is each for each in chosen):
                other.put_back(state)

    def _pairs(self, states: Sequence[CallbackState]) -> list[tuple[_Other, CallbackState]]:
        """By name, and in order among those of one name; one that is no longer in the list has nothing to get."""
        left, pairs = [*self._before, *self._after], []
        for state in states:
            found = next((other for other in left if other.declared.name == state.name), None)
            if found is not None:
                left.remove(found)
                pairs.append((found, state))
        return pairs


class _Other:
    """One of them."""

    def __init__(self, callback: Any) -> None:
        self.declared = Declared(callback)
        self._callback = callback
        self._before = {} if self.declared.is_silent else self._digests()

    def values(self) -> dict[str, Any]:
        """The declared attributes that it has."""
        found = {}
        for name, kind in self.declared.kinds.items():
            if hasattr(self._callback, name):
                # Keras's may hold what a metric of the user's gave.
                value = getattr(self._callback, name)
                found[name] = value = value if kind.is_users else _without_tensors(value)
                self._check_saved(name, value)
        return found

    def changed(self) -> list[str]:
        """Attributes that have changed and are not declared."""
        if self.declared.is_silent:
            return []
        changed = [name for name, digest in self._digests().items() if self._before.get(name) != digest]
        # A class with a list of its own is told only of what it could have listed.
        return [name for name in changed if not self.declared.has_list or _can_be_saved(getattr(self._callback, name))]

    def check(self, state: CallbackState, weights: Callable[[], Sequence[Array]]) -> None:
        for name, value in state.values.items():
            kind = self.declared.kinds.get(name)
            if kind is None:
                raise StateError(
                    f"the saved run sets {name} of {state.name}, which is not declared", setting="callbacks",
                    advice=f"If it is progress of a callback of yours, name it in resume_attributes of {state.name}. "
                    "If not, do not use this file",
                )  # fmt: skip
            if not kind.fits(value) or (kind.of_model and value is not None and not _are_like(value, weights())):
                raise StateError(
                    f"the saved run sets {name} of {state.name} to something else than {kind.name}",
                    setting="callbacks", expected=kind.name, found=_described(value),
                    advice="The file is damaged or of another model. Give Resume another directory",
                )  # fmt: skip

    def put_back(self, state: CallbackState) -> None:
        for name, value in state.values.items():
            setattr(self._callback, name, _copied(value))

    def _check_saved(self, name: str, value: Any) -> None:
        kind = self.declared.kinds[name]
        try:
            to_plain(value, name, [])
        except TypeError as exc:
            reason = str(exc)
        else:
            if kind.fits(value):
                return
            reason = f"{name} is not {kind.name}"
        raise ConfigError(
            f"Resume cannot save {name} of {self.declared.name}: {reason}", setting="resume_attributes",
            advice="Keep progress in numbers, texts, numpy arrays, and lists, tuples and dictionaries of them",
        )  # fmt: skip

    def _digests(self) -> dict[str, bytes]:
        left_out = {*self.declared.kinds, *self.declared.ignored}
        return {
            name: digest_of(value)
            for name, value in vars(self._callback).items()
            if name not in left_out and not is_function(value)
        }


def _has_state(callback: Any) -> bool:
    return not isinstance(callback, keras.callbacks.ProgbarLogger)


def _can_be_saved(value: Any) -> bool:
    try:
        to_plain(value, "", [])
    except TypeError:
        return False
    return True


def _without_tensors(value: Any) -> Any:
    """A value with numbers and arrays of numpy in the place of a backend's tensors."""
    if isinstance(value, list):
        return [_without_tensors(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_tensors(item) for name, item in value.items()}
    if keras.ops.is_tensor(value):
        array = np.asarray(keras.ops.convert_to_numpy(value))
        return array if array.ndim else array.item()
    return value


def _copied(value: Any) -> Any:
    """The same in lists and arrays of its own: a run may be put back twice."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value.copy() if isinstance(value, np.ndarray) else value


def _are_like(value: Sequence[Array], weights: Sequence[Array]) -> bool:
    return [(each.shape, each.dtype) for each in value] == [(each.shape, each.dtype) for each in weights]


def _described(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
