"""What a web server's replies say."""

import pytest

from shardkit.storage.http import _seconds

WRONG = ["", "soon", "-5", "9" * 5000, "Mon, 01 Jan 1 00:00:00 " + "9" * 30, "Mon, 01 Jan 99999 00:00:00 GMT", "\x00"]


@pytest.mark.parametrize("text", WRONG)
def test_a_time_to_wait_is_a_number_or_nothing(text):
    found = _seconds(text)
    assert found is None or found >= 0


def test_times_to_wait():
    assert _seconds(None) is None
    assert _seconds(" 12 ") == 12
    assert _seconds("Thu, 01 Jan 1970 00:00:00 GMT") == 0
