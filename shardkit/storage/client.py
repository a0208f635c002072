"""What a remote store asks of a protocol: one request each, tried once, failures told apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardkit.storage.attempts import FailedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shardkit.storage.attempts import Expect

__all__ = ["Client", "Reply"]

_READ_ONLY = "it is only read from"


@dataclass(frozen=True, slots=True)
class Reply:
    """An object's bytes, or some of them.

    Attributes:
        data: The bytes: those that were asked for, as far as the object has them; none where it is shorter.
        size: The whole object's length in bytes.
        etag: Its version, where the server tells one.
    """

    data: memoryview
    size: int
    etag: str | None


class Client(ABC):
    """Requests to one place of one server, and to nothing else.

    Each is made once. Failures are the exceptions of `shardkit.storage.attempts`, with texts that hold no secrets.
    """

    @abstractmethod
    async def get(self, name: str, start: int, stop: int, expect: Expect) -> Reply:
        """Bytes ``start`` to ``stop`` of an object; ``expect`` is called when they begin to come."""

    @abstractmethod
    async def get_whole(self, name: str, most_bytes: int, expect: Expect) -> Reply:
        """An object; ``expect`` is called when it begins to come. A longer one is a failure, before it is read."""

    @abstractmethod
    async def size(self, name: str) -> int:
        """An object's length in bytes."""

    @abstractmethod
    async def close(self) -> None:
        """Close connections; asking again opens others."""

    async def names(self) -> list[str]:
        """The objects directly below the place."""
        raise FailedError("its files cannot be listed")

    async def put(self, name: str, data: bytes, *, replacing: str | None = None, create: bool = False) -> str | None:  # noqa: ARG002
        """Write a small object: whatever is there, only where there is none, or only instead of one version.

        Returns:
            Its version.
        """
        raise FailedError(_READ_ONLY)

    async def upload(self, name: str, parts: AsyncIterator[bytes]) -> None:  # noqa: ARG002
        """Write an object as it is being made. It appears when ``parts`` ends; if that fails, it never does."""
        raise FailedError(_READ_ONLY)

    async def delete(self, name: str) -> None:  # noqa: ARG002
        """Delete an object, if it is there."""
        raise FailedError(_READ_ONLY)
