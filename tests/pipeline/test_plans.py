"""Reading envelope and payload in one pass gives what the two steps give."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamproc import Context, Event, Processor, on
from streamproc.errors import DecodeError
from streamproc.events.envelope import read_envelope
from streamproc.kinesis.records import Record
from streamproc.pipeline.decode import DecodedBatch, decode_batch
from streamproc.pipeline.plans import _MOST_KNOWN
from streamproc.pipeline.routes import Routes
from streamproc.state.cache import CellCache
from streamproc.state.keys import Keys


class NoteV1(Event, type="Note", version=1, id="note_id"):
    note_id: str
    text: str

    def upcast(self) -> Note:
        return Note(self.note_id, self.text, 1)


class Note(Event, type="Note", version=2, id="note_id", supersedes=NoteV1):
    note_id: str
    text: str
    pages: int


class Ping(Event, type="Ping", version=1):
    pass


class Reader(Processor):
    @on(Note)
    def note(self, event: Note, ctx: Context) -> None: ...

    @on(Ping)
    def ping(self, event: Ping, ctx: Context) -> None: ...


TYPES = [
    "Note",
    "com.example.Note.v1",
    "com.example.Note.v2",
    "Note.v2",
    "Ping",
    "Other",
    "Note.v9",
]
JSON = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
PAYLOADS = st.fixed_dictionaries(
    {"note_id": st.text(max_size=3), "text": st.text(max_size=3)},
    optional={"pages": st.integers(0, 9), "more": JSON},
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.just("1.0"),
        "id": st.text(max_size=3) | st.integers(),
        "type": st.sampled_from(TYPES) | st.none(),
        "time": st.none() | st.just("2026-01-01T00:00:00Z") | st.integers(),
        "data": PAYLOADS | JSON,
        "extra": JSON,
    },
).map(msgspec.json.encode)


def decoded(routes: Routes, data: list[bytes]) -> tuple[list[Any], list[Any], int]:
    records = [Record(str(at), 1.0, each, "k") for at, each in enumerate(data)]
    batch: DecodedBatch = decode_batch(
        records, routes, CellCache(10_000), stream="s", shard="x", dead_letter_unknown=False
    )
    items = [
        (item.order, item.event_type, item.event_id, item.digest, item.time, item.calls[0][1])
        for item in batch.items
    ]
    dead = [(letter.reason, letter.error, letter.sequence) for letter in batch.dead]
    return items, dead, len(batch.unknown)


NOT_UTF8 = b'{"type":"Note","data":{"note_id":"a\xff","text":""}}'
DEEP = b'{"type":"Note","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@given(st.lists(RECORDS | st.binary(max_size=20), max_size=8))
@example([NOT_UTF8, DEEP])
def test_what_is_known_makes_no_difference(data: list[bytes]) -> None:
    fresh, experienced = Routes([Reader()], [Keys("g")]), Routes([Reader()], [Keys("g")])
    for wire_type in TYPES[:-1]:
        experienced.plans.meet(wire_type)
    assert decoded(experienced, data) == decoded(fresh, data)


def test_a_type_goes_the_long_way_in_its_first_batch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[bytes] = []

    def watched(data: bytes) -> Any:
        slow.append(data)
        return read_envelope(data)

    monkeypatch.setattr("streamproc.pipeline.decode.read_envelope", watched)
    routes = Routes([Reader()], [Keys("g")])
    note = b'{"type":"com.x.Note.v1","id":"1","data":{"note_id":"%d","text":""}}'
    other = b'{"type":"Other","id":"1","data":{}}'
    for first in (1, 3):
        items, dead, unknown = decoded(routes, [note % first, other, note % (first + 1)])
        assert (len(items), dead, unknown) == (2, [], 1)
    assert slow == [note % 1, other, note % 2]


def test_an_unknown_version_is_refused_every_time() -> None:
    routes = Routes([Reader()], [Keys("g")])
    for _ in range(2):
        with pytest.raises(DecodeError, match="version 9"):
            routes.plans.meet("Note.v9")


def test_types_without_end_are_not_learnt_without_end() -> None:
    routes = Routes([Reader()], [Keys("g")])
    for number in range(_MOST_KNOWN + 20):
        assert routes.plans.meet(f"Hostile{number}") is None
    assert len(routes.plans.of) == _MOST_KNOWN
    items, dead, unknown = decoded(
        routes,
        [
            b'{"type":"Hostile%d","data":{}}' % (_MOST_KNOWN + 5),
            b'{"type":"Ping","id":"1","data":{}}',
        ],
    )
    assert (len(items), dead, unknown) == (1, [], 1)
