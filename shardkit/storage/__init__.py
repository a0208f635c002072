"""Bytes by name below a URL. Knows nothing of shards or pixels.

`open_store` gives a `Store`; what else a store can do is told by the small protocols beside it.
"""

from shardkit.storage.base import FetchesAhead, HasPaths, LockPurpose, Store, Writer
from shardkit.storage.braces import expand_braces
from shardkit.storage.copies import local_copy
from shardkit.storage.local import LocalStore
from shardkit.storage.portable import check_environment, without_secrets
from shardkit.storage.urls import Place, StoreKeywords, StoreOptions, check_local, open_store

__all__ = [
    "FetchesAhead",
    "HasPaths",
    "LocalStore",
    "LockPurpose",
    "Place",
    "Store",
    "StoreKeywords",
    "StoreOptions",
    "Writer",
    "check_environment",
    "check_local",
    "expand_braces",
    "local_copy",
    "open_store",
    "without_secrets",
]
