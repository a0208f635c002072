"""A proxy before a web server that is late with each request, counts them, and costs as little as it can.

``python -m benchmarks.slow_proxy --upstream PORT --latency 0.1`` prints its port; every line on its standard input is
answered by what it has passed on since the line before, as JSON; it ends where that input ends.

A request is found by its head and held back for the latency, once, whatever its length. What the server sends is moved
from socket to socket inside the kernel (splice(2)): it is neither looked at nor copied into Python. Opening a
connection costs no latency, and nothing is done about TCP's slow start, so that real distances cost more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import re
import socket
import sys
from dataclasses import asdict, dataclass

__all__ = ["Passed"]

_PIPE_BYTES = 2**20
_READ_BYTES = 2**16
_F_SETPIPE_SZ = 1031
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Passed:
    """What went through.

    Attributes:
        requests: How many requests.
        reply_bytes: Bytes of the replies, their heads included.
    """

    requests: int = 0
    reply_bytes: int = 0


class _Requests:
    """Finds out where requests begin in what a client sends, one after the other."""

    def __init__(self) -> None:
        self._head = b""
        self._body_left = 0

    def begun_in(self, data: bytes) -> int:
        """How many requests' heads end in the next piece of what is sent."""
        found = 0
        while data:
            if self._body_left:
                taken = min(self._body_left, len(data))
                self._body_left -= taken
                data = data[taken:]
                continue
            head, end, rest = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                break
            found += 1
            length = _LENGTH.search(head)
            self._head, self._body_left, data = b"", int(length[1]) if length else 0, rest
        return found


class _Connection:
    """A client, and the connection to the server that is its own. Owns both sockets, and the pipe between them."""

    def __init__(self, client: socket.socket, server: socket.socket, latency: float, passed: Passed) -> None:
        self._loop = asyncio.get_running_loop()
        self._client, self._server = client, server
        self._latency, self._passed = latency, passed
        self._requests = _Requests()
        self._unsent = bytearray()
        self._from_pipe, self._to_pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(self._to_pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._in_pipe = 0
        self._open = True
        self._loop.add_reader(client, self._asked)
        self._loop.add_reader(server, self._answered)

    def _asked(self) -> None:
        """Take what the client sends, and hand it on in time."""
        try:
            data = self._client.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._passed.requests += self._requests.begun_in(data)
        if self._latency:
            self._loop.call_later(self._latency, self._send, data)
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        if self._open:
            self._unsent += data
            self._send_rest()

    def _send_rest(self) -> None:
        try:
            del self._unsent[: self._server.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        if self._unsent:
            self._loop.add_writer(self._server, self._send_rest)
        else:
            self._loop.remove_writer(self._server)

    def _answered(self) -> None:
        """Take what the server sends, and hand it on at once; take no more while the client is slower."""
        try:
            found = os.splice(self._server.fileno(), self._to_pipe, _PIPE_BYTES, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return
        except OSError:
            found = 0
        if not found:
            self._close()
            return
        self._passed.reply_bytes += found
        self._in_pipe += found
        self._empty_pipe()

    def _empty_pipe(self) -> None:
        was_full = self._in_pipe
        try:
            while self._in_pipe:
                self._in_pipe -= os.splice(
                    self._from_pipe, self._client.fileno(), self._in_pipe, flags=os.SPLICE_F_NONBLOCK
                )
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        if self._in_pipe:
            self._loop.remove_reader(self._server)
            self._loop.add_writer(self._client, self._empty_pipe)
        elif was_full:
            self._loop.remove_writer(self._client)
            self._loop.add_reader(self._server, self._answered)

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        for end in (self._client, self._server):
            self._loop.remove_reader(end)
            self._loop.remove_writer(end)
            end.close()
        os.close(self._from_pipe)
        os.close(self._to_pipe)


async def _serve(listening: socket.socket, upstream: int, latency: float, passed: Passed) -> None:
    """Take connections, as long as this is not cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        client, _ = await loop.sock_accept(listening)
        server = socket.socket()
        server.setblocking(False)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(server, ("127.0.0.1", upstream))
        except OSError:
            client.close()
            server.close()
            continue
        _Connection(client, server, latency, passed)


async def _run(upstream: int, latency: float) -> None:
    passed = Passed()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        listening.setblocking(False)
        print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
        serving = asyncio.create_task(_serve(listening, upstream, latency, passed))
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(asdict(passed)), flush=True)
            passed.requests = passed.reply_bytes = 0
        serving.cancel()


def main() -> None:
    """Run until the standard input ends."""
    parser = argparse.ArgumentParser(prog="benchmarks.slow_proxy", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--upstream", type=int, required=True, help="the server's port on 127.0.0.1")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds by which each request is late")
    options = parser.parse_args()
    asyncio.run(_run(options.upstream, options.latency))


if __name__ == "__main__":
    main()
