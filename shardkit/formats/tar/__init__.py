"""Tar: the headers a shard is written with, and a reader that never ends early in silence.

Python's own ``tarfile`` takes a damaged or missing header for the end of the archive, so a shard that was cut
or hit by a flipped bit loses samples without an error. Here every header's checksum is checked, the end of
the archive is demanded, and what two common readers would read differently is refused. The bytes of the
members are not checked: that is what the digests in a data set's tables are for.
"""

from shardkit.formats.tar.reader import Member, iter_members, read_members
from shardkit.formats.tar.writer import END_OF_ARCHIVE, member_header, member_length, padding

__all__ = [
    "END_OF_ARCHIVE",
    "Member",
    "iter_members",
    "member_header",
    "member_length",
    "padding",
    "read_members",
]
