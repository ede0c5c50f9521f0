"""Which class reads which wire type, across versions and plugins."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamproc import Event, ProcessorError
from streamproc.errors import DecodeError
from streamproc.events.envelope import (
    encode_envelope,
    epoch_seconds,
    read_envelope,
    split_type,
)
from streamproc.events.registry import EventRegistry


class PaidV1(Event, type="Paid", version=1, id="payment_id"):
    payment_id: str
    amount: float  # in units, as nobody should

    def upcast(self) -> PaidV2:
        return PaidV2(payment_id=self.payment_id, amount_minor=round(self.amount * 100))


class PaidV2(Event, type="Paid", version=2, id="payment_id", supersedes=PaidV1):
    payment_id: str
    amount_minor: int

    def upcast(self) -> Paid:
        return Paid(payment_id=self.payment_id, amount_minor=self.amount_minor, currency="EUR")


class Paid(Event, type="Paid", version=3, id="payment_id", supersedes=PaidV2):
    payment_id: str
    amount_minor: int
    currency: str


class PaidInBrief(Event, type="Paid", version=3, id="payment_id"):
    payment_id: str


PAYLOADS = {
    1: b'{"payment_id":"p","amount":1.25}',
    2: b'{"payment_id":"p","amount_minor":125}',
    3: b'{"payment_id":"p","amount_minor":125,"currency":"EUR"}',
}
NEWEST = Paid(payment_id="p", amount_minor=125, currency="EUR")


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("prefix", ["", "com.example.payments."])
def test_every_version_is_read_as_the_newest(version: int, prefix: str) -> None:
    reading = EventRegistry([Paid]).reading(f"{prefix}Paid.v{version}")
    assert reading is not None
    assert reading.event_type == "Paid"
    assert [decode(PAYLOADS[version]) for decode in reading.decoders] == [NEWEST]


def test_a_type_without_version_is_the_newest() -> None:
    reading = EventRegistry([Paid]).reading("Paid")
    assert reading is not None
    assert reading.decoders[0](PAYLOADS[3]) == NEWEST


@pytest.mark.parametrize("version", [4, 99])
def test_a_version_from_the_future_is_refused(version: int) -> None:
    registry = EventRegistry([Paid])
    for _ in range(2):  # also when asked again
        with pytest.raises(DecodeError, match=f"version {version} is not known") as refused:
            registry.reading(f"Paid.v{version}")
        assert refused.value.reason == "unknown-version"


def test_a_version_older_than_any_known_is_refused() -> None:
    with pytest.raises(DecodeError, match="version 1 is not known"):
        EventRegistry([PaidInBrief]).reading("Paid.v1")


def test_an_undeclared_type_is_nobodys() -> None:
    registry = EventRegistry([Paid])
    assert registry.reading("Refunded") is None
    assert registry.reading("PaidBack") is None
    assert registry.reading("") is None


def test_two_plugins_read_one_type_with_classes_of_their_own() -> None:
    reading = EventRegistry([Paid, PaidInBrief, Paid]).reading("Paid.v3")
    assert reading is not None
    assert reading.classes == (Paid, PaidInBrief)
    assert [decode(PAYLOADS[3]) for decode in reading.decoders] == [
        NEWEST,
        PaidInBrief(payment_id="p"),
    ]


def test_two_plugins_that_disagree_on_the_id_are_told() -> None:
    class Other(Event, type="Paid", version=3, id="transaction"):
        transaction: str

    with pytest.raises(ProcessorError, match=r"'payment_id', 'transaction'.*one id in a group"):
        EventRegistry([Paid, Other])


def test_two_plugins_that_disagree_on_the_version_are_told() -> None:
    with pytest.raises(ProcessorError, match=r"Paid and .*PaidV2 declare different versions"):
        EventRegistry([Paid, PaidV2])


def test_a_hostile_producer_cannot_grow_the_memo() -> None:
    registry = EventRegistry([Paid])
    for number in range(10_050):
        registry.reading(f"Type{number}")
    assert len(registry._memo) == 10_000
    assert registry.reading("Paid") is not None


def test_an_event_is_declared_with_an_id_that_exists() -> None:
    with pytest.raises(ProcessorError, match="event Odd: id='nope' names no field"):

        class Odd(Event, id="nope"):
            name: str


def test_a_version_supersedes_an_older_one_only() -> None:
    with pytest.raises(ProcessorError, match="event Again version 3 supersedes Paid"):

        class Again(Event, type="Paid", version=3, supersedes=Paid):
            name: str


def test_a_superseded_version_must_say_how_it_is_upcast() -> None:
    class OldNote(Event, type="Note", version=1):
        text: str

    class Note(Event, type="Note", version=2, supersedes=OldNote):
        text: str

    reading = EventRegistry([Note]).reading("Note.v1")
    assert reading is not None
    with pytest.raises(ProcessorError, match=r"OldNote is superseded but defines no upcast\(\)"):
        reading.decoders[0](b'{"text":"x"}')


def test_events_are_frozen() -> None:
    with pytest.raises(AttributeError):
        NEWEST.currency = "USD"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("Paid", ("Paid", None)),
        ("Paid.v2", ("Paid", 2)),
        ("com.example.Paid.v12", ("com.example.Paid", 12)),
        ("Paid.v0", ("Paid.v0", None)),
        ("Paid.v", ("Paid.v", None)),
        ("Paid.v2.v3", ("Paid.v2", 3)),
        ("", ("", None)),
        (".v2", (".v2", None)),
    ],
)
def test_a_wire_type_is_split_into_name_and_version(
    wire: str, expected: tuple[str, int | None]
) -> None:
    assert split_type(wire) == expected


def test_the_envelope_leaves_the_payload_undecoded() -> None:
    envelope = read_envelope(b'{"type":"T","id":"1","extra":[1],"data":{"a": 1 }}')
    assert (envelope.type, envelope.id, envelope.time) == ("T", "1", None)
    assert bytes(envelope.data) == b'{"a": 1 }'


@pytest.mark.parametrize("time", [None, "2026-01-01T00:00:00Z", 'no "time" \\ at all\n'])
def test_an_envelope_is_written_as_json_whatever_its_texts_hold(time: str | None) -> None:
    payload = msgspec.Raw(b'{"a":1}')
    written = encode_envelope(
        id='a"b\\', source="s/\u00e4", type='T"', version=3, time=time, data=payload
    )
    expected = {
        "specversion": "1.0",
        "id": 'a"b\\',
        "source": "s/\u00e4",
        "type": 'T".v3',
        "data": {"a": 1},
        "time": time,
        "datacontenttype": "application/json",
    }
    if time is None:
        del expected["time"]
    assert written == msgspec.json.encode(expected)


def test_times_are_rfc_3339_with_an_offset() -> None:
    assert epoch_seconds("1970-01-01T00:00:01.5Z") == 1.5
    assert epoch_seconds("1970-01-01T02:00:00+02:00") == 0.0
    for bad in ("1970-01-01T00:00:00", "now", "", "1970-13-01T00:00:00Z"):
        with pytest.raises(DecodeError) as refused:
            epoch_seconds(bad)
        assert refused.value.reason == "bad-time"


def test_payload_fields_may_be_renamed_on_the_wire() -> None:
    class Camel(Event, id="payment_id", rename="camel"):
        payment_id: str

    assert msgspec.json.encode(Camel(payment_id="p")) == b'{"paymentId":"p"}'
    reading = EventRegistry([Camel]).reading("Camel")
    assert reading is not None
    assert reading.decoders[0](b'{"paymentId":"q"}') == Camel(payment_id="q")


@given(
    seconds=st.integers(-2_000_000_000, 10_000_000_000),
    milliseconds=st.integers(0, 999),
    damage=st.none() | st.tuples(st.integers(0, 23), st.characters(codec="utf-8")),
)
@example(seconds=0, milliseconds=5, damage=(19, ","))
@example(seconds=0, milliseconds=5, damage=(10, " "))
@example(seconds=0, milliseconds=5, damage=(10, "t"))
@example(seconds=0, milliseconds=5, damage=(23, "z"))
def test_a_time_in_milliseconds_is_read_as_any_other(
    seconds: int, milliseconds: int, damage: tuple[int, str] | None
) -> None:
    """That form has a way of its own, which must take and refuse the same."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=1_000 * milliseconds)
    text = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if damage is not None:
        at, character = damage
        text = text[:at] + character + text[at + 1 :]
    try:
        expected = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        expected = None
    if expected is None or expected.tzinfo is None:
        with pytest.raises(DecodeError) as failed:
            epoch_seconds(text)
        assert failed.value.reason == "bad-time"
    else:
        assert epoch_seconds(text) == expected.timestamp()
