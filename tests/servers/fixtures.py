"""The servers as fixtures, each started once in a run of the tests, when the first test asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from servers import azure, s3
from servers import gcs as google
from servers import nginx as web
from servers.process import NotInstalled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["azurite", "gcs", "nginx", "seaweedfs"]

Server = TypeVar("Server")


def _started(server: Callable[[Path], AbstractContextManager[Server]], folder: Path) -> Iterator[Server]:
    try:
        with server(folder) as started:
            yield started
    except NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.SeaweedFS]:
    """An S3 server with a bucket, which all tests share: put things below a prefix of your own."""
    yield from _started(s3.seaweedfs, tmp_path_factory.mktemp("seaweedfs"))


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[azure.Azurite]:
    """An Azure server with a container, which all tests share: put things below a prefix of your own."""
    yield from _started(azure.azurite, tmp_path_factory.mktemp("azurite"))


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[google.FakeGCS]:
    """A GCS server with a bucket, which all tests share: upload below a prefix of your own."""
    yield from _started(google.gcs, tmp_path_factory.mktemp("gcs"))


@pytest.fixture
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[web.Nginx]:
    """A web server over an empty folder, for one test, since it starts at once."""
    yield from _started(web.nginx, tmp_path_factory.mktemp("nginx"))
