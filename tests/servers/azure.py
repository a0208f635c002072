"""Azurite: Azure's blob storage, with signatures that are checked."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from servers.process import Listening, ask, free_ports, program, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Azurite", "azurite"]

# The account that every installation of Azurite has, and its published key.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_CONTAINER = "shardkit"


@dataclass(frozen=True, kw_only=True)
class Azurite(Listening):
    """An Azure server with one empty container."""

    @property
    def url(self) -> str:
        """The container."""
        return f"az://{_CONTAINER}"

    @property
    def storage_options(self) -> dict[str, str]:
        """How a client reaches it, with credentials, so that it looks for none elsewhere."""
        return {
            "endpoint": f"{self.endpoint}/{_ACCOUNT}",
            "account_name": _ACCOUNT,
            "account_key": _KEY,
            "allow_http": "true",
        }


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Azurite]:
    """Run Azurite as long as the block does.

    Args:
        folder: An empty folder.

    Yields:
        The server, about a second later.

    Raises:
        NotInstalled: ``tools/servers`` was not run.
        ServerFailed: It did not start.
    """
    (port,) = free_ports(1)
    command: list[str | Path] = [
        *(program("azurite-blob"), "--silent", "--location", folder),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
        # Clients may speak a newer version of the protocol than this one knows of.
        "--skipApiVersionCheck",
    ]
    with running(command, folder, ready=lambda: _make_container(port)):
        yield Azurite(port=port, log=folder / "log.txt")


def _make_container(port: int) -> None:
    """Make the container, which object-store clients do not offer to do, by a signed request.

    Raises:
        OSError: There is no answer, or no container.
    """
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    path = f"/{_ACCOUNT}/{_CONTAINER}"
    said = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    # The empty lines are for headers that this request has not. The account is named twice, as the path has it too.
    signed = f"PUT{12 * chr(10)}{said}/{_ACCOUNT}{path}\nrestype:container"
    digest = hmac.digest(base64.b64decode(_KEY), signed.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    status, body = ask(port, "PUT", f"{path}?restype=container", headers=headers)
    # 409 says that the request before, whose reply was lost, has made it.
    if status not in (201, 409):
        raise ConnectionError(f"HTTP {status}: {body[:200]!r}")
