"""A proxy for plain http, inside this process, that lets requests to one server pass and no others."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    import aiohttp
    from aiohttp import web

__all__ = ["Relay"]

# Of one connection and not of the request, by RFC 9110; and those that the two ends make themselves.
_OWN_HEADERS = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "upgrade"),
        *("transfer-encoding", "expect"),
    }
)
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_PIECE_BYTES = 2**18


class Relay:
    """The proxy. It runs in the loop of those who use it, from `start` until `close`.

    Args:
        origin: The server's URL.

    Attributes:
        url: Its own URL.
    """

    def __init__(self, origin: SplitResult) -> None:
        self._refused: str | None = None
        self._origin = _place(origin)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._running: dict[asyncio.AbstractEventLoop, tuple[web.ServerRunner, aiohttp.ClientSession]] = {}

    def take_refused(self) -> str | None:
        """The other server, host and port, that was asked for since this was last called, if any was."""
        found, self._refused = self._refused, None
        return found

    async def start(self) -> None:
        """Begin to serve, unless it does."""
        import aiohttp
        from aiohttp import web

        loop = asyncio.get_running_loop()
        if loop in self._running:
            return
        runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        # Time limits, and what runs at once, are looked after elsewhere.
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._running[loop] = runner, session
        await runner.setup()
        await web.SockSite(runner, self._socket.dup()).start()

    async def close(self) -> None:
        """End all connections; `start` begins anew."""
        found = self._running.pop(asyncio.get_running_loop(), None)
        if found is not None:
            runner, session = found
            await session.close()
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        import aiohttp
        from aiohttp import web
        from yarl import URL

        target = urlsplit(request.raw_path)
        if target.scheme != "http" or _place(target) != self._origin:
            self._refused = target.netloc.rpartition("@")[2] or request.raw_path
            return web.Response(status=421)
        _, session = self._running[asyncio.get_running_loop()]
        try:
            async with session.request(
                request.method,
                URL(request.raw_path, encoded=True),
                headers=[(name, value) for name, value in request.headers.items() if name.lower() not in _OWN_HEADERS],
                data=request.content if request.body_exists else None,
                skip_auto_headers=_AUTOMATIC,
                allow_redirects=False,
            ) as reply:
                return await _passed_on(request, reply)
        except (aiohttp.ClientError, OSError):
            # Nothing of it may be logged, since the URL may be secret.
            return web.Response(status=502)

    def __del__(self) -> None:
        self._socket.close()


async def _passed_on(request: web.BaseRequest, reply: aiohttp.ClientResponse) -> web.StreamResponse:
    """A reply as it comes; where it ends early, so does what is passed on."""
    import aiohttp
    from aiohttp import web

    response = web.StreamResponse(status=reply.status, reason=reply.reason)
    response.headers.extend((name, value) for name, value in reply.headers.items() if name.lower() not in _OWN_HEADERS)
    await response.prepare(request)
    try:
        if request.method != "HEAD":
            async for piece in reply.content.iter_chunked(_PIECE_BYTES):
                await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, OSError):
        if request.transport is not None:
            request.transport.abort()
    return response


def _place(url: SplitResult) -> tuple[str | None, int]:
    return url.hostname, url.port or 80
