"""The kinds of arrays that pictures become."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CHANNELS", "COLOR_MODES", "PILLOW_MODES", "ColorMode"]

ColorMode = Literal["rgb", "grayscale", "rgba"]

CHANNELS: Mapping[ColorMode, int] = MappingProxyType({"rgb": 3, "grayscale": 1, "rgba": 4})
"""Values per pixel."""

COLOR_MODES: Mapping[int, ColorMode] = MappingProxyType({count: mode for mode, count in CHANNELS.items()})
"""The kind of array by its values per pixel."""

PILLOW_MODES: Mapping[ColorMode, str] = MappingProxyType({"rgb": "RGB", "grayscale": "L", "rgba": "RGBA"})
"""Pillow's names for them."""
