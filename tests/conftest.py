"""What all tests share."""

from hypothesis import settings

# A two-core machine under load makes single examples slow; hangs are caught by faulthandler_timeout.
settings.register_profile("shardkit", deadline=None)
settings.load_profile("shardkit")
