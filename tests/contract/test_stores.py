"""Each store against the contract."""

import itertools

import pytest
from contract.store import StoreContract

from shardkit.storage import LocalStore, StoreOptions, open_store

PREFIXES = itertools.count()


def opened(server):
    """A place of its own on a server that all tests share."""
    return open_store(
        f"{server.url}/contract-{next(PREFIXES)}", StoreOptions(storage_options=server.storage_options, timeout=10.0)
    )


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "not made yet")


class RemoteContract(StoreContract):
    """What a store on a server must do besides."""

    @pytest.fixture
    def store(self, request):
        store = opened(request.getfixturevalue(self.server))
        yield store
        store.close()

    def test_an_object_of_many_parts(self, store):
        piece = bytes(range(256)) * 4096
        with store.write("large.tar") as writer:
            for _ in range(21):
                writer.write(piece)
        assert store.size("large.tar") == 21 * len(piece)
        assert store.read_range("large.tar", 9 * len(piece) + 7, 300) == (piece * 2)[7:307]
        assert store.read("large.tar") == piece * 21

    def test_many_parts_that_fail_leave_nothing(self, store):
        with pytest.raises(ValueError, match="stop"), store.write("large.tar") as writer:
            for _ in range(21):
                writer.write(bytes(2**20))
            raise ValueError("stop")
        assert list(store.names()) == []
        assert store.size("large.tar") is None

    def test_one_run_at_a_time(self, store):
        from shardkit.errors import ConfigError
        from shardkit.storage import object_lock

        with store.lock(), pytest.raises(ConfigError, match="another run is writing there: process"), store.lock():
            pass
        assert list(store.names()) == []
        assert store.size(object_lock.LOCK_NAME) is None
        with store.lock():
            self.put(store, "a", b"1")
        assert store.read("a") == b"1"


class TestSeaweedFS(RemoteContract):
    server = "seaweedfs"


class TestAzurite(RemoteContract):
    server = "azurite"
