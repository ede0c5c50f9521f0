"""`streamproc dlq`: dead letters and parked keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import typer

from streamproc.admin.put_aside import PutAside, open_put_aside
from streamproc.aside import LetterFilter, ParkedKey, StoredLetter
from streamproc.cli.dlq_filter import takes_filter
from streamproc.cli.dlq_tables import (
    key_view,
    letter_view,
    print_keys,
    print_kinds,
    print_letter,
    print_letters,
)
from streamproc.cli.loop import run_loop
from streamproc.cli.options import ConfigOption, JsonOption, SetOption, YesOption, settings_of
from streamproc.cli.output import print_json
from streamproc.config import Config
from streamproc.errors import ConfigError, StreamprocError
from streamproc.kinesis.client import open_kinesis

__all__ = ["app"]

app = typer.Typer(help="Dead letters and parked keys.", no_args_is_help=True)

_SHOWN_RECORDS: Final = 100

ParkedOption = Annotated[
    list[str] | None, typer.Option("--parked", help="A parked partition key; repeatable.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All dead letters; without other filters.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


@app.command("ls")
@takes_filter(limit=50)
def list_(
    wanted: LetterFilter,
    parked: Annotated[bool, typer.Option("--parked", help="Parked keys instead.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """List dead letters, oldest first, or the parked keys."""
    settings = settings_of(config, assignments)
    if parked:
        keys = run_loop(_parked(settings))[: wanted.limit]
        print_json([key_view(each) for each in keys]) if as_json else print_keys(keys)
        return
    letters = run_loop(_letters(settings, wanted))
    print_json([letter_view(each) for each in letters]) if as_json else print_letters(letters)
    if not as_json and len(letters) == wanted.limit:
        typer.echo(f"the first {wanted.limit}; --limit shows more")


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
        print_json([letter_view(each, payload=True) for each in found])
    else:
        for each in found:
            print_letter(each)


@app.command()
@takes_filter(limit=None)
def redrive(
    wanted: LetterFilter,
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
    settings = settings_of(config, assignments)
    if parked or all_parked:
        _no_mixture(wanted, everything)
        run_loop(_redrive_parked(settings, parked, wait, _Doing(dry_run, yes, as_json)))
        return
    _some_filter(wanted, everything)
    run_loop(_redrive(settings, wanted, _Doing(dry_run, yes, as_json)))


@app.command()
@takes_filter(limit=None)
def drop(
    wanted: LetterFilter,
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
        print_keys(parked)
    elif not parked:
        doing.tell("", 0, 0)
    return parked


def _plan(letters: Sequence[StoredLetter], doing: _Doing) -> None:
    """Show what kinds of letters are meant."""
    if doing.as_json:
        if not letters:
            doing.tell("", 0, 0)
    elif letters:
        print_kinds(letters)
    else:
        typer.echo("no dead letter is meant")


def _some_filter(wanted: LetterFilter, everything: bool) -> None:
    if (wanted == LetterFilter(limit=wanted.limit)) != everything:
        raise ConfigError(
            "say which dead letters: filters such as --reason or --id, or --all; not both"
        )


def _no_mixture(wanted: LetterFilter, everything: bool) -> None:
    if wanted != LetterFilter() or everything:
        raise ConfigError("filters are about dead letters; parked keys are named by --parked")
