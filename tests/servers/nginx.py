"""nginx: HTTP and TLS over one folder, with locations that are slow, busy, forbidden, moved, or know no ranges."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from servers.process import Listening, ServerFailed, ask, free_ports, program, running

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Logged", "Nginx", "nginx"]

_MARK = "/_mark/"
_marks = itertools.count()


@dataclass(frozen=True)
class Logged:
    """A request that nginx has answered.

    Attributes:
        method: GET, HEAD ...
        path: The path as it was sent, with its query.
        range: The Range header, or "".
        status: The status of the reply.
        sent: The bytes of the reply's body.
    """

    method: str
    path: str
    range: str
    status: int
    sent: int


@dataclass(frozen=True, kw_only=True)
class Nginx(Listening):
    """A web server.

    Attributes:
        tls_port: Where it speaks TLS.
        root: The folder that it serves.
        access_log: What `requests` reads.
        certificate: The certificate of 127.0.0.1 and localhost, which nobody has signed but itself.
    """

    tls_port: int
    root: Path
    access_log: Path
    certificate: Path

    @property
    def url(self) -> str:
        """The folder, plain."""
        return f"{self.endpoint}/"

    def at(self, location: Literal["slow", "noranges", "busy", "forbidden", "moved"]) -> str:
        """The folder by a location that does something to its requests.

        Args:
            location: ``slow`` (50 kB a second for each request), ``noranges`` (always the whole file), ``busy`` (429
                beyond ten requests a second), ``forbidden`` (403), ``moved`` (302 to the plain folder).

        Returns:
            Its URL, which ends with a slash.
        """
        return f"{self.endpoint}/{location}/"

    @property
    def tls_url(self) -> str:
        """The folder by TLS. What is below ``down/`` there is redirected to plain HTTP."""
        return f"https://127.0.0.1:{self.tls_port}/"

    def requests(self) -> list[Logged]:
        """The requests that were answered so far, oldest first.

        Raises:
            ServerFailed: nginx does not write its log.
        """
        # A client has a reply before the log has it. nginx does one thing after another here, so that what was
        # answered before a request of our own stands before it in the log.
        mark = f"{_MARK}{next(_marks)}"
        ask(self.port, "GET", mark)
        deadline = time.monotonic() + 10
        while True:
            *whole, _ = self.access_log.read_text().split("\n")
            lines = [Logged(**json.loads(line)) for line in whole]
            if any(line.path == mark for line in lines):
                return [line for line in lines if not line.path.startswith(_MARK)]
            if time.monotonic() > deadline:
                raise ServerFailed(f"nginx has not logged {mark}")

    def forget(self) -> None:
        """Begin the list of requests anew."""
        self.requests()
        # nginx appends, so that it goes on at the file's new end.
        self.access_log.write_bytes(b"")


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """Run nginx as long as the block does.

    Args:
        folder: An empty folder.

    Yields:
        The server; its root is an empty folder.

    Raises:
        NotInstalled: ``tools/servers`` was not run.
        ServerFailed: It did not start.
    """
    command: list[str | Path] = [program("nginx"), "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"]
    port, tls_port = free_ports(2)
    root = folder / "root"
    root.mkdir()
    (folder / "temporary").mkdir()
    _make_certificate(folder)
    config = (Path(__file__).parent / "nginx.conf").read_text()
    for name, value in (("FOLDER", folder), ("ROOT", root), ("PORT", port), ("TLS_PORT", tls_port)):
        config = config.replace(f"@{name}@", str(value))
    (folder / "nginx.conf").write_text(config)
    server = Nginx(
        port=port,
        log=folder / "log.txt",
        tls_port=tls_port,
        root=root,
        access_log=folder / "access.jsonl",
        certificate=folder / "certificate.pem",
    )
    with running(command, folder, ready=lambda: _answers(port)):
        yield server


def _answers(port: int) -> None:
    ask(port, "GET", _MARK)


def _make_certificate(folder: Path) -> None:
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", folder / "key.pem", "-out", folder / "certificate.pem"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise ServerFailed(f"openssl made no certificate: {made.stderr}")
