"""What every store must do. A test class per store inherits this and gives a store that is empty."""

import pytest

from shardkit.errors import StorageError


class StoreContract:
    """Inherit, and define a fixture ``store``."""

    def put(self, store, name, data):
        with store.write(name) as writer:
            writer.write(data)

    def test_what_was_written_is_read(self, store):
        self.put(store, "a.tar", b"0123456789")
        assert store.read("a.tar") == b"0123456789"
        assert store.size("a.tar") == 10
        assert list(store.names()) == ["a.tar"]

    def test_pieces_are_joined(self, store):
        with store.write("a") as writer:
            for piece in (b"one", bytearray(b"two"), memoryview(b"three"), b""):
                writer.write(piece)
        assert store.read("a") == b"onetwothree"

    def test_many_pieces_are_written_at_once(self, store):
        pieces = [b"%d," % number for number in range(5000)]
        with store.write("a") as writer:
            writer.write(b"first,")
            writer.write_all(pieces)
            writer.write_all([])
            writer.write_all([b"", b"last"])
        assert store.read("a") == b"first," + b"".join(pieces) + b"last"

    def test_a_range_is_exactly_what_was_asked_for(self, store):
        self.put(store, "a", b"0123456789")
        assert store.read_range("a", 3, 4) == b"3456"
        assert store.read_range("a", 9, 1) == b"9"
        with pytest.raises(StorageError):
            store.read_range("a", 8, 4)

    def test_what_is_not_there(self, store):
        assert store.size("gone") is None
        assert list(store.names()) == []
        for read in (store.read, lambda name: store.read_range(name, 0, 1)):
            with pytest.raises(StorageError) as caught:
                read("gone")
            assert "gone" in caught.value.url
            assert caught.value.operation == "read"
        store.delete("gone")

    def test_a_writer_that_fails_leaves_what_was_there(self, store):
        self.put(store, "a", b"before")
        with pytest.raises(ValueError, match="stop"), store.write("a") as writer:
            writer.write(b"half of the n")
            raise ValueError("stop")
        assert store.read("a") == b"before"
        assert list(store.names()) == ["a"]

    def test_nothing_is_seen_before_it_is_whole(self, store):
        with store.write("a") as writer:
            writer.write(b"half")
            assert store.size("a") is None
            assert list(store.names()) == []
        assert store.size("a") == 4

    def test_writing_replaces(self, store):
        self.put(store, "a", b"a long first version")
        self.put(store, "a", b"short")
        assert store.read("a") == b"short"

    def test_deleting(self, store):
        self.put(store, "a", b"1")
        store.delete("a")
        assert store.size("a") is None

    def test_an_empty_object(self, store):
        self.put(store, "a", b"")
        assert store.read("a") == b""
        assert store.size("a") == 0
