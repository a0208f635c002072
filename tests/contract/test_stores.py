"""Each store against the contract."""

import pytest
from contract.store import StoreContract

from shardkit.storage import LocalStore


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "not made yet")
