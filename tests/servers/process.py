"""A program that runs as long as a block does, and answers before the block begins."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Listening", "NotInstalled", "ServerFailed", "ask", "free_ports", "program", "running"]

_PROGRAMS = Path(__file__).resolve().parents[2] / "build" / "servers" / "bin"


class NotInstalled(FileNotFoundError):
    """A server's program is not there."""


class ServerFailed(RuntimeError):
    """A server did not start, or ended by itself; says the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Listening:
    """A server that runs.

    Attributes:
        port: Its port on 127.0.0.1.
        log: What it prints.
    """

    port: int
    log: Path

    @property
    def endpoint(self) -> str:
        """The URL of its root, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def through(self, port: int) -> Self:
        """The same server by way of a proxy, such as a `servers.fault.FaultServer`.

        Args:
            port: The proxy's port.

        Returns:
            The server as clients are to see it.
        """
        return replace(self, port=port)


def program(name: str) -> Path:
    """Where ``tools/servers`` has put a program.

    Args:
        name: The program's name.

    Returns:
        Its path.

    Raises:
        NotInstalled: There is none.
    """
    found = _PROGRAMS / name
    if not found.exists():
        raise NotInstalled(f"{name} is not installed: run tools/servers")
    return found


def free_ports(num: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on.

    They lie below those that the system gives to outgoing connections. One of these could be taken by a server's own
    first connection before the server comes to listen on it.

    Args:
        num: How many.

    Returns:
        As many different ports.
    """
    random_ports = random.SystemRandom()
    found: list[int] = []
    while len(found) < num:
        port = random_ports.randrange(15_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                if port not in found:
                    found.append(port)
    return found


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """One request, without proxies, retries and redirects.

    Args:
        port: The port on 127.0.0.1.
        method: The method.
        path: The path, quoted, with its query.
        body: What to send.
        headers: Headers besides Host and Content-Length.

    Returns:
        The status and the body of the reply.

    Raises:
        OSError: There is no reply.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            reply = connection.getresponse()
            return reply.status, reply.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    folder: Path,
    *,
    ready: Callable[[], None],
    timeout_s: float = 60.0,
    grace_s: float = 5.0,
) -> Iterator[None]:
    """Run a program as long as the block does.

    Args:
        command: The program and its arguments.
        folder: Where it works, and prints to ``log.txt``.
        ready: Raises `OSError` until the program answers as it should.
        timeout_s: How long it may take until then.
        grace_s: How long it may take to end once it was told to.

    Raises:
        ServerFailed: It ended, or did not answer in time.
    """
    name = Path(command[0]).name
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            # A test run that is killed must not leave servers behind: the kernel then ends them.
            [*(["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []), *command],
            cwd=folder,
            # Nothing of the user's reaches a server: no settings below HOME, no credentials in variables.
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal goes to the tests, which stop the servers in their own order.
            start_new_session=True,
        )
    try:
        _wait_until(ready, process, name, folder / "log.txt", time.monotonic() + timeout_s)
        yield
    finally:
        _stop(process, grace_s)


def _wait_until(
    ready: Callable[[], None], process: subprocess.Popen[bytes], name: str, log: Path, deadline: float
) -> None:
    while True:
        why = "does not answer"
        try:
            ready()
        except OSError as error:
            why = f"does not answer ({error})"
        else:
            if process.poll() is None:
                return
        # Another program may have been quicker to take the port, and answer in its place.
        if process.poll() is not None:
            raise ServerFailed(f"{name} ended with exit code {process.returncode}{_end_of(log)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"{name} {why}{_end_of(log)}")
        time.sleep(0.02)


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-20:]
    return "\n".join([f"; the end of {log}:", *lines])


def _stop(process: subprocess.Popen[bytes], grace_s: float) -> None:
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
