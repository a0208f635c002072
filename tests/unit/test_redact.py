"""Secrets are taken out of whatever is shown, wherever they stand."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkit.redact import HIDDEN, brief, redacted, redacted_repr, redacted_value

MARK = "hunter2MARK"


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{MARK}@host/a",
        f"https://{MARK}@host:99/a?b",
        f"https://a@{MARK}@host/",
        f"HTTPS://u:{MARK}@[::1]:8/x",
        f"s3://bucket/a?X-Amz-Signature={MARK}&X-Amz-Date=1",
        f"see https://h/p?sv=1&sig={MARK}, then (http://x/?{MARK})",
        f"https://h/p#access_token={MARK}",
        f"Authorization: Bearer {MARK}",
        f"authorization: Basic {MARK}",
        f'{{"Authorization": "SharedKey account:{MARK}"}}',
        f"Bearer {MARK}",
        f"aws_secret_access_key={MARK}",
        f"secret_access_key: '{MARK}'",
        f"account_key={MARK};EndpointSuffix=core",
        f"AccountKey={MARK}",
        f"x-amz-security-token: {MARK}",
        f"session_token = {MARK}",
        f"sas_key={MARK}",
        f"sig={MARK}&se=2",
        f"Config {{ token: {MARK} }}",
        f"AWS_ACCESS_KEY_ID={MARK}",
        f"{{'private_key': '{MARK}'}}",
    ],
)
def test_what_is_secret_by_its_place_is_hidden(text):
    shown = redacted(text)
    assert MARK not in shown
    assert HIDDEN in shown


def test_known_secrets_are_hidden_anywhere_and_percent_encoded_too():
    assert redacted("a k%2Fy/9 b k/y/9", ["k%2Fy/9"]) == f"a {HIDDEN} b {HIDDEN}"
    assert redacted("to be", ["to", ""]) == "to be"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/data/shards/train-000000.tar",
        "s3://bucket/photos/train-000000.tar",
        "https://host:8443/a/b.tar",
        "cannot read: Connection reset by peer [url http://127.0.0.1:18081/x, operation read]",
        "the token is not valid; ask for another secret from your admin",
        "user@host.example",
        "is this it? https://host/a",
    ],
)
def test_all_else_is_left_alone(text):
    assert redacted(text) == text


@given(st.text())
def test_it_never_fails_and_doing_it_twice_changes_nothing(text):
    once = redacted(text)
    assert redacted(once) == once


@given(st.from_regex(r"[A-Za-z0-9+/]{8,40}", fullmatch=True))
def test_no_password_in_a_url_is_shown(password):
    secret = f"Zq{password}"
    assert secret not in redacted(
        f"could not open https://me:{secret.replace('/', '%2F')}@host/path: refused", [secret]
    )


@pytest.mark.parametrize(
    "text",
    [
        f"secret token={MARK}",
        f"no password bearer {MARK}",
        f"https://token/?a)https://h/p?{MARK}",
        f"https://h/https://u:{MARK}@x?q",
        f"token  \t {MARK}",
    ],
)
def test_what_looks_like_a_secret_hides_the_next_one_no_less(text):
    assert MARK not in redacted(text)


SHAPES = [
    "a", "a-", "-", "é", "a://", "://", "a://x@", "https:", "/", "a.://?", "https://a?", "https://u:p@h/?q) ", "?", "@",
    "token ", "token= ", "token   \t", "secret-", "access_key_", "authorization: basic ", "bearer ", "sharedkey\t",
    "x-amz-", "password\" ", " ", "\t", "'", "=", " ...",
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_time_grows_with_the_text_and_no_faster(shape):
    for num_characters, most in ((10**6, 2000), (10**5, 10**5)):
        text = shape * (num_characters // len(shape))
        started = time.process_time()
        shown = redacted(text, most=most)
        assert time.process_time() - started < 1  # of 0.05 s that it takes at most
        assert len(shown) <= most + 4
        if len(text) > most:
            assert shown.endswith(" ...")
        assert redacted(shown, most=most) == shown


# Texts that hold a secret, and what stands around them.
SECRETS = {
    "https://user:{}@host/a": " ",
    "https://{}@host": "",
    "https://host/a?sig={}&se=1": "x",
    "Authorization: Bearer {} ": "é",
    "token={};": "y ",
    "known {}": "-",
}


@pytest.mark.parametrize("form", SECRETS)
@pytest.mark.parametrize("limit", [2000, 16_384])
def test_a_cut_shows_no_half_of_a_secret(form, limit):
    secret = MARK * 4
    text = form.format(secret)
    for start in range(limit - len(text) - 5, limit + 5):
        filled = (SECRETS[form] or "a/") * limit
        whole = filled[: start - 1] + " " + text + filled
        for most in (2000, limit):
            shown = redacted(whole, [secret] if "known" in form else [], most=most)
            assert MARK[:4] not in shown


def test_a_value_from_outside_is_short():
    assert brief("train") == "'train'"
    assert brief(["a" * 10**5]) == "['" + "a" * 98 + " ..."


@pytest.mark.parametrize("scheme", ["", "https://", "https:/", "s3://", "HTTP://"])
@pytest.mark.parametrize(
    "password", [MARK, f"a'{MARK}", f'a"b {MARK}', f"a/{MARK}", f"a@{MARK}/", f"1:{MARK}", f"?{MARK}#"]
)
def test_a_value_shows_its_host_and_never_its_password(scheme, password):
    assert redacted_value(f"{scheme}user:{password}@host:80/a") == f"{scheme}{HIDDEN}@host:80/a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/data/a@b",
        "s3://bucket/a@b/c",
        "https://host:8443/a@b",
        "host:80/a@b",
        "me@host",
        "/run:3/a@b.jpg",
        "C:/a@b",
    ],
)
def test_a_value_without_a_password_is_shown_whole(text):
    assert redacted_value(text) == text


def test_a_proxy_without_a_scheme_is_found_in_a_text():
    assert redacted(f"InvalidURL: user:{MARK}@host:3128 (no scheme)") == f"InvalidURL: {HIDDEN}@host:3128 (no scheme)"


class Mute:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(Mute(), "<Mute>"), (10**5000, "<int>"), ([10**5000], "<list>")],
    ids=["mute", "number", "list"],
)
def test_what_cannot_be_shown_is_named_by_its_type(value, shown):
    assert redacted(value) == brief(value) == redacted_repr(value) == shown


def test_a_value_that_is_written_is_shown_as_it_is():
    assert redacted_repr(["a", 1.5]) == "['a', 1.5]"
