"""The ledger: written to parquet as it leaves the outbox, and audited against the stock."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import boto3
import msgspec
import pytest
from moto.server import ThreadedMotoServer

from streamproc import ConfigError, OutgoingEvent, Sink
from streamproc.testing import Harness
from streamproc_inventory import InventoryProcessor, Levels
from streamproc_inventory.audit import (
    Difference,
    audit_counted,
    audit_ledger,
    read_counted,
)
from streamproc_inventory.ledger_file import LedgerReader, LedgerRow, LedgerWriter
from streamproc_inventory.ledger_sink import LedgerSink, ledger_row, open_ledger_sink

from .histories import PLACES, Historian
from .making import SKU, WAREHOUSE, deliver, ledger, placed, received, shipped, stock
from .making import line as order_line

Stocks = dict[tuple[str, str], tuple[int, Levels]]


class Taker(Sink):
    """Takes every other event."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.closed = False

    async def send(self, events: Sequence[OutgoingEvent]) -> set[int]:
        self.taken += [event.id for event in events[::2]]
        return set(range(0, len(events), 2))

    async def aclose(self) -> None:
        self.closed = True


def names_below(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*"))


def outgoing(h: Harness) -> list[OutgoingEvent]:
    return [
        OutgoingEvent(
            id=entry["id"].decode(),
            type=entry["type"].decode(),
            key=entry["key"].decode(),
            cause=entry["cause"].decode(),
            data=entry["data"],
        )
        for entry in h.store.outbox
    ]


def rows_of(h: Harness) -> list[LedgerRow]:
    return [ledger_row(event.data) for event in outgoing(h) if event.type == "LedgerEntry"]


def stocks_of(h: Harness) -> Stocks:
    found = {place: stock(h, *place) for place in PLACES}
    return {place: (each.version, each.levels) for place, each in found.items() if each.version}


async def random_history(seed: int = 5) -> Harness:
    historian = Historian(seed)
    return await deliver(historian.deliveries(historian.history()))


async def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    h = await random_history()
    sink = LedgerSink(LedgerWriter(str(tmp_path)), None)
    events = outgoing(h)
    assert await sink.send(events[:7]) == set(range(7))
    assert await sink.send(events[7:]) == set(range(len(events) - 7))
    rows = list(LedgerReader(str(tmp_path)).rows())
    assert [(row.id, row.entry) for row in rows] == [(row.id, row.entry) for row in rows_of(h)]
    assert [row.time is None for row in rows] == [row.time is None for row in rows_of(h)]
    assert sink.breaks == 0
    assert audit_ledger(stocks_of(h), rows) == []


async def test_appends_make_one_file_until_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamproc_inventory.ledger_file._ROWS_PER_FILE", 3)
    h = await deliver([received(f"r{n}", 1) for n in range(7)])
    writer = LedgerWriter(str(tmp_path))
    for row in rows_of(h):
        writer.append([row])
    files = names_below(tmp_path)
    assert len([name for name in files if name.endswith(".parquet")]) == 3
    assert not [name for name in files if name.startswith(".")]
    assert [row.entry.version for row in LedgerReader(str(tmp_path)).rows()] == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    ]


async def test_rows_can_be_those_of_one_item_or_stock(tmp_path: Path) -> None:
    h = await deliver([received("r1", 1), received("r2", 2, "B"), received("r3", 3, "B", "WH-2")])
    LedgerWriter(str(tmp_path)).append(rows_of(h))
    reader = LedgerReader(str(tmp_path))
    assert [row.entry.units for row in reader.rows("B")] == [2, 3]
    assert [row.entry.units for row in reader.rows("B", "WH-2")] == [3]
    assert list(LedgerReader(str(tmp_path / "none")).rows()) == []


async def test_other_events_are_handed_on_and_the_rest_is_not_acknowledged(tmp_path: Path) -> None:
    h = await deliver([received("r1", 1), placed("o1", order_line(3)), received("r2", 9)])
    events = outgoing(h)
    others = [at for at, event in enumerate(events) if event.type != "LedgerEntry"]
    taker = Taker()
    sink = LedgerSink(LedgerWriter(str(tmp_path)), taker)
    done = await sink.send(events)
    assert taker.taken == [events[at].id for at in others[::2]]
    assert set(range(len(events))) - done == set(others[1::2])
    await sink.aclose()
    assert taker.closed


async def test_a_write_that_fails_acknowledges_nothing(tmp_path: Path) -> None:
    h = await deliver([received("r1", 1)])
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    sink = LedgerSink(LedgerWriter(str(blocked)), None)
    with pytest.raises(OSError, match="file"):
        await sink.send(outgoing(h))


async def test_a_break_in_the_passing_entries_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    h = await deliver([received(f"r{n}", 1) for n in range(5)])
    entries = [event for event in outgoing(h) if event.type == "LedgerEntry"]
    sink = LedgerSink(LedgerWriter(str(tmp_path)), None)
    await sink.send(entries[:2])
    await sink.send(entries[:2])  # again, as after a crash of the relay
    assert sink.breaks == 0
    await sink.send(entries[3:])
    assert sink.breaks == 1
    assert "entry 4 does not follow entry 2" in caplog.text


async def test_the_sink_is_opened_by_its_options(tmp_path: Path) -> None:
    sink = await open_ledger_sink({"path": str(tmp_path), "forward": "log"})
    await sink.aclose()
    with pytest.raises(ConfigError, match="path"):
        await open_ledger_sink({})
    with pytest.raises(ConfigError, match="name a directory"):
        await open_ledger_sink({"path": "ftp://nowhere/at/all"})


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setitem(os.environ, name, "test")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="books")
    yield f"s3://books/ledger?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


async def test_a_ledger_in_s3(bucket: str) -> None:
    h = await random_history(6)
    sink = await open_ledger_sink({"path": bucket})
    events = outgoing(h)
    await sink.send(events[:9])
    await sink.send(events[9:])
    assert audit_ledger(stocks_of(h), LedgerReader(bucket).rows()) == []


async def test_entries_may_come_twice_and_in_any_order_to_the_audit() -> None:
    h = await random_history()
    rows = rows_of(h) * 2
    random.Random(1).shuffle(rows)
    assert audit_ledger(stocks_of(h), rows) == []


async def test_entries_later_than_the_stock_are_left_out() -> None:
    async with Harness(InventoryProcessor()) as h:
        await h.send(received("r1", 3))
        before = stocks_of(h)
        await h.send(received("r2", 4))
        assert audit_ledger(before, rows_of(h)) == []


def changed(row: LedgerRow, **after: int) -> LedgerRow:
    entry = msgspec.structs.replace(
        row.entry, after=msgspec.structs.replace(row.entry.after, **after)
    )
    return msgspec.structs.replace(row, entry=entry)


async def test_the_audit_finds_every_kind_of_break_largest_first() -> None:
    h = await deliver(
        [
            *[received(f"a{n}", 2, "SKU-1") for n in range(3)],
            *[received(f"b{n}", 5, "SKU-2") for n in range(3)],
            *[received(f"c{n}", 1, "SKU-3") for n in range(3)],
        ]
    )
    rows, stocks = rows_of(h), stocks_of(h)
    of = {sku: [row for row in rows if row.entry.sku == sku] for sku in ("SKU-1", "SKU-2", "SKU-3")}
    lost = [*of["SKU-1"][:2], *of["SKU-2"][1:], *of["SKU-3"]]
    assert [(d.sku, d.units, d.text) for d in audit_ledger(stocks, lost)] == [
        ("SKU-2", 15, "entry 1 of 3 is missing from the ledger"),
        ("SKU-1", 2, "entry 3 of 3 is missing from the ledger"),
    ]
    tampered = [changed(row, on_hand=9) if row.entry.event_id == "a1" else row for row in rows]
    (found,) = audit_ledger(stocks, tampered)
    assert (found.sku, found.units) == ("SKU-1", -5)
    assert found.text == "entry 3 begins where entry 2 did not end"
    version, levels = stocks[SKU, WAREHOUSE]
    wrong = stocks | {(SKU, WAREHOUSE): (version, msgspec.structs.replace(levels, on_hand=8))}
    (found,) = audit_ledger(wrong, rows)
    assert (found.units, found.text) == (2, "on hand 8, the moves of its ledger are 6")
    del wrong[SKU, WAREHOUSE]
    assert audit_ledger(wrong, rows) == [Difference(SKU, WAREHOUSE, 6, "a ledger without a stock")]


async def test_counted_stock_is_compared_largest_difference_first(tmp_path: Path) -> None:
    h = await deliver(
        [
            received("r1", 10),
            placed("o1", order_line(4)),
            shipped("s1", "o1", order_line(3)),
            received("r2", 4, "SKU-2"),
        ]
    )
    assert len(ledger(h)) == 3
    path = tmp_path / "counted.csv"
    path.write_text("sku,location_id,quantity\nSKU-1,WH-1,6\nSKU-2,WH-1,4\nSKU-9,WH-1,5\n")
    found = audit_counted(stocks_of(h), read_counted(path))
    assert [(each.sku, each.units, each.text) for each in found] == [
        ("SKU-9", 5, "counted 5, on hand 0"),
        ("SKU-1", -1, "counted 6, on hand 7"),
    ]


def test_counted_stock_is_read_from_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = [{"sku": "A", "location_id": "W", "quantity": 3}]
    parquet.write_table(pa.Table.from_pylist(rows), str(tmp_path / "counted.parquet"))
    assert read_counted(tmp_path / "counted.parquet") == {("A", "W"): 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sku,location_id\nA,W\n", "row 1: it must have"),
        ("sku,location_id,quantity\nA,W,1.5\n", "row 1: it must have"),
        ("sku,location_id,quantity\nA,W,1\nA,W,2\n", "row 2: A at W is there twice"),
    ],
)
def test_counted_stock_that_makes_no_sense_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_counted(tmp_path / "c.csv")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_counted(tmp_path / "none.csv")
