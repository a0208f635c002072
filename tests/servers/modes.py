"""What the fault server can do to a reply. A mode is a value; `servers.rules` says which requests it meets."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from math import ceil
from time import time
from typing import ClassVar, Literal, Protocol

from servers.messages import Break, Pieces, Reply, Request

__all__ = [
    "Chunked",
    "Corrupt",
    "Drip",
    "ETagFlips",
    "Fault",
    "Fetch",
    "Fin",
    "Gzip",
    "IgnoreRange",
    "NoETag",
    "NoLength",
    "OtherRange",
    "Redirect",
    "Reset",
    "SaysIdentity",
    "Stall",
    "Status",
    "TooLong",
    "TooShort",
    "WeakETag",
    "WrongContentRange",
    "dripped",
]

Fetch = Callable[[Request], Awaitable[Reply]]
# A place in a body: so many bytes, or, as a float, such a share of it.
Place = int | float


class Fault(Protocol):
    """One way to answer. Raises `Break` where there is to be no reply."""

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        """Answer a request, with the right reply that ``fetch`` gives or without."""
        ...


@dataclass(frozen=True)
class _Ending:
    """The connection ends early.

    Attributes:
        after: Where in the body, or at its end where that comes first; ``None`` is before any of the reply, 0 after its
            headers. The reply to a HEAD has no body to end in.
        carried_out: Before any of the reply, but after the request was carried out.
    """

    after: Place | None = None
    carried_out: bool = False
    how: ClassVar[Literal["reset", "fin", "stall"]]

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        if self.after is None and not self.carried_out:
            await request.body.drain()
            raise Break(self.how)
        reply = await fetch(request)
        if self.after is None:
            reply.close()
            raise Break(self.how)
        return replace(reply, body=_broken(_up_to(reply.body, _offset(self.after, reply)), self.how))


class Reset(_Ending):
    """A reset (RST). What was sent before it does arrive."""

    how = "reset"


class Fin(_Ending):
    """The end of the connection, in good order, but too early."""

    how = "fin"


@dataclass(frozen=True)
class Stall(_Ending):
    """Nothing more comes, until the client leaves.

    Attributes:
        seconds: Or for so long, after which the reply goes on and is right.
    """

    seconds: float | None = None
    how = "stall"

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        if self.seconds is None:
            return await super().reply(request, fetch)
        if self.after is None:
            await asyncio.sleep(self.seconds)
            return await fetch(request)
        reply = await fetch(request)
        return replace(reply, body=_paused(reply.body, _offset(self.after, reply), self.seconds))


@dataclass(frozen=True)
class Drip:
    """The body comes slowly.

    Attributes:
        bytes_per_s: How slowly.
    """

    bytes_per_s: float = 1.0

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        reply = await fetch(request)
        return replace(reply, body=dripped(reply.body, self.bytes_per_s))


@dataclass(frozen=True)
class Status:
    """Another status, without the request being carried out.

    Attributes:
        code: The status.
        retry_after: After how many seconds to come again.
        as_date: Say that as a date.
        body: What to say.
    """

    code: int
    retry_after: int | None = None
    as_date: bool = False
    body: bytes = b""

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        headers = []
        if self.retry_after is not None:
            # Dates have whole seconds: rounded up, so that it is never sooner than was said.
            date = formatdate(ceil(time()) + self.retry_after, usegmt=True)
            headers.append(("Retry-After", date if self.as_date else str(self.retry_after)))
        return Reply.saying(self.code, self.body, headers)


@dataclass(frozen=True)
class Redirect:
    """The thing is somewhere else.

    Attributes:
        location: Where; ``{target}`` stands for what was asked for, so that this alone is an endless loop.
        code: The status.
    """

    location: str
    code: int = 302

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        location = self.location.replace("{target}", request.target)
        return Reply.saying(self.code, headers=[("Location", location)])


@dataclass(frozen=True)
class TooShort:
    """The body ends early and Content-Length says so: nothing in the reply itself is wrong.

    Attributes:
        length: How much there is.
    """

    length: Place = 0.5

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        reply = await fetch(request)
        end = min(reply.length, _offset(self.length, reply))
        return replace(reply.having("Content-Length", str(end)), body=_up_to(reply.body, end))


@dataclass(frozen=True)
class TooLong:
    """Content-Length promises more than there is; then the connection ends.

    Attributes:
        extra: How much more, in bytes.
    """

    extra: int = 1

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        reply = await fetch(request)
        return replace(reply.having("Content-Length", str(reply.length + self.extra)), body=_broken(reply.body, "fin"))


@dataclass(frozen=True)
class NoLength:
    """No Content-Length: the end of the connection ends the body."""

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        return (await fetch(request)).without("content-length", "transfer-encoding")


@dataclass(frozen=True)
class Chunked:
    """No Content-Length: the body comes in chunks."""

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        return (await fetch(request)).without("content-length").having("Transfer-Encoding", "chunked")


@dataclass(frozen=True)
class SaysIdentity:
    """A Content-Encoding that changes nothing."""

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        return (await fetch(request)).having("Content-Encoding", "Identity")


@dataclass(frozen=True)
class Gzip:
    """Content-Encoding: gzip, which nobody has asked for.

    Attributes:
        honest: The body is compressed.
    """

    honest: bool = True

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        reply = (await fetch(request)).having("Content-Encoding", "gzip")
        if not self.honest or request.method == "HEAD":
            return reply
        data = gzip.compress(b"".join([piece async for piece in reply.body]))
        return replace(reply.having("Content-Length", str(len(data))), body=Reply.saying(200, data).body)


@dataclass(frozen=True)
class Corrupt:
    """One bit of the body is wrong.

    Attributes:
        at: In which byte.
    """

    at: Place = 0.5

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        reply = await fetch(request)
        return replace(reply, body=_flipped(reply.body, _offset(self.at, reply)))


@dataclass(frozen=True)
class IgnoreRange:
    """200 and the whole file, whatever was asked for. An upstream that checks signatures refuses what is changed."""

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        return await fetch(replace(request, headers=request.headers.without("range")))


@dataclass(frozen=True)
class OtherRange:
    """206 for another range than was asked for, which it says. An upstream that checks signatures refuses that.

    Attributes:
        shift: By how much it begins and ends later.
    """

    shift: int = 1

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        if not request.range:
            return await fetch(request)
        return await fetch(
            replace(request, headers=request.headers.having("Range", _shifted(request.range, self.shift)))
        )


@dataclass(frozen=True)
class WrongContentRange:
    """What was asked for, but Content-Range says that it is something else.

    Attributes:
        shift: By how much what it names lies later.
    """

    shift: int = 1

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        reply = await fetch(request)
        said, slash, size = (reply.headers.get("content-range") or "").partition("/")
        return reply.having("Content-Range", _shifted(said, self.shift) + slash + size) if said else reply


@dataclass(frozen=True)
class ETagFlips:
    """Another ETag in each reply, as if the object were replaced all the time."""

    _numbers: itertools.count[int] = field(default_factory=itertools.count, repr=False, compare=False)

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        return (await fetch(request)).having("ETag", f'"version-{next(self._numbers)}"')


@dataclass(frozen=True)
class NoETag:
    """No ETag."""

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        return (await fetch(request)).without("etag")


@dataclass(frozen=True)
class WeakETag:
    """A weak ETag, which does not promise the same bytes."""

    async def reply(self, request: Request, fetch: Fetch) -> Reply:
        reply = await fetch(request)
        tag = reply.headers.get("etag")
        return reply.having("ETag", f"W/{tag}") if tag else reply


def _offset(place: Place, reply: Reply) -> int:
    return place if isinstance(place, int) else int(place * reply.length)


def _shifted(said: str, shift: int) -> str:
    return re.sub(r"\d+", lambda number: str(int(number[0]) + shift), said)


async def _up_to(pieces: Pieces, end: int) -> Pieces:
    if end <= 0:
        return
    async for piece in pieces:
        yield piece[:end]
        end -= len(piece)
        if end <= 0:
            return


async def _broken(pieces: Pieces, how: Literal["reset", "fin", "stall"]) -> Pieces:
    async for piece in pieces:
        yield piece
    raise Break(how)


async def _paused(pieces: Pieces, at: int, seconds: float) -> Pieces:
    before = 0
    async for piece in pieces:
        inside = at - before
        before += len(piece)
        if 0 <= inside < len(piece):
            yield piece[:inside]
            await asyncio.sleep(seconds)
            yield piece[inside:]
        else:
            yield piece


async def _flipped(pieces: Pieces, at: int) -> Pieces:
    async for piece in pieces:
        if 0 <= at < len(piece):
            yield piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
        else:
            yield piece
        at -= len(piece)


async def dripped(pieces: Pieces, bytes_per_s: float) -> Pieces:
    """Pieces at a steady pace.

    Args:
        pieces: The pieces.
        bytes_per_s: The pace.

    Yields:
        The same bytes, in smaller pieces.
    """
    loop = asyncio.get_running_loop()
    # Twenty steps a second look steady to any client, and cost little.
    step = max(1, int(bytes_per_s / 20))
    due = loop.time()
    async for piece in pieces:
        for begin in range(0, len(piece), step):
            part = piece[begin : begin + step]
            yield part
            due += len(part) / bytes_per_s
            await asyncio.sleep(due - loop.time())
