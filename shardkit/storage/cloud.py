"""Reading from and writing to object stores, through obstore."""

from __future__ import annotations

import contextlib
import os
import re
import weakref
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from shardkit.errors import ConfigError
from shardkit.redact import redacted, redacted_value
from shardkit.storage.attempts import FailedError, MissingError, TakenError, TemporaryError
from shardkit.storage.client import Client, Reply
from shardkit.storage.guard import NOWHERE, PROXY_OPTION, Guard, host_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping

    from shardkit.storage.attempts import Expect, RetryPolicy

__all__ = ["CloudClient"]

_PART_BYTES = 8 * 2**20
_PARTS_AT_ONCE = 4
_MOST_SETTLING_S = 2.0
_ANY_TIME = timedelta(days=1)  # it is looked after elsewhere
_MOST_SHOWN = 600  # characters of what a server or obstore says
_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
# Booleans have such names too: use_fabric_endpoint.
_ENDPOINT = re.compile(r"(?!.*use_).*endpoint(_url)?|proxy_url", re.IGNORECASE)
_ENDPOINT_VARIABLES = {"s3": ("AWS_ENDPOINT", "AWS_ENDPOINT_URL"), "az": ("AZURE_STORAGE_ENDPOINT",), "gs": ()}
_FOR_GOOD = ("certificate", "UnknownIssuer", "builder error", "InvalidUri")
_CREDENTIALS = "Give them as storage_options or in the environment; skip_signature=true is for public buckets"
_REDIRECTED = "Name the endpoint that it leads to, if that is meant"
_ALLOW_HTTP = "Name an https endpoint, or say allow_http=true among the storage options if that is meant"


class _Runtime:
    """The process in which obstore has its threads: one set for all its stores, which a forked process lacks."""

    pid: ClassVar[int | None] = None

    @classmethod
    def check(cls) -> None:
        if cls.pid is None:
            cls.pid = os.getpid()
        elif cls.pid != os.getpid():
            raise FailedError(
                "this process was forked from one that had used object storage, whose threads it lacks",
                'Start processes with multiprocessing.get_context("spawn")',
            )


class CloudClient(Client):
    """A prefix of a bucket or container.

    Args:
        url: ``s3://bucket/prefix``, ``gs://`` or ``az://``.
        options: As obstore names them, credentials among them; ``allow_http``.
        policy: How patient to be.
        secrets: What must not be shown.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(self, url: str, options: Mapping[str, str], policy: RetryPolicy, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets
        _check_endpoints(url.partition(":")[0].lower(), options, secrets)
        self._guard = Guard.around(url.partition(":")[0].lower(), options)
        self._calls: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()
        # Requests are tried again one by one, with the time each takes in view. Only the parts of an upload have to be
        # tried again from within, each in the time that so many bytes may take. The client counts what is sent as
        # waiting for the answer, so that only those that read may have a time limit for that.
        silence, part = timedelta(seconds=policy.timeout), timedelta(seconds=policy.deadline(_PART_BYTES))
        self._reading = self._store(url, options, {"timeout": _ANY_TIME, "read_timeout": silence}, retries=0)
        self._writing = self._store(url, options, {"timeout": _ANY_TIME}, retries=0)
        self._uploading = self._store(url, options, {"timeout": part}, retries=policy.retries)

    def _store(self, url: str, options: Mapping[str, str], limits: Mapping[str, timedelta], *, retries: int) -> Any:
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        config = dict(options)
        client: dict[str, Any] = dict(limits)
        for name in [name for name in config if PROXY_OPTION.fullmatch(name)]:
            client["proxy_url"] = config.pop(name)  # of the client, and not of the service
        client |= self._guard.client_options
        # The variable is one of obstore's own, which options of the client hide from it.
        if config.pop("allow_http", os.environ.get("AWS_ALLOW_HTTP", "false")).lower() in ("1", "true", "yes"):
            client["allow_http"] = True
        try:
            return from_url(  # type: ignore[call-overload]
                url, config=config, client_options=client,
                retry_config={"max_retries": retries, "retry_timeout": limits["timeout"] * (retries + 1)},
            )  # fmt: skip
        except BaseException as exc:
            # Some wrong values make obstore panic, which is no Exception.
            if not isinstance(exc, BaseError | ValueError | TypeError) and type(exc).__name__ != "PanicException":
                raise
            said, whole = self._said(exc), str(exc)
        # Raised here, so that no secret is in a chained exception.
        named = [name for name, value in options.items() if f'"{value}"' in whole]
        raise ConfigError(
            f"a storage option is wrong: {said}", setting="storage_options",
            value=", ".join(named) or None, advice="obstore's documentation has the names",
        )  # fmt: skip

    def _said(self, exc: BaseException) -> str:
        """What one of obstore's failures says, without what must not be shown and what only its makers can read."""
        said = str(exc).split("Debug source:", maxsplit=1)[0]
        return " ".join(redacted(said, self._secrets, most=_MOST_SHOWN).split())

    async def get(self, name: str, start: int, stop: int, expect: Expect) -> Reply:
        """Bytes of an object."""
        import obstore

        try:
            result = await self._asked(obstore.get_async, self._reading, name, options={"range": (start, stop)})
        except _NoSuchRangeError:
            return Reply(memoryview(b""), await self.size(name), None)
        expect(stop - start)
        data = await self._asked(result.bytes_async)
        size = int(result.meta["size"])
        if tuple(result.range) != (start, min(stop, size)) or len(data) != min(stop, size) - start:
            raise TemporaryError(f"bytes {start} to {stop} were asked for, and {len(data)} others came")
        return Reply(memoryview(data), size, result.meta["e_tag"])

    async def get_whole(self, name: str, most_bytes: int, expect: Expect) -> Reply:
        """An object."""
        import obstore

        result = await self._asked(obstore.get_async, self._reading, name)
        size = int(result.meta["size"])
        if size > most_bytes:
            raise FailedError(f"it has {size} bytes where at most {most_bytes} were expected")
        expect(size)
        data = await self._asked(result.bytes_async)
        if len(data) != size:
            raise TemporaryError(f"{len(data)} bytes came of {size}")
        return Reply(memoryview(data), size, result.meta["e_tag"])

    async def size(self, name: str) -> int:
        """An object's length."""
        import obstore

        return int((await self._asked(obstore.head_async, self._reading, name))["size"])

    async def names(self) -> list[str]:
        """The objects."""
        import obstore

        found = await self._asked(obstore.list_with_delimiter_async, self._reading)
        return [entry["path"].rpartition("/")[2] for entry in found["objects"]]

    async def put(self, name: str, data: bytes, *, replacing: str | None = None, create: bool = False) -> str | None:
        """Write a small object."""
        import obstore

        mode: Any = "overwrite"
        if create:
            mode = "create"
        elif replacing is not None:
            mode = {"e_tag": replacing}
        result = await self._asked(obstore.put_async, self._writing, name, data, mode=mode, use_multipart=False)
        return None if result["e_tag"] is None else str(result["e_tag"])

    async def upload(self, name: str, parts: AsyncIterator[bytes]) -> None:
        """Write an object as it is being made."""
        import obstore

        several = {"use_multipart": True, "chunk_size": _PART_BYTES, "max_concurrency": _PARTS_AT_ONCE}
        await self._asked(obstore.put_async, self._uploading, name, parts, **several)

    async def delete(self, name: str) -> None:
        """Delete an object."""
        import obstore

        with contextlib.suppress(MissingError):
            await self._asked(obstore.delete_async, self._writing, name)

    async def _asked(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What one of obstore's functions gives.

        Raises:
            FailedError: It fails.
        """
        _Runtime.check()
        if self._guard.relay is not None:
            await self._guard.relay.start(self)
        try:
            call = function(*arguments, **options)
            self._calls.add(call)
            try:
                return await call
            finally:
                del call  # not to be held by a traceback
        except Exception as exc:  # noqa: BLE001 (told apart there)
            self._fail(exc)

    async def close(self) -> None:
        """Wait until obstore is done with all that was asked of it, and with what was called off."""
        # Its threads have to take Python's lock once more even for that, and one that comes for it when Python is being
        # finalised ends the process. It holds each future until it is done with it.
        import asyncio

        from obstore.store import MemoryStore

        patient_until = monotonic() + _MOST_SETTLING_S
        while self._calls and monotonic() < patient_until:
            await asyncio.sleep(0.001)
            MemoryStore()  # lets go of what its threads could not, not having the lock
        if self._guard.relay is not None:
            await self._guard.relay.close(self)

    def _fail(self, exc: Exception) -> NoReturn:
        """Say which of our failures one of obstore's is, without what must not be shown."""
        from obstore import exceptions

        if isinstance(exc, FailedError):  # the parts of an upload came to an end by it
            raise exc
        if isinstance(exc, exceptions.NotFoundError | FileNotFoundError):
            raise MissingError("there is nothing there") from None
        if isinstance(exc, exceptions.AlreadyExistsError | exceptions.PreconditionError):
            raise TakenError("the object is there already, or is another than before") from None
        said = str(exc)
        if "169.254.169.254" in said or "metadata.google.internal" in said:
            raise FailedError("no credentials were found", _CREDENTIALS) from None
        if "builder error" in said and " http://" in said:
            raise FailedError("the endpoint is plain http, where anybody may listen", _ALLOW_HTTP) from None
        other = self._guard.relay.take_refused() if self._guard.relay is not None else None
        if other is not None or f"{NOWHERE}," in said:
            where = redacted(other or "another server", self._secrets, most=_MOST_SHOWN)
            raise FailedError(f"the server leads to {where}, where credentials must not go", _REDIRECTED) from None
        status = _STATUS.search(said)
        if status is not None:
            _refuse(int(status[1]), _CODE.search(said))
        what = self._said(exc)
        if not isinstance(exc, exceptions.GenericError) or any(word in said for word in _FOR_GOOD):
            raise FailedError(what) from None
        raise TemporaryError(what) from None


class _NoSuchRangeError(FailedError):
    """The object ends before the bytes that were asked for."""


def _check_endpoints(scheme: str, options: Mapping[str, str], secrets: tuple[str, ...]) -> None:
    """Refuse endpoints and proxies that are no URLs, about which obstore's threads panic."""
    given = {name: value for name, value in options.items() if _ENDPOINT.fullmatch(name)}
    given |= {name: os.environ[name] for name in _ENDPOINT_VARIABLES[scheme] if os.environ.get(name)}
    for name, value in given.items():
        if not value.lower().startswith(("http://", "https://")) or host_of(value) is None:
            raise ConfigError(
                "an endpoint or a proxy begins with http:// or https://",
                setting=name,
                value=redacted_value(value, secrets),
            )


def _refuse(status: int, code: re.Match[str] | None) -> NoReturn:
    """Say what a status that is no success means; of the rest of the answer, which may repeat the request, one word."""
    what = f"the server answers with status {status}" + (f" ({code[1]})" if code else "")
    if status in (401, 403):
        raise FailedError(f"access is refused: {what}", "Check the credentials and what they allow") from None
    if status == 416:
        raise _NoSuchRangeError(what) from None
    if 300 <= status < 400:
        raise FailedError(f"the server leads elsewhere ({what})", _REDIRECTED) from None
    if 400 <= status < 500 and status not in (408, 429):
        raise FailedError(what) from None
    raise TemporaryError(what) from None
