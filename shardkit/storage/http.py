"""Reading from a plain web server: ranged GETs, with everything in the reply checked.

Not obstore's HTTP store: it neither tells when a server asks to wait (Retry-After), nor limits redirects to what is
safe, and it shows users, passwords and signed queries in its errors.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import re
import time
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from shardkit.errors import ConfigError
from shardkit.redact import redacted
from shardkit.storage.attempts import FailedError, MissingError, TemporaryError
from shardkit.storage.client import Client, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from shardkit.storage.attempts import Expect, RetryPolicy

__all__ = ["HttpClient", "proxy_for"]

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_SHOWN = 600  # characters of what a server says
_SIZE = re.compile(r"bytes \*/(\d{1,18})")
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_DENIED = {401: "who is asking is not known", 403: "access is refused", 407: "the proxy asks for a password"}


class HttpClient(Client):
    """A folder of a web server.

    Args:
        url: Its URL, with a user and password, or a query that every request is to have, if need be.
        headers: Sent with every request to this server, and to no other that it leads to.
        policy: How patient to be.
        secrets: What must not be shown.
    """

    def __init__(self, url: str, headers: Mapping[str, str], policy: RetryPolicy, secrets: tuple[str, ...]) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._base = parts._replace(netloc=host, path=parts.path.rstrip("/") + "/", fragment="")
        self._policy = policy
        self._secrets = secrets
        self._headers = dict(headers)
        self._user = (unquote(parts.username or ""), unquote(parts.password or ""))
        # A session belongs to its loop, and while one loop ends the next may have begun.
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    async def get(self, name: str, start: int, stop: int, expect: Expect) -> Reply:
        """Bytes of an object."""
        async with await self._request("GET", name, {"Range": f"bytes={start}-{stop - 1}"}) as reply:
            if reply.status == 416 and (short := _SIZE.fullmatch(reply.headers.get("Content-Range", ""))):
                return Reply(memoryview(b""), int(short[1]), None)
            if reply.status != 206:
                raise FailedError(
                    f"the server ignores ranges (status {reply.status}), so shards cannot be read in parts",
                    "Serve them by one that answers ranged requests",
                )
            found = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
            if found is None or (int(found[1]), int(found[2]) + 1) != (start, min(stop, int(found[3]))):
                raise FailedError(f"bytes {start} to {stop} were asked for, and the server sends others")
            _check_plain(reply)
            length = int(found[2]) + 1 - start
            if reply.content_length not in (None, length):
                raise TemporaryError(f"the server announces {reply.content_length} bytes instead of {length}")
            data = await self._body(reply, length, expect)
            if len(data) != length:
                raise TemporaryError(f"{len(data)} bytes came of {length}")
            return Reply(memoryview(data), int(found[3]), reply.headers.get("ETag"))

    async def get_whole(self, name: str, most_bytes: int, expect: Expect) -> Reply:
        """An object."""
        async with await self._request("GET", name, {}) as reply:
            if reply.status != 200:
                raise FailedError(f"the server answers with status {reply.status}")
            _check_plain(reply)
            data = await self._body(reply, most_bytes, expect)
            return Reply(memoryview(data), len(data), reply.headers.get("ETag"))

    async def size(self, name: str) -> int:
        """An object's length."""
        async with await self._request("HEAD", name, {}) as reply:
            length: int | None = reply.content_length
            if length is None:
                raise FailedError("the server does not tell how long it is")
            return length

    async def close(self) -> None:
        """Close connections."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    async def _request(self, method: str, name: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Ask, following redirects; the reply's status is one of success."""
        import aiohttp
        from yarl import URL

        session = self._session()
        url = urlunsplit(self._base._replace(path=self._base.path + quote(name)))
        for _ in range(_MOST_REDIRECTS + 1):
            proxy = proxy_for(url)
            try:
                reply = await session.request(
                    method,
                    URL(url, encoded=True),
                    headers={"Accept-Encoding": "identity", **self._own(url), **headers},
                    allow_redirects=False,
                    proxy=proxy,
                )
            except (aiohttp.ClientError, OSError, ValueError) as exc:
                self._fail(exc)
            if reply.status not in _REDIRECTS:
                break
            reply.release()
            url = self._next(url, reply.headers.get("Location", ""))
        else:
            raise FailedError(f"more than {_MOST_REDIRECTS} redirects")
        if reply.status not in (200, 206, 416):
            reply.release()
            _refuse(reply.status, reply.headers.get("Retry-After"))
        return reply

    def _session(self) -> aiohttp.ClientSession:
        import aiohttp

        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = aiohttp.ClientSession(
                # What is in flight, and how long it takes, is looked after elsewhere.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_read=self._policy.timeout),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                # What trust_env takes from the environment is more than proxies: users and passwords of ~/.netrc.
                trust_env=False,
            )
        return self._sessions[loop]

    def _own(self, url: str) -> dict[str, str]:
        """The headers that only this server may see."""
        if urlsplit(url)[:2] != self._base[:2]:
            return {}
        if not any(self._user):
            return self._headers
        basic = base64.b64encode(":".join(self._user).encode()).decode()
        return {**self._headers, "Authorization": f"Basic {basic}"}

    def _next(self, url: str, location: str) -> str:
        """Where a redirect leads."""
        before = urlsplit(url)
        try:
            target = urljoin(url, location)
            after = urlsplit(target)
            is_address = bool(location and after.scheme in ("http", "https") and after.hostname)
            _ = after.port
        except ValueError:
            is_address = False
        if not is_address:
            shown = redacted(location, self._secrets, most=_MOST_SHOWN)
            raise FailedError(f"the server leads to {shown or 'nowhere'}, which is no web address")
        if before.scheme == "https" and after.scheme != "https":
            raise FailedError("the server leads from https to http, where anybody may listen")
        return target

    async def _body(self, reply: aiohttp.ClientResponse, most_bytes: int, expect: Expect) -> bytes:
        """The body, of the length that the server announced and no longer than wanted."""
        import aiohttp

        length = reply.content_length
        if length is not None and length > most_bytes:
            raise FailedError(f"the server sends {length} bytes where at most {most_bytes} were expected")
        expect(most_bytes if length is None else length)
        body, begun = bytearray(), time.monotonic()
        try:
            async for piece in reply.content.iter_any():
                body += piece
                if length is None and time.monotonic() - begun > self._policy.deadline(len(body)):
                    raise TemporaryError(f"too slow an answer: {len(body)} bytes in {time.monotonic() - begun:.1f} s")
                if len(body) > most_bytes:
                    raise FailedError(f"the server sends more than the {most_bytes} bytes that were expected")
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            self._fail(exc)
        return bytes(body)

    def _fail(self, exc: Exception) -> NoReturn:
        from aiohttp import ClientConnectorCertificateError, ClientConnectorSSLError, ClientSSLError, InvalidURL

        what = redacted(f"{type(exc).__name__}: {exc}", self._secrets, most=_MOST_SHOWN)
        if isinstance(exc, ClientConnectorCertificateError | ClientConnectorSSLError | ClientSSLError | InvalidURL):
            raise FailedError(what) from None
        raise TemporaryError(what) from None


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL.

    Raises:
        ConfigError: It is no URL of one.
    """
    from yarl import URL

    parts = urlsplit(url)
    found = getproxies().get(parts.scheme)
    if not found or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = found if "://" in found else f"http://{found}"
    try:
        usable = proxy.lower().startswith(("http://", "https://")) and URL(proxy).host
    except ValueError:
        usable = None
    if not usable:
        raise ConfigError(
            "the environment names a proxy that is no URL", setting=f"{parts.scheme}_proxy", value=found,
            advice="Write http://user:password@host:port; special characters of a password are percent-encoded",
        )  # fmt: skip
    return proxy


def _check_plain(reply: aiohttp.ClientResponse) -> None:
    """Refuse a reply that is encoded: its length and ranges would mean something else."""
    encoding = reply.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        shown = redacted(encoding, most=_MOST_SHOWN)
        raise FailedError(f"the server sends it compressed ({shown}) without being asked")


def _refuse(status: int, retry_after: str | None) -> NoReturn:
    """Say what a status that is no success means."""
    if status in (404, 410):
        raise MissingError(f"there is nothing there (status {status})")
    if status in _DENIED:
        raise FailedError(f"{_DENIED[status]} (status {status})", "Check the credentials")
    if status in _TEMPORARY:
        raise TemporaryError(f"the server answers with status {status}", _seconds(retry_after))
    raise FailedError(f"the server answers with status {status}")


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After header says: seconds, or a date."""
    if retry_after is None:
        return None
    try:
        if retry_after.strip().isdecimal():
            return float(retry_after)
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
