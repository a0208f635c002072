"""One writer at a time where there are no file locks: a small object, created only where there is none.

Its holder writes it anew every few seconds. Whoever finds it watches it for a while: where it changes, its holder is
alive; where it does not, or its holder ran on this very machine and is gone, it is taken over, on condition that it is
still the version that was watched, so that of several only one succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardkit.errors import ConfigError
from shardkit.storage.attempts import FailedError, MissingError, TakenError, attempted
from shardkit.storage.base import LockPurpose

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from shardkit.storage.attempts import RetryPolicy
    from shardkit.storage.client import Client

__all__ = ["LOCK_NAME", "ObjectLock"]

LOCK_NAME = "shardkit-lock.json"
RENEWED_EVERY_S = 5.0
_WATCHED_S = 4 * RENEWED_EVERY_S
_MOST_BYTES = 4096


class ObjectLock:
    """A lock object.

    Args:
        client: Makes requests.
        policy: How patient to be.
        shown: The place, for messages.
        purpose: What it is for.
    """

    def __init__(
        self,
        client: Client,
        policy: RetryPolicy,
        shown: str,
        purpose: LockPurpose = LockPurpose(),  # noqa: B008 (it is frozen)
    ) -> None:
        self._client = client
        self._policy = policy
        self._shown = shown
        self._purpose = purpose
        self._token = secrets.token_hex(16)
        self._version: str | None = None
        self._count = 0

    async def acquire(self) -> Coroutine[Any, Any, None]:
        """Take the lock.

        Returns:
            What has to run beside everything else to keep it.

        Raises:
            ConfigError: Another run holds it.
            FailedError: It cannot be written.
        """
        while True:
            try:
                self._version = await self._put(create=True)
                return self._renew()
            except TakenError:
                pass
            try:
                owner, version = await self._look()
                if owner.get("token") == self._token:  # written, and the answer lost
                    self._version = version
                    return self._renew()
                if not _is_dead(owner):
                    await self._watch(owner, version)
                self._version = await self._put(replacing=version)
                return self._renew()
            except (MissingError, TakenError):
                continue  # it went, or somebody was faster

    async def release(self) -> None:
        """Let go.

        Raises:
            FailedError: It is not ours any more.
        """
        owner: dict[str, Any] = {}
        with contextlib.suppress(MissingError):
            owner, _ = await self._look()
        if owner.get("token") != self._token:
            raise FailedError("another run has taken this one's place meanwhile", "Run the same command again")
        await attempted(self._policy, lambda _: self._client.delete(LOCK_NAME))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWED_EVERY_S)
            # If it fails for a while, that is no reason to stop; if somebody else has it, `release` says so.
            with contextlib.suppress(FailedError):
                try:
                    self._version = await self._put(replacing=self._version)
                except TakenError:
                    owner, version = await self._look()
                    if owner.get("token") == self._token:  # written before, and the answer lost
                        self._version = version

    async def _watch(self, owner: dict[str, Any], version: str | None) -> None:
        """Wait long enough to know that its holder is gone."""
        waited = 0.0
        while waited < _WATCHED_S:
            await asyncio.sleep(1)
            waited += 1
            if (await self._look())[1] != version:
                raise ConfigError(
                    f"{self._purpose.busy}: process {owner.get('process')} on {owner.get('host')}",
                    setting=self._purpose.setting, value=self._shown, advice=self._purpose.advice,
                )  # fmt: skip

    async def _put(self, *, replacing: str | None = None, create: bool = False) -> str | None:
        self._count += 1
        owner = {
            "host": socket.gethostname(), "machine": _machine(), "process": os.getpid(), "token": self._token,
            "count": self._count,
        }  # fmt: skip
        data = json.dumps(owner).encode()
        return await attempted(
            self._policy, lambda _: self._client.put(LOCK_NAME, data, replacing=replacing, create=create)
        )

    async def _look(self) -> tuple[dict[str, Any], str | None]:
        reply = await attempted(self._policy, lambda expect: self._client.get_whole(LOCK_NAME, _MOST_BYTES, expect))
        try:
            owner = json.loads(bytes(reply.data))
        except (ValueError, RecursionError):
            owner = {}
        return owner if isinstance(owner, dict) else {}, reply.etag


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether a lock's holder was a process of this machine that has ended."""
    process, machine = owner.get("process"), _machine()
    if machine is None or owner.get("machine") != machine or type(process) is not int or process < 1:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _machine() -> str | None:
    """What no other machine has, nor a container of this one whose processes have numbers of their own; on Linux."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None
