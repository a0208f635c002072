"""What all tests share."""

import os
import signal

from hypothesis import settings

# Servers that tests may ask for.
pytest_plugins = ["servers.fixtures"]

# A two-core machine under load makes single examples slow; hangs are caught by faulthandler_timeout.
settings.register_profile("shardkit", deadline=None)
settings.load_profile("shardkit")

# A shell that starts the tests in the background has them ignore Ctrl-C, as would the processes that tests stop by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Clients get static credentials in all tests. One that forgot to asks nobody outside this machine.
os.environ["AWS_METADATA_ENDPOINT"] = "http://127.0.0.1:9"
