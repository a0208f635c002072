"""What a callback declares to be progress of a run: by its classes of Keras, and by `resume_attributes` of its own."""

from __future__ import annotations

from typing import Any

from shardkit.adapters.keras.progress_table import ANY, KERAS_CALLBACKS, Kind, attributes_of
from shardkit.errors import ConfigError

__all__ = ["Declared"]

_DECLARATION = "resume_attributes"


class Declared:
    """What one callback declares.

    Args:
        callback: The callback.

    Attributes:
        name: The name of its class.
        kinds: The attributes that are saved, by name. Those of all its classes count.
        ignored: Attributes of Keras that change and are no progress.
        has_list: Whether a class of the user's lists attributes.
        is_silent: Whether classes of the user's declare that nothing is progress, by an empty list.

    Raises:
        ConfigError: A declaration is no list of names of attributes.
    """

    def __init__(self, callback: Any) -> None:
        classes = type(callback).__mro__
        of_keras = [each.__name__ for each in classes if _is_of_keras(each)]
        found = attributes_of(of_keras)
        own = [_names_in(each) for each in reversed(classes) if _DECLARATION in vars(each)]
        self.name = type(callback).__name__
        self.kinds: dict[str, Kind] = {**found.saved, **{name: ANY for names in own for name in names}}
        self.ignored = found.anew
        self.has_list = any(own)
        self.is_silent = bool(own) and not any(own)


def _is_of_keras(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "keras" and cls.__name__ in KERAS_CALLBACKS


def _names_in(cls: type) -> tuple[str, ...]:
    names = vars(cls)[_DECLARATION]
    if not isinstance(names, (tuple, list)) or not all(_is_name(name) for name in names):
        raise ConfigError(
            f"{_DECLARATION} of {cls.__name__} must be a tuple of names of attributes",
            setting=_DECLARATION, value=names,
            advice=f'Write for example {_DECLARATION} = ("wait", "best"), or () if nothing is progress',
        )  # fmt: skip
    return tuple(names)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and not name.startswith("__")
