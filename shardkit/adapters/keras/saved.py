"""The variables of a saved run: described in its document, with their bytes beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardkit.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardkit.adapters.keras.holders import Bytes
    from shardkit.adapters.keras.variables import ModelState

__all__ = ["SavedVariables", "save_variables"]

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
    optimizers: Mapping[str, list[str]]
    unbuilt: tuple[str, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any], arrays: Mapping[str, Bytes]) -> SavedVariables:
        """Read what `save_variables` made.

        Args:
            document: Its description.
            arrays: The arrays.
        """
        names = [entry["name"] for entry in document["variables"]]
        return cls(
            {entry["name"]: (tuple(entry["shape"]), entry["dtype"]) for entry in document["variables"]},
            {name: arrays[f"variable.{number}"] for number, name in enumerate(names)},
            document["optimizers"],
            tuple(document["unbuilt"]),
        )

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

    def put_into(self, found: ModelState) -> None:
        """Write all values.

        Args:
            found: What the model holds, which was checked.
        """
        for name, value in self.values.items():
            found.holders[name].write(value)

    def _was_unbuilt(self, name: str) -> bool:
        return any(name.startswith((f"{owner}.", f"{owner}[")) for owner in self.unbuilt)


def save_variables(found: ModelState, arrays: dict[str, Any]) -> dict[str, Any]:
    """Describe what a model holds.

    Args:
        found: What it holds.
        arrays: Takes the bytes.

    Returns:
        The part of the document, for `SavedVariables.of`.
    """
    described = []
    for number, (name, holder) in enumerate(found.holders.items()):
        shape, dtype = holder.kind
        described.append({"name": name, "label": holder.label, "shape": list(shape), "dtype": dtype})
        arrays[f"variable.{number}"] = holder.read()
    return {
        "variables": described,
        "optimizers": found.variables_of_optimizers(),
        "unbuilt": list(found.unbuilt),
    }


def _labeled(name: str, found: ModelState) -> str:
    holder = found.holders.get(name)
    return name if holder is None or not holder.label else f"{name} ({holder.label})"


def _described(kind: tuple[tuple[int, ...], str] | None) -> str:
    return "nothing" if kind is None else f"{kind[1]} of shape {kind[0]}"
