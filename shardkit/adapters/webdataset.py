"""Samples as webdataset's stages take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardkit.loader import Loader

__all__ = ["WebDatasetSamples"]


class WebDatasetSamples:
    """Iterates over ``{"__key__": ..., "__url__": ..., "jpg": bytes, "cls": bytes}``.

    Args:
        loader: The loader whose samples and order these are.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._next_epoch = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch = self._next_epoch
        self._next_epoch += 1
        for sample in self._loader.samples(epoch):
            yield {"__key__": sample.key, "__url__": self._loader.url, **sample.fields}

    def __call__(self, *_: Any) -> Iterator[dict[str, Any]]:
        """As a pipeline's first stage."""
        return iter(self)
