"""`streamproc dlq`: dead letters and parked keys."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamproc.admin.put_aside import PutAside, open_put_aside
from streamproc.aside import LetterFilter, ParkedKey, StoredLetter
from streamproc.cli.loop import run_loop
from streamproc.cli.options import ConfigOption, JsonOption, SetOption, YesOption, settings_of
from streamproc.cli.output import print_json
from streamproc.config import Config
from streamproc.deadletter import DeadLetter
from streamproc.errors import ConfigError, StreamprocError
from streamproc.kinesis.client import open_kinesis

__all__ = ["app", "moment"]

app = typer.Typer(help="Dead letters and parked keys.", no_args_is_help=True)

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SHOWN_RECORDS: Final = 100
_ERROR_WIDTH: Final = 60
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

ReasonOption = Annotated[str | None, typer.Option("--reason", help="Such as bad-json.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Event type.")]
ShardOption = Annotated[str | None, typer.Option("--shard", help="Shard id, or the end of one.")]
HandlerOption = Annotated[
    str | None, typer.Option("--handler", help="processor.method, or the processor.")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Put aside then or later: 30m, 2h, 1d or ISO 8601.")
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Put aside then or earlier.")]
IdOption = Annotated[
    list[str] | None, typer.Option("--id", help="Of a letter or of an event; repeatable.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="At most so many.", min=1)]
ParkedOption = Annotated[
    list[str] | None, typer.Option("--parked", help="A parked partition key; repeatable.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All dead letters; without other filters.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


@app.command("ls")
def list_(
    reason: ReasonOption = None,
    type_: TypeOption = None,
    shard: ShardOption = None,
    handler: HandlerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    ids: IdOption = None,
    limit: LimitOption = 50,
    parked: Annotated[bool, typer.Option("--parked", help="Parked keys instead.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """List dead letters, oldest first, or the parked keys."""
    wanted = _filter(reason, type_, shard, handler, since, until, ids, limit)
    settings = settings_of(config, assignments)
    if parked:
        keys = run_loop(_parked(settings))[:limit]
        print_json([_key_view(each) for each in keys]) if as_json else _print_keys(keys)
        return
    letters = run_loop(_letters(settings, wanted))
    print_json([_view(each) for each in letters]) if as_json else _print_letters(letters)
    if not as_json and len(letters) == limit:
        typer.echo(f"the first {limit}; --limit shows more")


@app.command()
def show(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="Of a letter or event.")] = None,
    parked: Annotated[str | None, typer.Option("--parked", help="A parked partition key.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the payload alone, byte for byte.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Show all that is known of a dead letter, or of what is parked under a key, with payloads."""
    settings = settings_of(config, assignments)
    if (id_ is None) == (parked is None):
        raise ConfigError("name a dead letter, or a parked key with --parked; not both")
    if parked is not None:
        found = run_loop(_parked_records(settings, parked))
    else:
        found = run_loop(_letters(settings, LetterFilter(ids=frozenset([id_ or ""]))))
    if not found:
        raise ConfigError(
            f"nothing is put aside as {id_ or parked}; `streamproc dlq ls` lists dead letters, "
            "with --parked the parked keys"
        )
    if raw:
        if len(found) > 1:
            raise ConfigError(f"--raw writes one payload, and there are {len(found)}")
        sys.stdout.buffer.write(found[0].letter.data)
    elif as_json:
        print_json([_view(each, payload=True) for each in found])
    else:
        for each in found:
            _print_letter(each)


@app.command()
def redrive(
    reason: ReasonOption = None,
    type_: TypeOption = None,
    shard: ShardOption = None,
    handler: HandlerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    ids: IdOption = None,
    limit: LimitOption = None,
    everything: AllOption = False,
    parked: ParkedOption = None,
    all_parked: Annotated[bool, typer.Option("--all-parked", help="Every parked key.")] = False,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait for parked keys to be done.", min=0)
    ] = 0.0,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Put dead letters back into the stream; have parked keys processed by their owner.

    A dead letter's payload is put back as it was, under its partition key, and then removed here.
    A parked key is processed where it lies, in order, by a running worker.
    """
    wanted = _filter(reason, type_, shard, handler, since, until, ids, limit)
    settings = settings_of(config, assignments)
    if parked or all_parked:
        _no_mixture(wanted, everything)
        run_loop(_redrive_parked(settings, parked, wait, _Doing(dry_run, yes, as_json)))
        return
    _some_filter(wanted, everything)
    run_loop(_redrive(settings, wanted, _Doing(dry_run, yes, as_json)))


@app.command()
def drop(
    reason: ReasonOption = None,
    type_: TypeOption = None,
    shard: ShardOption = None,
    handler: HandlerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    ids: IdOption = None,
    limit: LimitOption = None,
    everything: AllOption = False,
    parked: ParkedOption = None,
    head: Annotated[
        bool, typer.Option("--head", help="Of a parked key the oldest record only.")
    ] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Drop dead letters, or what is parked under a key, for good.

    A parked key whose records are dropped is parked no more: later records of it are processed.
    """
    wanted = _filter(reason, type_, shard, handler, since, until, ids, limit)
    settings = settings_of(config, assignments)
    doing = _Doing(dry_run, yes, as_json)
    if parked:
        _no_mixture(wanted, everything)
        run_loop(_drop_parked(settings, parked, head, doing))
        return
    if head:
        raise ConfigError("--head is about a parked key; name it with --parked")
    _some_filter(wanted, everything)
    run_loop(_drop(settings, wanted, doing))


class _Doing(msgspec.Struct, frozen=True):
    """Whether to do it, and how to tell."""

    dry_run: bool
    yes: bool
    as_json: bool

    def may(self, count: int, what: str) -> bool:
        """Whether to go on: one thing needs no --yes, several do."""
        if self.dry_run:
            self.tell(f"would {what}", count, 0)
        elif count > 1 and not self.yes:
            self.tell(f"add --yes to {what}", count, 0)
        else:
            return True
        return False

    def tell(self, text: str, matched: int, done: int, **more: Any) -> None:
        if self.as_json:
            print_json({"matched": matched, "done": done, **more})
        else:
            typer.echo(text)


async def _letters(config: Config, wanted: LetterFilter) -> list[StoredLetter]:
    async with open_put_aside(config) as aside:
        return await aside.letters(wanted)


async def _parked(config: Config) -> list[ParkedKey]:
    async with open_put_aside(config) as aside:
        return await aside.parked()


async def _parked_records(config: Config, key: str) -> list[StoredLetter]:
    async with open_put_aside(config) as aside:
        found: list[StoredLetter] = []
        for parked in await aside.parked([key]):
            found += await aside.records(parked, _SHOWN_RECORDS)
        return found


async def _redrive(config: Config, wanted: LetterFilter, doing: _Doing) -> None:
    async with open_put_aside(config) as aside:
        letters = await aside.letters(wanted)
        _plan(letters, doing)
        if not letters or not doing.may(len(letters), f"redrive {len(letters)} dead letters"):
            return
        async with open_kinesis(config.stream) as kinesis:
            count = await aside.put_back(letters, kinesis)
    doing.tell(f"put back {count} of {len(letters)} dead letters", len(letters), count)
    if count < len(letters):
        raise StreamprocError(
            f"Kinesis did not take {len(letters) - count} dead letters; they stay where they are: "
            "run the command again, and look at their size if it happens again"
        )


async def _redrive_parked(
    config: Config, keys: Sequence[str] | None, wait: float, doing: _Doing
) -> None:
    async with open_put_aside(config) as aside:
        parked = await _chosen(aside, keys, doing)
        if not parked or not doing.may(len(parked), f"redrive {len(parked)} parked keys"):
            return
        await aside.want(parked)
        told = f"asked for {len(parked)} parked keys; the workers process them from now on"
        if not wait:
            doing.tell(told, len(parked), len(parked))
            return
        waited = await aside.wait(parked, wait)
        doing.tell(
            f"{len(waited.done)} done, {len(waited.failed)} failed again and stay parked, "
            f"{len(waited.pending)} not done yet",
            len(parked),
            len(waited.done),
            failed=waited.failed,
            pending=waited.pending,
        )
        if waited.failed or waited.pending:
            raise typer.Exit(1)


async def _drop(config: Config, wanted: LetterFilter, doing: _Doing) -> None:
    async with open_put_aside(config) as aside:
        letters = await aside.letters(wanted)
        _plan(letters, doing)
        if letters and doing.may(len(letters), f"drop {len(letters)} dead letters"):
            await aside.remove(letters)
            doing.tell(f"dropped {len(letters)} dead letters", len(letters), len(letters))


async def _drop_parked(config: Config, keys: Sequence[str], head: bool, doing: _Doing) -> None:
    async with open_put_aside(config) as aside:
        parked = await _chosen(aside, keys, doing)
        records = len(parked) if head else sum(each.records for each in parked)
        if parked and doing.may(records, f"drop {records} parked records"):
            dropped = sum([await aside.drop(each, head_only=head) for each in parked])
            doing.tell(f"dropped {dropped} parked records", records, dropped)


async def _chosen(aside: PutAside, keys: Sequence[str] | None, doing: _Doing) -> list[ParkedKey]:
    parked = await aside.parked(keys)
    for key in set(keys or ()) - {each.key for each in parked}:
        raise ConfigError(f"{key!r} is not parked; `streamproc dlq ls --parked` lists what is")
    if not doing.as_json:
        _print_keys(parked)
    elif not parked:
        doing.tell("", 0, 0)
    return parked


def _plan(letters: Sequence[StoredLetter], doing: _Doing) -> None:
    """Show what kinds of letters are meant."""
    if doing.as_json:
        if not letters:
            doing.tell("", 0, 0)
        return
    if not letters:
        typer.echo("no dead letter is meant")
        return
    kinds = Counter(
        (each.letter.reason, each.letter.event_type, each.letter.handler) for each in letters
    )
    table = Table("letters", "reason", "type", "handler", box=None)
    for (reason, event_type, handler), count in kinds.most_common():
        _add(table, str(count), reason, event_type, handler)
    Console().print(table)


def _some_filter(wanted: LetterFilter, everything: bool) -> None:
    if (wanted == LetterFilter(limit=wanted.limit)) != everything:
        raise ConfigError(
            "say which dead letters: filters such as --reason or --id, or --all; not both"
        )


def _no_mixture(wanted: LetterFilter, everything: bool) -> None:
    if wanted != LetterFilter() or everything:
        raise ConfigError("filters are about dead letters; parked keys are named by --parked")


def _filter(
    reason: str | None,
    type_: str | None,
    shard: str | None,
    handler: str | None,
    since: str | None,
    until: str | None,
    ids: Sequence[str] | None,
    limit: int | None,
) -> LetterFilter:
    return LetterFilter(
        reason=reason,
        type=type_,
        shard=shard,
        handler=handler,
        since=None if since is None else moment(since, time.time()),
        until=None if until is None else moment(until, time.time()),
        ids=frozenset(ids or ()),
        limit=limit,
    )


def moment(text: str, now: float) -> float:
    """Return the time that a text means, in seconds since the epoch.

    Args:
        text: an age such as ``30m``, ``2h`` or ``1d``, or ISO 8601; UTC without an offset.
        now: seconds since the epoch.

    Raises:
        ConfigError: it is neither.
    """
    age = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if age is not None:
        return now - float(age[1]) * _UNITS[age[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no time; write an age such as 30m, 2h or 1d, or ISO 8601"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _view(stored: StoredLetter, *, payload: bool = False) -> dict[str, Any]:
    facts = {"id": stored.id} | stored.letter.facts()
    return facts | ({"payload_base64": stored.letter.data} if payload else {})


def _key_view(parked: ParkedKey) -> dict[str, Any]:
    return {
        "key": parked.key,
        "partition": parked.partition,
        "records": parked.records,
        "wanted": parked.wanted,
        "head": parked.head.facts(),
    }


def _print_letters(letters: Sequence[StoredLetter]) -> None:
    table = Table("id", "put aside", "reason", "type", "event", "shard", "key", "tries", "handler",
                  "error", box=None)  # fmt: skip
    for stored in letters:
        letter = stored.letter
        _add(
            table,
            stored.id,
            _time(stored.put_aside),
            letter.reason,
            letter.event_type,
            letter.event_id,
            letter.shard.removeprefix("shardId-").lstrip("0") or "0",
            letter.partition_key,
            str(letter.attempts),
            letter.handler,
            _short(letter.error),
        )
    Console().print(table)


def _print_keys(keys: Sequence[ParkedKey]) -> None:
    table = Table("key", "records", "since", "reason", "type", "tries", "handler", "error", "",
                  box=None)  # fmt: skip
    for parked in keys:
        head = parked.head
        _add(
            table,
            parked.key,
            str(parked.records),
            _time(head.arrival),
            head.reason,
            head.event_type,
            str(head.attempts),
            head.handler,
            _short(head.error),
            "being redriven" if parked.wanted else "",
        )
    Console().print(table)


def _print_letter(stored: StoredLetter) -> None:
    letter = stored.letter
    table = Table(box=None, show_header=False)
    _add(table, "id", stored.id)
    for name, value in letter.facts().items():
        if name not in ("traceback", "arrival") and value not in ("", 0):
            _add(table, name.replace("_", " "), str(value))
    _add(table, "arrival", _time(letter.arrival))
    Console().print(table)
    if letter.traceback:
        typer.echo(_plain(f"\n{letter.traceback.rstrip()}"))
    typer.echo(_plain(f"\npayload, {len(letter.data)} bytes:\n{_payload(letter)}\n"))


def _payload(letter: DeadLetter) -> str:
    try:
        return msgspec.json.format(letter.data, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeError):
        return letter.data.decode(errors="backslashreplace")


def _add(table: Table, *texts: str) -> None:
    """Add a row of texts that come from events: no markup, nothing for the terminal to obey."""
    table.add_row(*[Text(_plain(text)) for text in texts])


def _plain(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds").removesuffix("+00:00")


def _short(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _ERROR_WIDTH else f"{line[: _ERROR_WIDTH - 1]}…"
