"""What every test has: credentials that any local endpoint takes, never this host's; and order."""

from __future__ import annotations

import functools

import botocore.loaders
import botocore.session
import pytest

# Reading botocore's API models takes longer than most tests; they are the same for all sessions.
botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests first that take seconds: workers that share a run then end at one time."""
    takes_long = ("long", "process")
    items.sort(key=lambda item: not any(map(item.get_closest_marker, takes_long)))


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the host's AWS settings out of the tests."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
