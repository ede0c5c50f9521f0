"""Whatever bytes a producer sends, the batch goes on and the record is accounted for."""

from __future__ import annotations

import pytest

from streamproc import Context, Event, Processor, on
from streamproc.testing import Harness


class Note(Event, id="note_id"):
    note_id: str
    text: str = ""
    number: int = 0
    ratio: float = 0.0


class Notes(Processor[int]):
    @on(Note, key="note_id")
    def take(self, event: Note, ctx: Context[int]) -> None:
        ctx.state += 1


def enveloped(data: bytes) -> bytes:
    return b'{"specversion":"1.0","id":"x","source":"s","type":"Note","data":' + data + b"}"


DEEP = b"[" * 100_000 + b"]" * 100_000

BAD = {
    "nothing": (b"", "empty"),
    "garbage": (b"\x00\xff\xfe not json", "bad-json"),
    "a damaged KPL aggregate": (b"\xf3\x89\x9a\xc2" + bytes(40), "bad-aggregate"),
    "cut off": (b'{"type":"Note","data":{"note_i', "bad-json"),
    "trailing garbage": (enveloped(b'{"note_id":"a"}') + b"}", "bad-json"),
    "no object": (b"[1,2]", "bad-shape"),
    "null": (b"null", "bad-shape"),
    "no type": (b'{"data":{"note_id":"a"}}', "bad-shape"),
    "no data": (b'{"type":"Note"}', "bad-shape"),
    "type is a number": (b'{"type":1,"data":{}}', "bad-shape"),
    "wrong shape": (enveloped(b'{"note_id":7}'), "bad-shape"),
    "missing field": (enveloped(b"{}"), "bad-shape"),
    "data is text": (enveloped(b'"text"'), "bad-shape"),
    "empty id": (enveloped(b'{"note_id":""}'), "no-id"),
    "text for a number": (enveloped(b'{"note_id":"a","number":"1"}'), "bad-shape"),
    "float for an integer": (enveloped(b'{"note_id":"a","number":1.5}'), "bad-shape"),
    "integer without end": (
        enveloped(b'{"note_id":"a","number":' + b"9" * 5_000 + b"}"),
        "bad-shape",
    ),
    "NaN": (enveloped(b'{"note_id":"a","ratio":NaN}'), "bad-json"),
    "infinity by exponent": (enveloped(b'{"note_id":"a","ratio":1e999}'), "bad-shape"),
    "invalid UTF-8": (enveloped(b'{"note_id":"a\xff"}'), "bad-utf8"),
    "UTF-16": ('{"type":"Note"}'.encode("utf-16"), "bad-json"),
    "byte order mark": (b"\xef\xbb\xbf" + enveloped(b'{"note_id":"a"}'), "bad-json"),
    "lone surrogate": (enveloped(b'{"note_id":"a","text":"\\ud800 x"}'), "bad-json"),
    "deep data": (enveloped(b'{"note_id":' + DEEP + b"}"), None),
    "deep unknown field": (enveloped(b'{"note_id":"a","more":' + DEEP + b"}"), None),
    "deep envelope": (b'{"type":"Note","data":' + DEEP + b"}", None),
    "future version": (enveloped(b"{}").replace(b'"Note"', b'"Note.v2"'), "unknown-version"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_bytes_become_a_dead_letter_and_the_rest_goes_on(name: str) -> None:
    data, reason = BAD[name]
    good = enveloped(b'{"note_id":"good"}')
    async with Harness(Notes()) as h:
        await h.send_raw(good, data, good.replace(b"good", b"better"))
        (letter,) = h.dead_letters
        assert letter.data == data
        assert letter.error
        assert letter.attempts == 0
        if reason is not None:
            assert letter.reason == reason
        assert (h.state("notes", "good"), h.state("notes", "better")) == (1, 1)
        assert (h.statistics.processed, h.statistics.dead_letters) == (2, 1)


async def test_an_undeclared_type_is_skipped_and_counted() -> None:
    async with Harness(Notes()) as h:
        await h.send_raw(enveloped(b"{}").replace(b'"Note"', b'"Rumour"'))
        assert (h.statistics.unknown, h.dead_letters) == (1, [])


async def test_an_undeclared_type_is_put_aside_where_that_is_asked_for() -> None:
    async with Harness(Notes(), dead_letter_unknown=True) as h:
        await h.send_raw(enveloped(b"{}").replace(b'"Note"', b'"Rumour"'))
        assert [letter.reason for letter in h.dead_letters] == ["unknown-type"]
        assert h.statistics.unknown == 0


async def test_a_record_of_a_mebibyte_passes_whole() -> None:
    async with Harness(Notes()) as h:
        data = enveloped(b'{"note_id":"a","text":"%s"}' % (b"x" * (1024 * 1024 - 128)))
        await h.send_raw(data, data[:-1])
        assert h.state("notes", "a") == 1
        assert h.dead_letters[0].data == data[:-1]


async def test_a_batch_of_nothing_but_bad_records_moves_on() -> None:
    async with Harness(Notes()) as h:
        await h.send_raw(b"x", b"", b"y")
        await h.send(Note(note_id="a"))
        assert h.state("notes", "a") == 1
        assert len(h.dead_letters) == 3


async def test_a_big_integer_arrives_whole() -> None:
    async with Harness(Notes()) as h:
        await h.send(Note(note_id="a", number=10**400))
        assert h.statistics.processed == 1


async def test_what_kinesis_never_told_us_to_trust_may_be_in_keys() -> None:
    async with Harness(Notes()) as h:
        for name in ("{group}", "a|b", "a:b", "100%", "\x00", "ключ", "x" * 10_000):
            await h.send(Note(note_id=name))
            assert h.state("notes", name) == 1
        assert h.dead_letters == []


class Keyed(Processor[int]):
    """Its key function fails for some events, and for others returns what is no key."""

    @on(Note, key=lambda event: 3 if event.text == "int" else event.text[0])  # type: ignore[arg-type, return-value]
    def take(self, event: Note, ctx: Context[int]) -> None:
        ctx.state += 1


@pytest.mark.parametrize("text", ["", "int"])
async def test_a_key_function_that_fails_fails_its_event_alone(text: str) -> None:
    async with Harness(Keyed()) as h:
        await h.send(Note("a", text="k"), Note("b", text=text), Note("c", text="k"))
        (letter,) = h.dead_letters
        assert letter.reason == "bad-key"
        assert b'"note_id":"b"' in letter.data
        assert "keyed.take" in letter.error
        assert h.state("keyed", "k") == 2
