from __future__ import annotations

import pytest

from streamproc.observability.redact import redact, redact_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://app:hunter2@host/0?x=1", "rediss://app:***@host/0?x=1"),
        ("redis://hunter2@host", "redis://***@host"),
        ("redis://:hun@ter2@host", "redis://:***@host"),
        ("redis://host/0?password=hunter2&db=1", "redis://host/0?password=***&db=1"),
        ("unix://app@/tmp/redis.sock?db=0&password=hunter2", None),
        ("unix:///tmp/redis.sock", "unix:///tmp/redis.sock"),
    ],
)
def test_passwords_in_urls_are_hidden_and_the_rest_stays(url: str, shown: str | None) -> None:
    for hidden in (redact(url), redact_url(url)):
        assert "ter2" not in hidden
        assert shown is None or hidden == shown


def test_a_password_that_should_have_been_encoded_is_hidden_in_a_lone_url() -> None:
    assert redact_url("redis://:my hun/ter2@host:1/0") == "redis://:***@host:1/0"
    assert redact_url("not a url") == "not a url"


def test_urls_inside_a_text_are_hidden_one_by_one() -> None:
    text = "moved from redis://:one@a:1 to 'rediss://u:two@b:2/0', mail me@example.com"
    assert (
        redact(text) == "moved from redis://:***@a:1 to 'rediss://u:***@b:2/0', mail me@example.com"
    )


def test_text_without_secrets_is_left_alone() -> None:
    for text in ("", "a: b@c", "http://host:80/path?q=a@b", "s3://bucket/key @ 12:00"):
        assert redact(text) == text
