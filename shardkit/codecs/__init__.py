"""Bytes of one field to values and back: pictures and labels. Knows nothing of shards or files."""
