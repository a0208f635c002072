"""HTTP/1.1 as the fault server reads and writes it: strict about what it reads, and free in what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "PIECE_BYTES",
    "BadMessage",
    "Break",
    "Headers",
    "Incoming",
    "Pieces",
    "Reply",
    "Request",
    "head_bytes",
    "read_head",
]

Pieces = AsyncGenerator[bytes, None]

# Large enough that a piece costs little, small enough that hundreds of them fit into memory.
PIECE_BYTES = 256 << 10


class BadMessage(ValueError):
    """What came is not HTTP/1.1, or more than is read of it."""


class Break(Exception):
    """Raised to end a reply here, and its connection with it.

    Attributes:
        how: ``reset`` (RST), ``fin`` (the end of the connection) or ``stall`` (nothing more, until the client leaves).
    """

    def __init__(self, how: Literal["reset", "fin", "stall"]) -> None:
        super().__init__(how)
        self.how = how


class Headers(tuple[tuple[str, str], ...]):
    """The headers of a message in their order, each name as it was written."""

    __slots__ = ()

    def get(self, name: str) -> str | None:
        """The first value of a header, whose name is given in lower case."""
        return next((value for key, value in self if key.lower() == name), None)

    def without(self, *names: str) -> Headers:
        """All but some, whose names are given in lower case."""
        return Headers(header for header in self if header[0].lower() not in names)

    def having(self, name: str, value: str) -> Headers:
        """With a header in place of those of the same name."""
        return Headers([*self.without(name.lower()), (name, value)])


class Incoming:
    """The body of a message that is being received.

    Attributes:
        chunked: It comes in chunks.
        complete: All of it was read.
    """

    def __init__(
        self, reader: asyncio.StreamReader, headers: Headers, *, empty: bool = False, to_the_end: bool = False
    ) -> None:
        """Find out how long the body is.

        Args:
            reader: Where it comes from.
            headers: The headers of the message.
            empty: It has no body, whatever the headers say.
            to_the_end: Where they say nothing, the body goes on to the end of the connection.

        Raises:
            BadMessage: Its length is not a number.
        """
        self._reader = reader
        self.chunked = not empty and "chunked" in (headers.get("transfer-encoding") or "").lower()
        length = None if empty or self.chunked else headers.get("content-length")
        if length is not None and not (length.isascii() and length.isdecimal()):
            raise BadMessage(f"Content-Length: {length}")
        # How much of the body, or of a chunk, is still to come; None where only the end of the connection tells.
        self._left = None if length is None and to_the_end and not empty and not self.chunked else int(length or 0)
        self.complete = self._left == 0 and not self.chunked

    async def pieces(self) -> Pieces:
        """What is left of it.

        Raises:
            BadMessage: A chunk is not one.
            asyncio.IncompleteReadError: The connection ended before the body.
        """
        while not self.complete:
            if self.chunked and self._left == 0:
                await self._begin_chunk()
                continue
            data = await self._reader.read(PIECE_BYTES if self._left is None else min(PIECE_BYTES, self._left))
            if self._left is None:
                self.complete = not data
            elif not data:
                raise asyncio.IncompleteReadError(b"", self._left)
            else:
                self._left -= len(data)
                if self._left == 0:
                    await self._end()
            if data:
                yield data

    async def _begin_chunk(self) -> None:
        line = await self._reader.readline()
        try:
            self._left = int(line.split(b";")[0], 16)
        except ValueError:
            raise BadMessage(f"the length of a chunk: {line[:50]!r}") from None
        if self._left == 0:
            # Trailers are read and forgotten.
            while await self._reader.readline() not in (b"\r\n", b""):
                pass
            self.complete = True

    async def _end(self) -> None:
        if self.chunked:
            await self._reader.readexactly(len(b"\r\n"))
        else:
            self.complete = True

    async def drain(self) -> None:
        """Read what is left and forget it."""
        async for _ in self.pieces():
            pass


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request whose body may still be on its way.

    Attributes:
        method: GET, PUT ...
        target: The path as it was sent, with its query.
        headers: Its headers.
        body: Its body.
    """

    method: str
    target: str
    headers: Headers
    body: Incoming

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


async def _pieces(*pieces: bytes) -> Pieces:
    for piece in pieces:
        yield piece


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply as it is going to be sent, right or wrong.

    Attributes:
        status: The status code.
        headers: Its headers. Where they do not say how long the body is, the end of the connection ends it.
        body: The pieces of the body. They may raise `Break`.
        close: Gives back what the body comes from. Called once, whether the body was read or not.
    """

    status: int
    headers: Headers = field(default_factory=Headers)
    body: Pieces = field(default_factory=_pieces)
    close: Callable[[], None] = _nothing

    @classmethod
    def saying(cls, status: int, data: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> Reply:
        """A reply made of some bytes."""
        return cls(status=status, headers=Headers([*headers, ("Content-Length", str(len(data)))]), body=_pieces(data))

    @property
    def length(self) -> int:
        """How long the body is said to be; 0 where nothing is said."""
        return int(self.headers.get("content-length") or 0)

    def having(self, name: str, value: str) -> Reply:
        """With a header in place of those of the same name."""
        return replace(self, headers=self.headers.having(name, value))

    def without(self, *names: str) -> Reply:
        """Without some headers, whose names are given in lower case."""
        return replace(self, headers=self.headers.without(*names))


async def read_head(reader: asyncio.StreamReader) -> tuple[str, Headers] | None:
    """The first line of a message, and its headers.

    Args:
        reader: Where it comes from.

    Returns:
        Them, or ``None`` where the connection has ended instead.

    Raises:
        BadMessage: It is something else.
        asyncio.IncompleteReadError: The connection ended in the middle.
    """
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    except asyncio.LimitOverrunError:
        raise BadMessage("the headers are too long") from None
    first, *lines = data[:-4].decode("latin-1").split("\r\n")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadMessage(f"a header without a colon: {line[:50]!r}")
        headers.append((name, value.strip()))
    return first, Headers(headers)


def head_bytes(first: str, headers: Headers) -> bytes:
    """The first line of a message and its headers, as they are sent."""
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers), "", ""]).encode("latin-1")
