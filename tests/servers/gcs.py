"""fake-gcs-server: Google Cloud Storage, for reading: obstore writes by an API that it does not have."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from servers.process import Listening, ask, free_ports, program, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FakeGCS", "gcs"]

_BUCKET = "shardkit"


@dataclass(frozen=True, kw_only=True)
class FakeGCS(Listening):
    """A GCS server with one empty bucket, to be filled with `put` and `upload`."""

    @property
    def url(self) -> str:
        """The bucket."""
        return f"gs://{_BUCKET}"

    @property
    def storage_options(self) -> dict[str, str]:
        """How a client reaches it: with an account that needs no token, so that it asks nobody for one."""
        account = {
            "gcs_base_url": self.endpoint,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        return {"service_account_key": json.dumps(account), "allow_http": "true"}

    def put(self, name: str, data: bytes) -> None:
        """Write an object by the JSON API.

        Args:
            name: Its name in the bucket.
            data: What it holds.

        Raises:
            OSError: It was not written.
        """
        query = urlencode({"uploadType": "media", "name": name})
        headers = {"Content-Type": "application/octet-stream"}
        status, body = ask(self.port, "POST", f"/upload/storage/v1/b/{_BUCKET}/o?{query}", data, headers)
        if status != 200:
            raise OSError(f"{name}: HTTP {status}: {body[:200]!r}")

    def upload(self, folder: Path, prefix: str = "") -> None:
        """Write all files of a folder.

        Args:
            folder: The folder.
            prefix: What to put before the path of each.

        Raises:
            OSError: One was not written.
        """
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(prefix + path.relative_to(folder).as_posix(), path.read_bytes())


@contextlib.contextmanager
def gcs(folder: Path) -> Iterator[FakeGCS]:
    """Run fake-gcs-server as long as the block does.

    Args:
        folder: An empty folder.

    Yields:
        The server.

    Raises:
        NotInstalled: ``tools/servers`` was not run.
        ServerFailed: It did not start.
    """
    (port,) = free_ports(1)
    command: list[str | Path] = [
        *(program("fake-gcs-server"), "-scheme", "http", "-backend", "memory"),
        *("-host", "127.0.0.1", "-port", str(port), "-log-level", "warn"),
        # It answers to this host only. Named without a port, it does so also by way of a proxy.
        *("-external-url", f"http://127.0.0.1:{port}", "-public-host", "127.0.0.1"),
    ]

    def ready() -> None:
        headers = {"Content-Type": "application/json"}
        status, body = ask(port, "POST", "/storage/v1/b?project=test", json.dumps({"name": _BUCKET}).encode(), headers)
        if status not in (200, 409):
            raise ConnectionError(f"HTTP {status}: {body[:200]!r}")

    with running(command, folder, ready=ready):
        yield FakeGCS(port=port, log=folder / "log.txt")
