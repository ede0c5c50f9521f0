"""One keyed state value: as stored, and as handlers see it."""

from __future__ import annotations

import secrets
from typing import Any, Final, Protocol

import msgspec

from streamproc.errors import StreamprocError

__all__ = ["Codec", "StateCell", "Undoable", "new_version"]

_UNREAD: Final[Any] = object()
# Lua's numbers are doubles, exact up to 2**53.
_VERSION_BITS: Final = 52


def new_version() -> int:
    """Return the version of a write: one that no other write ever had.

    Counted versions would not do. A key that expired and came back, or a store that went back to an
    older dump and was written to again, would reach a number that somebody still holds together
    with another value, and a commit based on that value would pass for a current one.
    """
    return 1 + secrets.randbits(_VERSION_BITS)


class Undoable(Protocol):
    """What handlers change in a batch: it can be put back as it was, or as it was stored."""

    def reset(self) -> None:
        """Forget what handlers did."""
        ...

    def snapshot(self) -> Any:
        """Return a copy of the present value for `restore`; raises if it cannot be stored."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Return to a snapshot, which stays usable."""
        ...


class Codec:
    """How one processor's states become JSON and back; `S()` is the state of a new key.

    JSON, so that other services and people can read what is stored.
    """

    __slots__ = ("_decode", "encode", "processor", "ttl_ms", "type")

    def __init__(self, processor: str, type: Any, ttl: float | None) -> None:
        self.processor = processor
        self.type = type
        self.ttl_ms = 0 if ttl is None else int(ttl * 1000)
        self._decode = msgspec.json.Decoder(type).decode
        self.encode = msgspec.json.Encoder().encode

    def decode(self, raw: bytes, key: str) -> Any:
        """Return the state of `raw`.

        Raises:
            StreamprocError: the stored value does not fit the state type any more.
        """
        try:
            return self._decode(raw)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise StreamprocError(
                f"the stored state at {key} is not a {self.type}: {error}; give new fields of the "
                "state type a default, or delete the key"
            ) from error


class StateCell:
    """A state value of one key, shared by the batches of a worker.

    `raw` and `version` are what Redis holds (None and 0 for a key that does not exist). What
    handlers read and change is a value decoded from `raw`; `reset` forgets it.
    """

    __slots__ = ("_value", "codec", "key", "raw", "version")

    def __init__(self, key: str, codec: Codec) -> None:
        self.key = key
        self.codec = codec
        self.version = 0
        self.raw: bytes | None = None
        self._value: Any = _UNREAD

    @property
    def is_read(self) -> bool:
        """Whether a handler looked at the value since the last load or reset."""
        return self._value is not _UNREAD

    @property
    def size(self) -> int:
        """The bytes that are stored."""
        return len(self.raw or b"")

    def load(self, version: int, raw: bytes | None) -> None:
        """Take over what Redis holds."""
        self.version = version
        self.raw = raw
        self._value = _UNREAD

    def read(self) -> Any:
        """Return the value for a handler, who may change it in place."""
        if self._value is _UNREAD:
            self._value = (
                self.codec.type() if self.raw is None else self.codec.decode(self.raw, self.key)
            )
        return self._value

    def write(self, value: Any) -> None:
        """Replace the value."""
        self._value = value

    def changed(self) -> bytes | None:
        """Return the encoded value if it differs from what Redis holds, else None."""
        encoded = self.codec.encode(self._value)
        return None if encoded == self.raw else encoded

    def committed(self, raw: bytes, version: int) -> None:
        """Note what is stored now; the decoded value stays."""
        self.version = version
        self.raw = raw

    def reset(self) -> None:
        """Forget what handlers did."""
        self._value = _UNREAD

    def snapshot(self) -> bytes | None:
        """Return a copy of the present value for `restore`; None when nobody read it."""
        return None if self._value is _UNREAD else self.codec.encode(self._value)

    def restore(self, snapshot: bytes | None) -> None:
        """Return to a snapshot."""
        self._value = _UNREAD if snapshot is None else self.codec.decode(snapshot, self.key)
