"""One keyed state value: as stored, and as handlers see it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec

from streamproc.errors import StreamprocError

__all__ = ["Codec", "StateCell", "Undoable", "new_version"]

_UNREAD: Final[Any] = object()
# Lua's numbers are doubles, exact up to 2**53: 52 random bits of 56.
_SPARE_BITS: Final = 4


def new_version() -> int:
    """Return a version for what a commit writes: one that nothing was ever written under.

    Counted versions would not do. A key that expired and came back, or a store that went back to an
    older dump and was written to again, would reach a number that somebody still holds together
    with another value, and a commit based on that value would pass for a current one.
    """
    return 1 + (int.from_bytes(os.urandom(7), "big") >> _SPARE_BITS)


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

    Args:
        processor: whose states.
        type: `S`.
        ttl: seconds that a state is kept after a write; None for ever.
        schema: the version of `S` that is written.
        upgrades: from each older version that is still understood, a function to the next.
    """

    __slots__ = ("_decode", "_upgrades", "encode", "processor", "schema", "ttl_ms", "type")

    def __init__(
        self,
        processor: str,
        type: Any,
        ttl: float | None,
        schema: int = 1,
        upgrades: Mapping[int, Callable[[Any], Any]] = MappingProxyType({}),
    ) -> None:
        self.processor = processor
        self.type = type
        self.ttl_ms = 0 if ttl is None else int(ttl * 1000)
        self.schema = schema
        self._upgrades = upgrades
        self._decode = msgspec.json.Decoder(type).decode
        self.encode = msgspec.json.Encoder().encode

    def decode(self, raw: bytes, key: str, schema: int | None = None) -> Any:
        """Return the state of `raw`, which is in version `schema`; the present one if None.

        Raises:
            StreamprocError: the stored value does not fit the state type any more, is in a version
                that this release does not know, or cannot be upgraded.
        """
        try:
            if schema is None or schema == self.schema:
                return self._decode(raw)
            return msgspec.convert(self._upgraded(raw, key, schema), self.type)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise StreamprocError(
                f"the stored state at {key} is not a {self.type}: {error}; give new fields of the "
                "state type a default, or raise state_version and add to state_upgrades, or delete "
                "the key"
            ) from error

    def _upgraded(self, raw: bytes, key: str, schema: int) -> Any:
        if schema > self.schema:
            raise StreamprocError(
                f"the stored state at {key} has version {schema}, and this release of "
                f"{self.processor} knows {self.schema} at most: a newer release has written it; "
                "deploy that one here too, then redrive the event"
            )
        value = msgspec.json.decode(raw)
        for version in range(schema, self.schema):
            upgrade = self._upgrades.get(version)
            if upgrade is None:
                raise StreamprocError(
                    f"the stored state at {key} has version {version}, and {self.processor} has no "
                    f"state_upgrades[{version}] any more; bring it back, or delete the key"
                )
            try:
                value = upgrade(value)
            except Exception as error:
                raise StreamprocError(
                    f"the stored state at {key} has version {version}, and "
                    f"{self.processor}.state_upgrades[{version}] fails on it "
                    f"({type(error).__name__}: {error}); mend that function"
                ) from error
        return value


class StateCell:
    """A state value of one key, shared by the batches of a worker.

    `raw`, `version` and `schema` are what Redis holds (None and 0 for a key that does not exist).
    What handlers read and change is a value decoded from `raw`; `reset` forgets it. `is_held` tells
    whether these were learnt from Redis, be it some time ago. `held_bytes` is what the cache counts
    the cell for.
    """

    __slots__ = ("_value", "codec", "held_bytes", "is_held", "key", "raw", "schema", "version")

    def __init__(self, key: str, codec: Codec) -> None:
        self.key = key
        self.codec = codec
        self.is_held = False
        self.held_bytes = 0
        self.version = 0
        self.raw: bytes | None = None
        self.schema = 1
        self._value: Any = _UNREAD

    @property
    def is_read(self) -> bool:
        """Whether a handler looked at the value since the last load or reset."""
        return self._value is not _UNREAD

    @property
    def size(self) -> int:
        """The bytes that are stored."""
        return len(self.raw or b"")

    def load(self, version: int, raw: bytes | None, schema: int = 1) -> None:
        """Take over what Redis holds."""
        self.version = version
        self.raw = raw
        self.schema = schema
        self._value = _UNREAD

    def read(self) -> Any:
        """Return the value for a handler, who may change it in place."""
        if self._value is _UNREAD:
            self._value = (
                self.codec.type()
                if self.raw is None
                else self.codec.decode(self.raw, self.key, self.schema)
            )
        return self._value

    def write(self, value: Any) -> None:
        """Replace the value."""
        self._value = value

    def changed(self) -> bytes | None:
        """Return the encoded value if it differs from what Redis holds, else None."""
        encoded = self.codec.encode(self._value)
        return None if encoded == self.raw and self.schema == self.codec.schema else encoded

    def committed(self, raw: bytes, version: int) -> None:
        """Note what is stored now; the decoded value stays."""
        self.version = version
        self.raw = raw
        self.schema = self.codec.schema

    def reset(self) -> None:
        """Forget what handlers did."""
        self._value = _UNREAD

    def snapshot(self) -> bytes | None:
        """Return a copy of the present value for `restore`; None when nobody read it."""
        return None if self._value is _UNREAD else self.codec.encode(self._value)

    def restore(self, snapshot: bytes | None) -> None:
        """Return to a snapshot."""
        self._value = _UNREAD if snapshot is None else self.codec.decode(snapshot, self.key)
