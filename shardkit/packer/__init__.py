"""Path 1: source -> plan -> shards -> manifest, and back."""

from shardkit.packer.pack import PackResult, pack
from shardkit.packer.unpack import unpack

__all__ = ["PackResult", "pack", "unpack"]
