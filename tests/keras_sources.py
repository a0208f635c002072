"""What the sources of Keras say about its callbacks."""

import ast
import inspect
import textwrap

import keras

from shardkit.adapters.keras.progress_table import KERAS_CALLBACKS, attributes_of

__all__ = ["unknown_attributes"]


def unknown_attributes():
    """Attributes that callbacks of Keras set while they train and `progress_table` does not name, by class."""
    found = {}
    for name, cls in vars(keras.callbacks).items():
        if name in {"CallbackList", "ProgbarLogger"} or not isinstance(cls, type):
            continue
        classes = cls.__mro__[:-1]
        known = attributes_of([each.__name__ for each in classes])
        unknown = {attribute for each in classes for attribute in _set_attributes(each)} - {*known.saved, *known.anew}
        if unknown or name not in KERAS_CALLBACKS:
            found[name] = unknown
    return found


def _set_attributes(cls):
    functions = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    for function in functions:
        if isinstance(function, ast.FunctionDef) and function.name != "__init__":
            stored = [part for part in ast.walk(function) if isinstance(getattr(part, "ctx", None), ast.Store)]
            yield from (
                part.attr for part in stored if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self"
            )
