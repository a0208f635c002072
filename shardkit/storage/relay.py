"""A proxy for plain http, inside this process, that lets requests to one server pass and no others."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shardkit.errors import StorageError

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


@dataclass(slots=True)
class _Running:
    """What runs in one loop.

    Attributes:
        runner: The server.
        session: Makes requests.
        users: Those who have started it, and not closed it.
    """

    runner: web.ServerRunner
    session: aiohttp.ClientSession
    users: set[int]


class Relay:
    """The proxy. It runs in the loop of those who use it, from the first `start` until the last `close`.

    Args:
        origin: The server's URL.
        proxy: The URL of the proxy that it goes through itself, if any.

    Raises:
        StorageError: There is no socket for it.

    Attributes:
        url: Its own URL.
    """

    _socket: socket.socket | None = None

    def __init__(self, origin: SplitResult, proxy: str | None = None) -> None:
        import aiohttp.web  # noqa: F401 (it takes long, which no request should wait for)

        self._refused: str | None = None
        self._origin = _place(origin)
        self._proxy = proxy
        try:
            self._socket = socket.create_server(("127.0.0.1", 0))
        except OSError as exc:
            raise StorageError(f"cannot listen on this machine: {exc.strerror}", operation="listen") from exc
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._running: dict[asyncio.AbstractEventLoop, _Running] = {}

    def take_refused(self) -> str | None:
        """The other server, host and port, that was asked for since this was last called, if any was."""
        found, self._refused = self._refused, None
        return found

    async def start(self, user: object) -> None:
        """Begin to serve, unless it does."""
        import aiohttp
        from aiohttp import web

        loop = asyncio.get_running_loop()
        if (running := self._running.get(loop)) is not None:
            running.users.add(id(user))
            return
        assert self._socket is not None
        runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        # Time limits, and what runs at once, are looked after elsewhere.
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._running[loop] = _Running(runner, session, {id(user)})
        await runner.setup()
        await web.SockSite(runner, self._socket.dup()).start()

    async def close(self, user: object) -> None:
        """End all connections, if nobody else uses it; `start` begins anew."""
        running = self._running.get(asyncio.get_running_loop())
        if running is None:
            return
        running.users.discard(id(user))
        if not running.users:
            del self._running[asyncio.get_running_loop()]
            await running.session.close()
            await running.runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        import aiohttp
        from aiohttp import web
        from yarl import URL

        target = urlsplit(request.raw_path)
        if target.scheme != "http" or _place(target) != self._origin:
            self._refused = target.netloc.rpartition("@")[2] or request.raw_path
            return web.Response(status=421)
        running = self._running.get(asyncio.get_running_loop())
        if running is None:
            return web.Response(status=502)  # it is being closed
        try:
            async with running.session.request(
                request.method,
                URL(request.raw_path, encoded=True),
                headers=[(name, value) for name, value in request.headers.items() if name.lower() not in _OWN_HEADERS],
                data=request.content if request.body_exists else None,
                skip_auto_headers=_AUTOMATIC,
                allow_redirects=False,
                proxy=self._proxy,
            ) as reply:
                return await _passed_on(request, reply)
        except (aiohttp.ClientError, OSError):
            # Nothing of it may be logged, since the URL may be secret.
            return web.Response(status=502)

    def __del__(self) -> None:
        if self._socket is not None:
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
