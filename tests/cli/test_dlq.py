"""Dead letters and parked keys in an operator's hands, over real HTTP and a real Redis."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner

from streamproc import Context, Policy, on
from streamproc.admin.put_aside import open_put_aside
from streamproc.aside import LetterFilter
from streamproc.cli.dlq_filter import moment
from streamproc.cli.main import app
from streamproc.errors import ConfigError, StreamprocError
from streamproc.kinesis.client import open_kinesis
from streamproc.settings import load_config
from streamproc.testing import LocalKinesis
from tests.worker.group import Group, entry
from tests.worker.ledger import Account, Entry, Ledger

GARBAGE = b"\xff\x1b[31m not json [/red]"


class MendedLedger(Ledger):
    """Books what the ledger could not."""

    name = "ledger"

    @on(Entry, key="account")
    def book(self, event: Entry, ctx: Context[Account]) -> None:
        ctx.state.numbers.append(event.number)


class ParkingLedger(Ledger):
    name = "ledger"
    policy = Policy(attempts=1, then="park")


@pytest.fixture
async def group(local_kinesis: LocalKinesis, redis_url: str) -> AsyncIterator[Group]:
    async with Group(local_kinesis, redis_url, shards=2) as made:
        yield made


async def dlq(group: Group, *arguments: str, fails: bool = False) -> str:
    """Run `streamproc dlq` as the group's operator; return what it printed."""
    flags = []
    for key, value in group.settings().items():
        flags += ["--set", f"{key}={json.dumps(value)}"]

    def invoke() -> str:
        result = CliRunner().invoke(app, ["dlq", *arguments, *flags], env={"COLUMNS": "250"})
        if isinstance(result.exception, StreamprocError):
            raise result.exception
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    return await asyncio.to_thread(invoke)


async def listed(group: Group, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await dlq(group, "ls", "--json", *arguments))
    return found


async def put_aside(group: Group) -> None:
    """Have a worker put aside one of each kind, with good events around them."""
    worker = group.start()
    group.publish([("a", entry(1, "a")), ("a", entry(-2, "a")), ("b", entry(-1, "b"))])
    group.publish([("c", GARBAGE), ("a", entry(3, "a"))])
    await group.until(lambda: group.counted("records") == 5)
    await group.stop(worker)


async def test_what_was_put_aside_is_listed_and_filtered(group: Group) -> None:
    await put_aside(group)
    every = await listed(group)
    assert {each["reason"] for each in every} == {"handler-failed", "negative", "bad-json"}
    failed = next(each for each in every if each["reason"] == "handler-failed")
    assert (failed["event_id"], failed["handler"], failed["attempts"]) == (
        "a--2", "ledger.book", 2,
    )  # fmt: skip

    async def reasons(*arguments: str) -> set[str]:
        return {each["reason"] for each in await listed(group, *arguments)}

    assert await reasons("--reason", "bad-json") == {"bad-json"}
    assert await reasons("--type", "Entry") == {"handler-failed", "negative"}
    assert await reasons("--handler", "ledger") == {"handler-failed", "negative"}
    assert await reasons("--handler", "ledger.book", "--reason", "negative") == {"negative"}
    assert await reasons("--id", "a--2") == {"handler-failed"}
    assert await reasons("--id", failed["id"], "--id", "b--1") == {"handler-failed", "negative"}
    assert await reasons("--shard", failed["shard"][-5:]) >= {"handler-failed"}
    assert await reasons("--since", "1h") == {"handler-failed", "negative", "bad-json"}
    assert await reasons("--until", "1h") == set()
    assert await reasons("--since", "2999-01-01") == set()
    assert len(await listed(group, "--limit", "1")) == 1
    table = await dlq(group, "ls")
    assert "RuntimeError: cannot be booked" in table
    assert "\x1b[31m" not in table


async def test_a_letter_is_shown_with_its_payload_as_it_was(group: Group) -> None:
    await put_aside(group)
    shown = await dlq(group, "show", "a--2")
    assert "RuntimeError: cannot be booked" in shown
    assert "in book" in shown
    assert '"account": "a"' in shown
    (garbage,) = await listed(group, "--reason", "bad-json")
    plain = await dlq(group, "show", garbage["id"])
    assert "[31m not json [/red]" in plain
    assert "\x1b" not in plain
    (whole,) = json.loads(await dlq(group, "show", garbage["id"], "--json"))
    assert base64.b64decode(whole["payload_base64"]) == GARBAGE
    with pytest.raises(ConfigError, match="nothing is put aside as x"):
        await dlq(group, "show", "x")


async def test_the_raw_payload_is_written_byte_for_byte(group: Group) -> None:
    await put_aside(group)
    (garbage,) = await listed(group, "--reason", "bad-json")
    flags = [f"--set={key}={json.dumps(value)}" for key, value in group.settings().items()]
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["dlq", "show", garbage["id"], "--raw", *flags]
    )
    assert result.stdout_bytes == GARBAGE


async def test_a_redriven_letter_is_processed_and_gone(group: Group) -> None:
    await put_aside(group)
    assert "1 dead letters" in await dlq(group, "redrive", "--id", "a--2")
    assert {each["reason"] for each in await listed(group)} == {"negative", "bad-json"}
    group.start(MendedLedger())
    await group.until_booked({"a": 3})
    assert await group.numbers("a") == [1, 3, -2]


async def test_a_redriven_letter_that_fails_again_is_put_aside_again(group: Group) -> None:
    await put_aside(group)
    await dlq(group, "redrive", "--all", "--yes")
    assert await listed(group) == []
    group.start()
    await group.until(lambda: group.counted("dead_letters") == 3)
    assert len(await listed(group)) == 3
    (again,) = await listed(group, "--reason", "bad-json")
    (whole,) = json.loads(await dlq(group, "show", again["id"], "--json"))
    assert base64.b64decode(whole["payload_base64"]) == GARBAGE
    assert whole["partition_key"] == "c"


async def test_several_are_touched_with_yes_only_and_none_in_a_dry_run(group: Group) -> None:
    await put_aside(group)
    for command in ("redrive", "drop"):
        assert f"would {command} 3" in await dlq(group, command, "--all", "--dry-run", "--yes")
        assert f"add --yes to {command} 3" in await dlq(group, command, "--all")
        told = json.loads(await dlq(group, command, "--type", "Entry", "--json"))
        assert told == {"matched": 2, "done": 0}
        with pytest.raises(ConfigError, match="--all"):
            await dlq(group, command)
        with pytest.raises(ConfigError, match="not both"):
            await dlq(group, command, "--all", "--reason", "negative")
    assert len(await listed(group)) == 3
    told = json.loads(await dlq(group, "drop", "--type", "Entry", "--yes", "--json"))
    assert told == {"matched": 2, "done": 2}
    assert [each["reason"] for each in await listed(group)] == ["bad-json"]


async def test_a_redrive_that_was_cut_off_before_the_removal_is_repeated_harmlessly(
    group: Group,
) -> None:
    await put_aside(group)
    config = load_config(None, {}, group.settings())
    async with open_put_aside(config) as aside, open_kinesis(config.stream) as kinesis:
        letters = await aside.letters(LetterFilter(ids=frozenset(["a--2"])))

        async def pulled(_letters: Any) -> None:
            raise ConnectionError("the plug was pulled")

        aside.remove = pulled  # type: ignore[method-assign]
        with pytest.raises(ConnectionError):
            await aside.put_back(letters, kinesis)
    assert len(await listed(group, "--id", "a--2")) == 1
    await dlq(group, "redrive", "--id", "a--2")
    group.start(MendedLedger())
    await group.until(lambda: group.counted("records") == 2)
    assert await group.numbers("a") == [1, 3, -2]
    assert group.counted("duplicates") == 1


async def test_a_letter_whose_event_the_producer_sent_again_meanwhile_is_a_duplicate(
    group: Group,
) -> None:
    await put_aside(group)
    group.start(MendedLedger())
    group.publish([("a", entry(-2, "a"))])
    await group.until_booked({"a": 3})
    await dlq(group, "redrive", "--id", "a--2")
    await group.until(lambda: group.counted("records") == 2)
    assert await group.numbers("a") == [1, 3, -2]
    assert group.counted("duplicates") == 1


async def test_letters_of_another_stream_are_left_alone(group: Group) -> None:
    await put_aside(group)
    group.kinesis.core.call("CreateStream", StreamName="other", ShardCount=1)
    group.stream = "other"  # type: ignore[misc]
    with pytest.raises(ConfigError, match=r"of stream ledger, and stream\.name is other"):
        await dlq(group, "redrive", "--all", "--yes")
    assert len(await listed(group)) == 3


async def parked(group: Group) -> None:
    worker = group.start(ParkingLedger())
    group.publish([("a", entry(n, "a")) for n in (1, -2, 3, 4)])
    group.publish([("b", entry(1, "b")), ("c", entry(-2, "c"))])
    await group.until(lambda: group.counted("records") == 6)
    await group.stop(worker)


async def test_parked_keys_are_listed_and_shown(group: Group) -> None:
    await parked(group)
    keys = {each["key"]: each for each in await listed(group, "--parked")}
    assert {key: each["records"] for key, each in keys.items()} == {"a": 3, "c": 1}
    assert keys["a"]["head"]["error"] == "RuntimeError: cannot be booked"
    assert keys["a"]["wanted"] is False
    assert "cannot be booked" in await dlq(group, "ls", "--parked")
    shown = json.loads(await dlq(group, "show", "--parked", "a", "--json"))
    assert [each["event_id"] for each in shown] == ["a--2", "a-3", "a-4"]
    assert [each["reason"] for each in shown] == ["handler-failed"] + ["behind-parked"] * 2


async def test_a_parked_key_is_redriven_by_the_worker_and_waited_for(group: Group) -> None:
    await parked(group)
    group.start(MendedLedger())
    assert "1 done" in await dlq(group, "redrive", "--parked", "a", "--wait", "20")
    assert await group.numbers("a") == [1, -2, 3, 4]
    assert [each["key"] for each in await listed(group, "--parked")] == ["c"]
    with pytest.raises(ConfigError, match="'a' is not parked"):
        await dlq(group, "redrive", "--parked", "a")


async def test_a_parked_key_that_fails_again_is_told(group: Group) -> None:
    await parked(group)
    group.start(ParkingLedger())
    told = await dlq(group, "redrive", "--all-parked", "--yes", "--wait", "20", fails=True)
    assert "0 done, 2 failed again" in told
    assert "being redriven" not in await dlq(group, "ls", "--parked")


async def test_without_a_worker_a_redrive_stays_asked_for(group: Group) -> None:
    await parked(group)
    assert "asked for 1 parked keys" in await dlq(group, "redrive", "--parked", "a")
    assert "being redriven" in await dlq(group, "ls", "--parked")
    group.start(MendedLedger())
    await group.until_booked({"a": 4})


async def test_the_head_of_a_parked_key_or_all_of_it_can_be_dropped(group: Group) -> None:
    await parked(group)
    assert "dropped 1 parked" in await dlq(group, "drop", "--parked", "a", "--head")
    (key,) = [each for each in await listed(group, "--parked") if each["key"] == "a"]
    assert (key["records"], key["head"]["event_id"]) == (2, "a-3")
    assert "add --yes to drop 2" in await dlq(group, "drop", "--parked", "a")
    assert "dropped 2 parked" in await dlq(group, "drop", "--parked", "a", "--yes")
    group.start(MendedLedger())
    group.publish([("a", entry(5, "a"))])
    await group.until_booked({"a": 2})
    assert await group.numbers("a") == [1, 5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 970.0), ("2m", 880.0), ("0.25h", 100.0), ("1970-01-01T00:10:00+00:00", 600.0),
     ("1970-01-01T01:10:00", 4200.0), ("1970-01-02", 86_400.0)],
)  # fmt: skip
def test_times_are_ages_or_moments(text: str, expected: float) -> None:
    assert moment(text, 1_000.0) == expected


def test_what_is_no_time_is_told() -> None:
    with pytest.raises(ConfigError, match="30m, 2h or 1d"):
        moment("yesterday", 0.0)
