"""Samples as webdataset's stages take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardkit.loader import Loader

__all__ = ["WebDatasetSamples"]


class WebDatasetSamples:
    """Iterates over ``{"__key__": ..., "__url__": ..., "jpg": bytes, "cls": bytes}``.

    The workers of a PyTorch `DataLoader` share the samples: each comes once an epoch, whatever their number.

    Args:
        loader: The loader whose samples and order these are.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._next_epoch = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from webdataset.utils import pytorch_worker_info

        epoch = self._next_epoch
        self._next_epoch += 1
        _, _, worker, num_workers = pytorch_worker_info()
        for sample in self._loader.samples(epoch, worker=worker, num_workers=num_workers):
            yield {"__key__": sample.key, "__url__": self._loader.url, **sample.fields}

    def __call__(self, *_: Any) -> Iterator[dict[str, Any]]:
        """As a pipeline's first stage."""
        return iter(self)
