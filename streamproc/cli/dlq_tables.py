"""How dead letters and parked keys are shown, to people and to programs.

Their texts come from events: no markup of theirs counts, and no control character of theirs
reaches the terminal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamproc.aside import ParkedKey, StoredLetter
from streamproc.deadletter import DeadLetter

__all__ = ["key_view", "letter_view", "print_keys", "print_kinds", "print_letter", "print_letters"]

_ERROR_WIDTH: Final = 60
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def letter_view(stored: StoredLetter, *, payload: bool = False) -> dict[str, Any]:
    """Return what is printed of a dead letter as JSON."""
    facts = {"id": stored.id} | stored.letter.facts()
    return facts | ({"payload_base64": stored.letter.data} if payload else {})


def key_view(parked: ParkedKey) -> dict[str, Any]:
    """Return what is printed of a parked key as JSON."""
    return {
        "key": parked.key,
        "partition": parked.partition,
        "records": parked.records,
        "wanted": parked.wanted,
        "head": parked.head.facts(),
    }


def print_letters(letters: Sequence[StoredLetter]) -> None:
    """Print a line for each dead letter."""
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


def print_kinds(letters: Sequence[StoredLetter]) -> None:
    """Print how many dead letters there are of each kind."""
    kinds = Counter(
        (each.letter.reason, each.letter.event_type, each.letter.handler) for each in letters
    )
    table = Table("letters", "reason", "type", "handler", box=None)
    for (reason, event_type, handler), count in kinds.most_common():
        _add(table, str(count), reason, event_type, handler)
    Console().print(table)


def print_keys(keys: Sequence[ParkedKey]) -> None:
    """Print a line for each parked key."""
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


def print_letter(stored: StoredLetter) -> None:
    """Print all that is known of a dead letter, its payload last."""
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
