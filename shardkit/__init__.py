"""shardkit packs labelled pictures into tar shards and streams them, shuffled and resumable, into Keras.

This is the public page: everything a user calls is here. Nothing is imported until it is used, so that
``import shardkit`` stays light; TensorFlow and Keras are only ever loaded by `to_keras` and `to_tf`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shardkit._version import __version__

if TYPE_CHECKING:
    from shardkit.adapters import Resume, to_keras, to_tf, to_webdataset
    from shardkit.codecs.limits import ImageLimits
    from shardkit.errors import (
        CodecError,
        ConfigError,
        FormatError,
        ManifestError,
        PackError,
        ShardkitError,
        ShardkitWarning,
        StateError,
        StorageError,
    )
    from shardkit.loader import Loader
    from shardkit.loader.augment import random_flip, random_resized_crop
    from shardkit.manifest import Manifest, read_manifest
    from shardkit.manifest.verify import VerifyReport, verify
    from shardkit.packer import PackResult, pack, unpack
    from shardkit.sample import ArraySpec, Batch

__all__ = [
    "ArraySpec",
    "Batch",
    "CodecError",
    "ConfigError",
    "FormatError",
    "ImageLimits",
    "Loader",
    "Manifest",
    "ManifestError",
    "PackError",
    "PackResult",
    "Resume",
    "ShardkitError",
    "ShardkitWarning",
    "StateError",
    "StorageError",
    "VerifyReport",
    "__version__",
    "pack",
    "random_flip",
    "random_resized_crop",
    "read_manifest",
    "to_keras",
    "to_tf",
    "to_webdataset",
    "unpack",
    "verify",
]

_HOMES = {
    "shardkit.adapters": ("Resume", "to_keras", "to_tf", "to_webdataset"),
    "shardkit.codecs.limits": ("ImageLimits",),
    "shardkit.errors": tuple(name for name in __all__ if name.endswith(("Error", "Warning"))),
    "shardkit.loader": ("Loader",),
    "shardkit.loader.augment": ("random_flip", "random_resized_crop"),
    "shardkit.manifest": ("Manifest", "read_manifest"),
    "shardkit.manifest.verify": ("VerifyReport", "verify"),
    "shardkit.packer": ("PackResult", "pack", "unpack"),
    "shardkit.sample": ("ArraySpec", "Batch"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'shardkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
