"""Bytes by name below a URL. Knows nothing of shards or pixels.

`open_store` gives a `Store`; what else a store can do is told by the small protocols beside it.
"""

from shardkit.storage.base import HasPaths, Store, Writer
from shardkit.storage.local import LocalStore
from shardkit.storage.urls import open_store

__all__ = ["HasPaths", "LocalStore", "Store", "Writer", "open_store"]
