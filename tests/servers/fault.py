"""A web server, or a proxy before one, that does wrong what it is told to, and knows what it was asked.

In a test::

    with FaultServer(folder, Rule(fault=Reset(after=0.5), times=1)) as server:
        ...  # read server.url + "name"
    assert [request.range for request in server.requests] == [None, "bytes=500-"]

As a program, for a proxy that is only slow: ``python -m servers.fault --upstream 127.0.0.1:18333 --latency 0.1``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import signal
import socket
import struct
import termios
import threading
import time
from dataclasses import dataclass, field, replace
from http.client import responses
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from servers.messages import PIECE_BYTES, BadMessage, Break, Incoming, Reply, Request, head_bytes, read_head
from servers.modes import Reset, Stall, Status, dripped
from servers.rules import Choice, Mix, Rule, Rules
from servers.sources import Folder, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from servers.modes import Fault

__all__ = ["FaultServer", "Mix", "Recorded", "Rule"]


@dataclass(slots=True)
class Recorded:
    """A request that came in, and what became of it.

    Attributes:
        method: GET, PUT ...
        target: The path as it was sent, with its query.
        headers: Its headers, their names in lower case.
        came: When it came, by `time.monotonic`.
        fault: What was done to it.
        status: The status that was sent; 0 where none was.
        sent: How many bytes of the body were sent.
        end: How it ended: ``whole``, ``reset``, ``fin``, ``stall``, or ``left`` where the client or the upstream has
            left in the middle; empty while it goes on.
    """

    method: str
    target: str
    headers: dict[str, str]
    came: float = field(default_factory=time.monotonic)
    fault: Fault | None = None
    status: int = 0
    sent: int = 0
    end: str = ""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


class _Source(Protocol):
    async def fetch(self, request: Request) -> Reply: ...

    async def close(self) -> None: ...


class FaultServer:
    """Serves a folder or another server, with faults, from a thread of its own, as long as a ``with`` block.

    Attributes:
        port: Where it listens on 127.0.0.1.
        latency: Seconds by which each request is late.
        rate: The bytes a second that each reply's body may take; ``None`` is no limit.
        requests: What was asked so far, oldest first.
        num_requests: How many requests have ended.
        sent_bytes: How many bytes their bodies had.
    """

    def __init__(
        self,
        source: Path | str,
        *faults: Rule | Choice,
        latency: float = 0.0,
        rate: float | None = None,
        port: int = 0,
        keep: bool = True,
    ) -> None:
        """Set it up. Nothing is started yet.

        Args:
            source: A folder; or ``HOST:PORT`` of another server, to be its proxy.
            faults: Rules; or one function that takes a request and returns a fault or ``None``, such as a `Mix`.
            latency: See above.
            rate: See above.
            port: Where to listen; 0 is any free port.
            keep: Whether to keep all requests in ``requests``.
        """
        self.port = port
        self.latency = latency
        self.rate = rate
        self.requests: list[Recorded] = []
        self.num_requests = 0
        self.sent_bytes = 0
        self._keep = keep
        self._source: _Source = Upstream(source) if isinstance(source, str) else Folder(source)
        self._changed = threading.Condition()
        self._failures: list[BaseException] = []
        self._connections: set[asyncio.Task[None]] = set()
        self.use(*faults)

    @property
    def url(self) -> str:
        """Its root, with a slash at the end."""
        return f"http://127.0.0.1:{self.port}/"

    def use(self, *faults: Rule | Choice) -> None:
        """Other faults from now on; all that was counted for the ones before is forgotten.

        Args:
            faults: As when it was set up.
        """
        if len(faults) == 1 and not isinstance(faults[0], Rule):
            self._choose: Choice = faults[0]
        else:
            self._choose = Rules([rule for rule in faults if isinstance(rule, Rule)])

    def forget(self) -> None:
        """Begin the list of requests anew."""
        with self._changed:
            self.requests = []

    def wait_for(self, happened: Callable[[list[Recorded]], bool], timeout_s: float = 10.0) -> None:
        """Wait until the requests are as they should be.

        Args:
            happened: Whether they are. An `IndexError` means no: so many have not come yet.
            timeout_s: For how long at most.

        Raises:
            TimeoutError: They never were.
        """
        deadline = time.monotonic() + timeout_s

        def happened_now() -> bool:
            try:
                return happened(self.requests)
            except IndexError:
                return False

        with self._changed:
            while not happened_now():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"after {timeout_s} seconds there is only {self.requests}")
                # Not everything that changes is told.
                self._changed.wait(0.05)

    def __enter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), name=f"fault server {self.port}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failures and error is None:
            raise RuntimeError("the fault server itself has failed") from self._failures[0]

    def _run(self, listening: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(self._accepted, sock=listening, limit=4 * PIECE_BYTES)
        await self._stop.wait()
        # No more are accepted, and those that asyncio is accepting just now are let in: called off, or of a server that
        # was closed meanwhile, they would be left open.
        self._loop.remove_reader(listening)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for connection in self._connections:
                connection.cancel()
            await asyncio.wait(others, timeout=0.01)
        server.close()
        await self._source.close()
        # What was aborted is closed in the loop's next round.
        await asyncio.sleep(0)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine: a task that is cancelled before it begins would leave the connection open.
        task = asyncio.create_task(self._connected(reader, writer))
        self._connections.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._connections.discard(task)
            writer.transport.abort()

        task.add_done_callback(ended)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio does so for sockets that it has made. Without it, small replies wait 40 ms for an acknowledgement.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._answer_next(reader, writer):
                pass
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError, BadMessage, asyncio.CancelledError):
            # The client or the upstream has left in the middle, or the server is being stopped.
            pass
        except Exception as error:  # noqa: BLE001 (in a thread of its own it would else go unnoticed)
            self._failures.append(error)

    async def _answer_next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the next request of a connection, and say whether there may be another."""
        try:
            head = await read_head(reader)
            if head is None:
                return False
            method, target, version = head[0].split(" ")
            request = Request(method=method, target=target, headers=head[1], body=Incoming(reader, head[1]))
        except ValueError:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return False
        record = Recorded(method, target, {name.lower(): value for name, value in head[1]})
        if self._keep:
            with self._changed:
                self.requests.append(record)
                self._changed.notify_all()
        if (request.headers.get("expect") or "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        stays = version == "HTTP/1.1" and (request.headers.get("connection") or "").lower() != "close"
        end = "left"
        try:
            stays = await self._answer(request, record, writer, stays=stays)
            end = "whole"
        except Break as how:
            end = how.how
            stays = False
            await _break_off(reader, writer, end)
        finally:
            with self._changed:
                record.end = end
                self.num_requests += 1
                self.sent_bytes += record.sent
                self._changed.notify_all()
        return stays

    async def _answer(self, request: Request, record: Recorded, writer: asyncio.StreamWriter, *, stays: bool) -> bool:
        if self.latency:
            await asyncio.sleep(self.latency)
        fault = record.fault = self._choose(request)
        try:
            reply = await (fault.reply(request, self._source.fetch) if fault else self._source.fetch(request))
        except OSError as error:
            reply = Reply.saying(502, f"{error}\n".encode())
        try:
            await request.body.drain()
            if self.rate:
                reply = replace(reply, body=dripped(reply.body, self.rate))
            return await _send(request, reply, record, writer, stays=stays)
        finally:
            reply.close()


async def _send(request: Request, reply: Reply, record: Recorded, writer: asyncio.StreamWriter, *, stays: bool) -> bool:
    """Send a reply, and say whether the connection stays."""
    headers = reply.headers
    empty = request.method == "HEAD" or reply.status in (204, 304)
    chunked = headers.get("transfer-encoding") is not None
    stays = stays and (empty or chunked or headers.get("content-length") is not None)
    if not stays:
        headers = headers.having("Connection", "close")
    # Said before it is sent: a client that has the reply finds it in the record.
    record.status = reply.status
    writer.write(head_bytes(f"HTTP/1.1 {reply.status} {responses.get(reply.status, 'Unknown')}", headers))
    if not empty:
        async with contextlib.aclosing(reply.body) as pieces:
            async for piece in pieces:
                if piece:
                    record.sent += len(piece)
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                    await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
    await writer.drain()
    return stays


async def _break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, how: str) -> None:
    # All that was sent before must arrive, also when a reset is next, which would else overtake it.
    writer.transport.set_write_buffer_limits(0)
    await writer.drain()
    if how == "stall":
        while await reader.read(PIECE_BYTES):
            pass
    if how == "reset":
        connection = writer.get_extra_info("socket")
        deadline = time.monotonic() + 10
        # A client that does not read on cannot be waited for.
        while _num_unsent(connection) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def _num_unsent(connection: socket.socket) -> int:
    """How many bytes the other end has not got yet."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])


def _main() -> None:
    parser = argparse.ArgumentParser(prog="servers.fault", description=(__doc__ or "").partition("\n")[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--folder", type=Path, help="serve the files of a folder")
    where.add_argument("--upstream", help="HOST:PORT of a server to be the proxy of")
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1 (default: any free port)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds by which each request is late")
    parser.add_argument("--rate", type=float, help="bytes a second that each reply may take")
    parser.add_argument("--reset", type=float, default=0.0, help="share of requests that are reset somewhere")
    parser.add_argument("--error", type=float, default=0.0, help="share of requests that get 503")
    parser.add_argument("--stall", type=float, default=0.0, help="share of requests that stall somewhere for good")
    parser.add_argument("--seed", type=int, default=0, help="for these")
    given = parser.parse_args()
    mix = Mix(
        [
            (given.reset, lambda random: Reset(after=random.random())),
            (given.error, Status(503)),
            (given.stall, lambda random: Stall(after=random.random())),
        ],
        seed=given.seed,
    )
    # Blocked before a thread starts, so that none but this one is told.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    source = given.folder or given.upstream
    with FaultServer(source, mix, latency=given.latency, rate=given.rate, port=given.port, keep=False) as server:
        print(json.dumps({"port": server.port, "url": server.url}), flush=True)
        signal.sigwait(ends)
    print(json.dumps({"num_requests": server.num_requests, "sent_bytes": server.sent_bytes}), flush=True)


if __name__ == "__main__":
    _main()
