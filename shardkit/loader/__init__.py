"""Path 2: manifest -> order -> read -> decode -> batch -> prefetch."""

from shardkit.loader.loader import Loader

__all__ = ["Loader"]
