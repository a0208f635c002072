"""An S3 server with the data sets in it, and proxies before it that are late."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import shardkit
from benchmarks.processes import ROOT, say
from benchmarks.remote_shards import open_bucket
from benchmarks.settings import Remote

if TYPE_CHECKING:
    from types import TracebackType

    from servers.s3 import SeaweedFS

    from benchmarks.photos import Data

__all__ = ["Bucket", "Proxy", "as_options", "sessions_of_children"]


class Proxy:
    """`benchmarks.slow_proxy`, as long as a ``with`` block.

    Args:
        upstream: The server's port.
        latency_s: Seconds by which each request is late.

    Attributes:
        port: Where it listens.
    """

    port = 0

    def __init__(self, upstream: int, latency_s: float) -> None:
        self._command = ["--upstream", str(upstream), "--latency", str(latency_s)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.slow_proxy", *self._command], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, cwd=ROOT / "tools", start_new_session=True,
        )  # fmt: skip
        self.port = int(self._answer()["port"])
        return self

    def passed(self) -> dict[str, int]:
        """What it has passed on since this was last asked."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return {name: int(value) for name, value in self._answer().items()}

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()  # it ends with its input


@dataclass(kw_only=True)
class Bucket:
    """An empty bucket to be filled.

    Attributes:
        server: Its server.
    """

    server: SeaweedFS
    _there: set[str] = field(default_factory=set)

    def remote(self, name: str, port: int | None = None, cache: Path | None = None) -> Remote:
        """A data set in the bucket.

        Args:
            name: The data set.
            port: A proxy's; the server's own without it.
            cache: A folder to keep things in.
        """
        server = self.server if port is None else self.server.through(port)
        options = server.storage_options
        return Remote(
            url=f"{server.url}/{name}", endpoint=options["endpoint"], key=options["access_key_id"],
            secret=options["secret_access_key"], region=options["region"], cache="" if cache is None else str(cache),
        )  # fmt: skip

    def pack(self, data: Data, name: str) -> None:
        """Pack pictures into the bucket, unless they are there."""
        if name not in self._there:
            say(f"packing {name} into the bucket ...")
            remote = self.remote(name)
            shardkit.pack(data.folder, remote.url, progress=False, storage_options=remote.storage_options)
            self._there.add(name)

    def upload(self, folder: Path, name: str) -> None:
        """Put a folder's files into the bucket, unless they are there."""
        if name in self._there:
            return
        import obstore

        say(f"uploading {name} ...")
        bucket = open_bucket(self.remote(name))
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                obstore.put(bucket, str(path.relative_to(folder)), path)
        self._there.add(name)


def sessions_of_children() -> list[int]:
    """The sessions of processes that this one has started, apart from its own."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == os.getpid() and int(fields[3]) != os.getsid(0):
                    found.add(int(fields[3]))
    return sorted(found)


def as_options(remote: Remote, servers: list[int]) -> tuple[str, ...]:
    """The arguments of `benchmarks.run`."""
    return ("--remote", json.dumps(asdict(remote)), *(text for number in servers for text in ("--server", str(number))))
