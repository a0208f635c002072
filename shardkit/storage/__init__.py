"""Bytes by name below a URL. Knows nothing of shards or pixels.

`open_store` gives a `Store`; what else a store can do is told by the small protocols beside it.
"""

from shardkit.storage.base import FetchesAhead, HasPaths, Store, Writer
from shardkit.storage.local import LocalStore
from shardkit.storage.urls import Place, StoreOptions, open_store

__all__ = ["FetchesAhead", "HasPaths", "LocalStore", "Place", "Store", "StoreOptions", "Writer", "open_store"]
