"""The variables of a saved run: described in its document, with their bytes beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.adapters.keras.fields import Fields
from shardkit.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shardkit.adapters.keras.holders import Bytes
    from shardkit.adapters.keras.plain import Array, Decoder
    from shardkit.adapters.keras.variables import ModelState

__all__ = ["SavedVariables"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class SavedVariables:
    """What the model of a saved run held.

    Attributes:
        kinds: Shape and type of each variable, by name.
        values: Their bytes, by name.
        optimizers: The names of the variables that each optimizer was built for, by its name.
        unbuilt: The objects that had not made their variables yet.
    """

    kinds: Mapping[str, tuple[tuple[int, ...], str]]
    values: Mapping[str, Bytes]
    optimizers: Mapping[str, Sequence[str]]
    unbuilt: tuple[str, ...]

    @classmethod
    def of(cls, document: Any, decoder: Decoder) -> SavedVariables:
        """Read what `document` gave.

        Args:
            document: Its description.
            decoder: Has the arrays.

        Raises:
            ValueError: It is something else.
        """
        fields = Fields(document, "the list of variables")
        kinds: dict[str, tuple[tuple[int, ...], str]] = {}
        values: dict[str, Bytes] = {}
        for entry in fields.list("each"):
            one = Fields(entry, "a variable")
            name, shape, dtype = one.name("name"), one.counts("shape"), one.name("dtype")
            data = decoder.take(one.any("array"), name)
            one.finish()
            if name in kinds or data.dtype != np.uint8 or data.ndim != 1:
                raise ValueError(f"the variable {name} is there twice, or is no bytes")
            kinds[name], values[name] = (shape, dtype), data
        optimizers = Fields(fields.object("optimizers"), "the optimizers")
        names = {name: optimizers.names(name) for name in document["optimizers"]}
        found = cls(kinds, values, names, fields.names("unbuilt"))
        fields.finish()
        return found

    @classmethod
    def in_model(cls, found: ModelState) -> SavedVariables:
        """What a model holds.

        Args:
            found: What it holds.
        """
        return cls(
            {name: holder.kind for name, holder in found.holders.items()},
            {name: holder.read() for name, holder in found.holders.items()},
            found.variables_of_optimizers(),
            found.unbuilt,
        )

    def document(self, arrays: list[Array]) -> dict[str, Any]:
        """The description of them as JSON can hold it.

        Args:
            arrays: The bytes are appended to it.
        """
        described = []
        for name, (shape, dtype) in self.kinds.items():
            described.append({"name": name, "shape": list(shape), "dtype": dtype, "array": len(arrays)})
            arrays.append(self.values[name])
        optimizers = {name: list(variables) for name, variables in self.optimizers.items()}
        return {"each": described, "optimizers": optimizers, "unbuilt": list(self.unbuilt)}

    def missing_in(self, found: ModelState) -> list[str]:
        """The variables that a model does not have yet."""
        return [name for name in self.kinds if name not in found.holders]

    def check(self, found: ModelState, *, missing_is_fine: bool = False) -> None:
        """Refuse another model.

        Args:
            found: What the model holds.
            missing_is_fine: Whether variables may still be made.

        Raises:
            StateError: Variables differ. The first ones are named.
        """
        kinds = {name: holder.kind for name, holder in found.holders.items()}
        missing = [] if missing_is_fine else self.missing_in(found)
        changed = [name for name, kind in self.kinds.items() if kinds.get(name, kind) != kind]
        # What was yet to be made has no saved value, and needs none.
        more = [name for name in kinds if name not in self.kinds and not self._was_unbuilt(name)]
        differing = sorted({*missing, *changed, *more})
        if not differing:
            return
        shown = ", ".join(_labeled(name, found) for name in differing[:_SHOWN])
        rest = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise StateError(
            f"the saved run is of another model, which differs in {shown}{rest}", setting="variables",
            expected=_described(self.kinds.get(differing[0])), found=_described(kinds.get(differing[0])),
            advice="Make the model, its optimizers and metrics as in the saved run, or give Resume another directory",
        )  # fmt: skip

    def check_values(self, found: ModelState) -> None:
        """Refuse values that a model cannot take, before any is put into it.

        Args:
            found: What the model holds, which was checked.

        Raises:
            StateError: One cannot be taken. It is named.
        """
        for name, value in self.values.items():
            try:
                found.holders[name].check(value)
            except ValueError as exc:
                raise _refused(name, found, exc) from exc

    def put_into(self, found: ModelState) -> None:
        """Write all values.

        Args:
            found: What the model holds, which was checked.

        Raises:
            StateError: A generator does not take its state.
        """
        for name, value in self.values.items():
            try:
                found.holders[name].write(value)
            except (ValueError, TypeError, RuntimeError) as exc:
                raise _refused(name, found, exc) from exc

    def _was_unbuilt(self, name: str) -> bool:
        return any(name.startswith((f"{owner}.", f"{owner}[")) for owner in self.unbuilt)


def _refused(name: str, found: ModelState, exc: Exception) -> StateError:
    return StateError(
        f"the saved run has another value for {_labeled(name, found)} than it can take: {exc}", setting="variables",
        advice="The file is damaged. Delete it to begin from the start, or give Resume another directory",
    )  # fmt: skip


def _labeled(name: str, found: ModelState) -> str:
    holder = found.holders.get(name)
    return name if holder is None or not holder.label else f"{name} ({holder.label})"


def _described(kind: tuple[tuple[int, ...], str] | None) -> str:
    return "nothing" if kind is None else f"{kind[1]} of shape {kind[0]}"
