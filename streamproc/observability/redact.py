"""Keeps passwords out of what people and log collectors get to read."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["redact", "redact_url"]

_HIDDEN: Final = "***"
# What stands before the last @ of a URL's authority; redis-py splits there too.
_USER_INFO: Final = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#]*)@")
_PARAMETER: Final = re.compile(r"(?P<name>[?&](?:password|auth_token|token)=)[^&\s\"'#]*", re.I)


def redact(text: str) -> str:
    """Return `text` with the password of every URL in it hidden; user names stay."""
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\g<name>{_HIDDEN}", _USER_INFO.sub(_without_password, text))


def redact_url(url: str) -> str:
    """Return one URL with its password hidden, fit for messages, logs and `config show`.

    Unlike `redact` it may rely on the whole text being the URL, so that a password with blanks or
    slashes in it, which should have been percent-encoded, is hidden as well.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    user, at, place = rest.rpartition("@")
    if at:
        rest = f"{_user_without_password(user)}@{place}"
    return _PARAMETER.sub(rf"\g<name>{_HIDDEN}", f"{scheme}://{rest}")


def _without_password(match: re.Match[str]) -> str:
    return f"{match['scheme']}{_user_without_password(match['user'])}@"


def _user_without_password(user: str) -> str:
    name, colon, _ = user.partition(":")
    # Without a colon it is a name by the rules, but often a password in the wrong place.
    return f"{name}:{_HIDDEN}" if colon else _HIDDEN
