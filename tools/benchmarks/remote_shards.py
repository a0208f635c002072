"""The shards of a data set that shardkit has packed into a bucket, for those who read them in other ways."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.settings import Remote

__all__ = ["open_bucket", "shards", "signed_urls"]

_VALID_FOR = timedelta(hours=6)


def open_bucket(remote: Remote) -> Any:
    """Obstore's own store below the data set's URL."""
    from obstore.store import S3Store

    options: Any = dict(remote.storage_options)
    del options["allow_http"]
    return S3Store.from_url(remote.url, config=options, client_options={"allow_http": True})


def shards(remote: Remote) -> list[tuple[str, int]]:
    """Names and lengths in bytes of the tar files."""
    import obstore

    found = obstore.list_with_delimiter(open_bucket(remote))["objects"]
    # The bucket's own paths; names are below the URL.
    names = [(str(entry["path"]).rpartition("/")[2], int(entry["size"])) for entry in found]
    return sorted((name, size) for name, size in names if name.endswith(".tar"))


def signed_urls(remote: Remote) -> list[str]:
    """URLs of the tar files, signed, so that whoever has them needs nothing else."""
    import obstore

    bucket = open_bucket(remote)
    return [str(obstore.sign(bucket, "GET", name, _VALID_FOR)) for name, _ in shards(remote)]
