"""What the fault server passes on: the files of a folder, or the replies of another server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from servers.messages import PIECE_BYTES, BadMessage, Headers, Incoming, Reply, Request, head_bytes, read_head

if TYPE_CHECKING:
    from pathlib import Path

    from servers.messages import Pieces

__all__ = ["Folder", "Upstream"]


class Folder:
    """Files, for GET and HEAD: with ranges, entity tags and conditions, as the standard has them."""

    def __init__(self, root: Path) -> None:
        """Serve what is in a folder, as it is at the time of each request."""
        self._root = root.resolve()

    async def fetch(self, request: Request) -> Reply:
        """Answer a request."""
        if request.method not in ("GET", "HEAD"):
            return Reply.saying(405, headers=[("Allow", "GET, HEAD")])
        path = (self._root / unquote(request.path).lstrip("/")).resolve()
        if not (path.is_relative_to(self._root) and path.is_file()):
            return Reply.saying(404, b"no such file\n")
        descriptor = os.open(path, os.O_RDONLY)
        found = os.fstat(descriptor)
        etag = f'"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"'
        about = [
            ("ETag", etag),
            ("Last-Modified", formatdate(found.st_mtime, usegmt=True)),
            ("Accept-Ranges", "bytes"),
            ("Content-Type", "application/octet-stream"),
        ]
        status, first, last = _what_to_send(request, etag, found.st_size)
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            os.close(descriptor)
            beyond = [("Content-Range", f"bytes */{found.st_size}")] if status == 416 else []
            return Reply.saying(status, headers=[*about, *beyond])
        if status == HTTPStatus.PARTIAL_CONTENT:
            about.append(("Content-Range", f"bytes {first}-{last}/{found.st_size}"))
        return Reply(
            status=status,
            headers=Headers([*about, ("Content-Length", str(last + 1 - first))]),
            body=_read(descriptor, first, last + 1),
            close=lambda: os.close(descriptor),
        )

    async def close(self) -> None:
        """Nothing is kept open."""


def _what_to_send(request: Request, etag: str, size: int) -> tuple[int, int, int]:
    """The status, and the first and last byte to send."""
    tags = [tag.strip() for tag in (request.headers.get("if-match") or "").split(",")]
    if tags != [""] and etag not in tags and "*" not in tags:
        return 412, 0, -1
    tags = [tag.strip().removeprefix("W/") for tag in (request.headers.get("if-none-match") or "").split(",")]
    if etag in tags or "*" in tags:
        return 304, 0, -1
    if request.headers.get("if-range") not in (None, etag):
        return 200, 0, size - 1
    # Several ranges, or something else that is not one, may be ignored.
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.range or "")
    if not asked or not any(asked.groups()):
        return 200, 0, size - 1
    if not asked[1]:
        first, last = max(0, size - int(asked[2])), size - 1
    else:
        first, last = int(asked[1]), min(size - 1, int(asked[2] or size))
    return (206, first, last) if first <= last else (416, 0, -1)


async def _read(descriptor: int, first: int, end: int) -> Pieces:
    while first < end:
        # The file may become shorter meanwhile: then the client gets less than it was promised.
        data = os.pread(descriptor, min(PIECE_BYTES, end - first), first)
        if not data:
            raise asyncio.IncompleteReadError(b"", end - first)
        first += len(data)
        yield data


# What concerns one connection, and not the message that goes over it.
_OF_A_CONNECTION = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "expect")

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Upstream:
    """Another server, which sees the requests as they came: with the Host that the client has named and signed."""

    def __init__(self, address: str) -> None:
        """Pass requests on.

        Args:
            address: ``HOST:PORT``.
        """
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._idle: list[_Connection] = []

    async def fetch(self, request: Request) -> Reply:
        """Pass a request on, and give the reply back as it begins to come.

        Raises:
            OSError: There is no reply.
        """
        while self._idle and request.body.complete:
            connection = self._idle.pop()
            try:
                return await self._exchange(request, connection)
            except (OSError, EOFError):
                # It was closed while nobody used it. A request without a body can be made again.
                connection[1].transport.abort()
        connection = await asyncio.open_connection(self._host, self._port, limit=4 * PIECE_BYTES)
        try:
            return await self._exchange(request, connection)
        except EOFError as error:
            connection[1].transport.abort()
            raise ConnectionError(f"the upstream gave no reply: {error}") from error
        except BaseException:
            connection[1].transport.abort()
            raise

    async def _exchange(self, request: Request, connection: _Connection) -> Reply:
        reader, writer = connection
        headers = request.headers.without(*_OF_A_CONNECTION)
        if request.body.chunked:
            headers = headers.having("Transfer-Encoding", "chunked")
        writer.write(head_bytes(f"{request.method} {request.target} HTTP/1.1", headers))
        # A server may refuse before it has read the whole body, and must be heard then.
        sending = None if request.body.complete else asyncio.create_task(_send(request.body, writer))
        try:
            first, headers = await _read_final_head(reader)
        finally:
            if sending is not None and not sending.done():
                sending.cancel()
            if sending is not None:
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await sending
        version, status, *_ = first.split(" ", 2)
        body = Incoming(reader, headers, empty=request.method == "HEAD" or status in ("204", "304"), to_the_end=True)
        stays = version == "HTTP/1.1" and (headers.get("connection") or "").lower() != "close"
        passed = headers.without(*_OF_A_CONNECTION)
        if passed.get("content-length") is None and not body.complete:
            passed = passed.having("Transfer-Encoding", "chunked")

        def close() -> None:
            if stays and body.complete and request.body.complete:
                self._idle.append(connection)
            else:
                writer.transport.abort()

        return Reply(status=int(status), headers=passed, body=body.pieces(), close=close)

    async def close(self) -> None:
        """Close the connections that are kept."""
        for _, writer in self._idle:
            writer.transport.abort()
        self._idle.clear()


async def _send(body: Incoming, writer: asyncio.StreamWriter) -> None:
    try:
        async for piece in body.pieces():
            writer.writelines([b"%x\r\n" % len(piece), piece, b"\r\n"] if body.chunked else [piece])
            await writer.drain()
    except EOFError:
        # The client has left. The upstream must not wait for the rest, nor take what it has for all.
        writer.transport.abort()
        raise
    if body.chunked:
        writer.write(b"0\r\n\r\n")


async def _read_final_head(reader: asyncio.StreamReader) -> tuple[str, Headers]:
    while True:
        head = await read_head(reader)
        if head is None:
            raise EOFError("the connection was closed")
        if not re.match(r"HTTP/1\.[01] \d{3}", head[0]):
            raise BadMessage(f"the first line of a reply: {head[0][:50]!r}")
        # 1xx only says that the real one is still to come.
        if not head[0].startswith(("HTTP/1.1 1", "HTTP/1.0 1")):
            return head
