"""Replies of a web server, given to the HTTP client as if they had come from a socket."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import aiohttp

from fuzzing.mutate import ODD_NUMBERS, odd_text
from fuzzing.target import damaged
from shardkit.storage.attempts import FailedError, RetryPolicy
from shardkit.storage.http import HttpClient
from shardkit.storage.remote import RemoteStore

if TYPE_CHECKING:
    from random import Random

    from aiohttp.client_proto import ResponseHandler

__all__ = ["ReplyTarget"]

_URL = "http://example.test/data"
_START, _STOP = 10, 260
_BODY = bytes(range(250))
_MOST_BYTES = 100_000
_NEXT = b"\n--next--\n"  # what comes of another connection, where there is one
_HEADS = (
    b'206 Partial Content\r\nContent-Range: bytes 10-259/1000\r\nContent-Length: 250\r\nETag: "a"',
    b'200 OK\r\nContent-Length: 250\r\nETag: W/"b"',
    b"200 OK\r\nContent-Length: 250",
    b"206 Partial Content\r\nContent-Range: bytes 10-259/260\r\nTransfer-Encoding: chunked",
)
_OTHERS = (
    *(b"416 No\r\nContent-Range: bytes */5", b"404 No\r\nContent-Length: 0", b"503 No\r\nRetry-After: 3", b"500 \xff"),
    *(b"302 Found\r\nLocation: /other", b"301 M\r\nLocation: http://[::1", b"307 T\r\nLocation: //u:p@h/x?sig=abc"),
    *(b"200 OK\r\nContent-Encoding: gzip", b"204 No Content", b"100 Continue", b"101 Switching", b"304 Not Modified"),
    *(b"206 P\r\nContent-Type: multipart/byteranges; boundary=x", b"200 OK\r\nConnection: close", b"408 T", b"308 "),
)
_HEADERS = (
    *(b"Content-Length", b"Content-Range", b"Content-Encoding", b"Transfer-Encoding", b"Location", b"Retry-After"),
    *(b"ETag", b"Connection", b"Set-Cookie", b"Trailer", b"Upgrade", b"Content-Type", b"WWW-Authenticate", b"X"),
)
_VALUES = (
    *(
        b"",
        b"-1",
        b"1e3",
        b"0x10",
        b"+5",
        b" 250 ",
        b"250, 250",
        b"\xb2",
        b"gzip",
        b"identity",
        b"IDENTITY",
        b"chunked",
    ),
    *(b"chunked, gzip", b"bytes */*", b"bytes 10-259/*", b"bytes 259-10/260", b"bytes 0-0/1", b"bytes 10-259/259"),
    *(b"http://[::1", b"http://\xff/", b"https://a:b@c/?d", b"//", b"http:", b"ftp://x/", b"Wed, 99 Foo 2026"),
    *(
        b"Fri, 31 Dec 9999 23:59:59 GMT",
        b"Sun, 01 Jan 0000 00:00:00 -9999",
        b"1" * 400,
        b"close",
        b"a\0b",
        b"x=" * 4000,
    ),
)


class ReplyTarget:
    """`RemoteStore.fetch`, `fetch_whole` and `fetch_size` over `HttpClient`.

    An input is a byte that says what is asked for and in what pieces the answer comes, then the bytes of the answer.
    """

    def __init__(self) -> None:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            del os.environ[name]
        self.seeds = [b"\x00" + _reply(_HEADS[0]), b"\x01" + _reply(_HEADS[1]), b"\x02" + _reply(_HEADS[2])[:-250]]
        chunked = (
            _reply(_HEADS[3])[:-250] + b"64\r\n" + _BODY[:100] + b"\r\n96;x=y\r\n" + _BODY[100:] + b"\r\n0\r\n\r\n"
        )
        self.seeds.append(b"\x04" + chunked)
        self.seeds.append(b"\x08" + _reply(_OTHERS[4])[:-250] + _NEXT + _reply(_HEADS[0]))
        self._more = [*self.seeds, *(b"\x00" + _reply(head) for head in _OTHERS)]
        self._loop = asyncio.new_event_loop()
        policy = RetryPolicy(retries=0, timeout=30)
        self._client = HttpClient(_URL, {"X-Token": "secret"}, policy, ("secret",))
        self._store = RemoteStore(_URL, self._client, policy, read_only=True)
        self._connector = self._loop.run_until_complete(self._session())

    async def _session(self) -> _Connector:
        connector = _Connector(limit=0, force_close=True)
        # Where the client keeps the one that it would make itself.
        self._client._session()  # noqa: SLF001
        await self._client._sessions[self._loop].close()  # noqa: SLF001
        self._client._sessions[self._loop] = aiohttp.ClientSession(  # noqa: SLF001
            connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_read=30), auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
        )  # fmt: skip
        return connector

    def mutant(self, rng: Random) -> bytes:
        """A changed reply."""
        kind = rng.random()
        data = rng.choice(self._more)
        if kind < 0.4:
            return _how(rng, data) + damaged(rng, [data[1:], *self._more])
        head, blank, body = data[1:].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        for _ in range(rng.choice((1, 1, 2, 3))):
            at, change = rng.randrange(1, len(lines) + 1), rng.randrange(6)
            if change == 0:
                lines[0] = b"HTTP/1.1 " + rng.choice((*_HEADS, *_OTHERS)).partition(b"\r")[0]
            elif change == 1 and at < len(lines):
                del lines[at]
            elif change == 2:
                lines.insert(at, rng.choice(_HEADERS) + b": " + _value(rng))
            elif at < len(lines):
                lines[at] = lines[at].partition(b":")[0] + b": " + _value(rng)
        if rng.random() < 0.1:
            lines[1:1] = [b"X-%d: y" % at for at in range(rng.choice((100, 10_000)))]
        if rng.random() < 0.2:
            body = rng.choice((b"", body[:100], body * 2, body * 3000, b"ffffffffffffffff\r\n" + body, b"-1\r\n"))
        return _how(rng, data) + b"\r\n".join(lines) + blank + body

    def parse(self, data: bytes) -> None:
        """Ask for something, with this for an answer."""
        how = data[0] if data else 0
        self._connector.answers = data[1:].split(_NEXT)
        self._connector.piece = (1 << 16, 7, 1000)[how // 4 % 3]
        self._loop.run_until_complete(self._ask(how % 4))

    async def _ask(self, kind: int) -> None:
        name = "part.tar"
        try:
            if kind == 1:
                whole = await self._store.fetch_whole(name, _MOST_BYTES)
                assert whole is None or len(whole) <= _MOST_BYTES, "more bytes than are wanted"
            elif kind == 2:
                assert await self._store.fetch_size(name) >= 0, "a negative length"
            else:
                reply = await self._store.fetch(name, _START, _STOP)
                expected = max(0, min(_STOP, reply.size) - _START)
                assert len(reply.data) == expected, "other bytes than were asked for"
        except FailedError as exc:
            raise self._store.failed(exc, name) from None


class _Connector(aiohttp.BaseConnector):  # type: ignore[misc]
    """Connects to nobody: each connection answers with the next of the answers, the last one again and again."""

    answers: list[bytes]
    piece = 1 << 16

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:  # noqa: ARG002
        protocol: ResponseHandler = self._factory()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        protocol.connection_made(_Transport(protocol, answer, self.piece))
        return protocol


class _Transport(asyncio.Transport):
    """The end of a connection that answers the first thing it is sent, then closes."""

    def __init__(self, protocol: asyncio.Protocol, answer: bytes, piece: int) -> None:
        super().__init__()
        self._protocol = protocol
        self._pieces = [answer[at : at + piece] for at in range(0, min(len(answer), 2000 * piece), piece)][::-1]
        self._begun = self._closed = self._paused = False

    def write(self, data: Any) -> None:  # noqa: ARG002
        if not self._begun:
            self._begun = True
            self._soon(self._give)

    def _soon(self, function: Any) -> None:
        # Behind what the client does between sending and reading.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, function)

    def _give(self) -> None:
        if self._closed or self._paused:
            return
        if not self._pieces:
            self.close()
            return
        self._protocol.data_received(self._pieces.pop())
        self._soon(self._give)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._soon(self._give)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._soon(lambda: self._protocol.connection_lost(None))

    def abort(self) -> None:
        self.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002
        return default

    def can_write_eof(self) -> bool:
        return False


def _reply(head: bytes) -> bytes:
    return b"HTTP/1.1 " + head + b"\r\n\r\n" + _BODY


def _how(rng: Random, data: bytes) -> bytes:
    """The first byte of an input: half of the time what the answer is one to."""
    return data[:1] if rng.random() < 0.5 else bytes([rng.randrange(12)])


def _value(rng: Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return b"bytes %d-%d/%d" % (rng.choice((0, 10)), rng.choice((0, 259)), rng.choice(ODD_NUMBERS))
    if kind == 1:
        return b"%d" % rng.choice(ODD_NUMBERS)
    return rng.choice(_VALUES) if kind == 2 else odd_text(rng).encode("utf-8", "surrogatepass")
