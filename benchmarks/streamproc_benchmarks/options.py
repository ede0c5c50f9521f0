"""Options that several benchmark commands share, and what is checked before measuring."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streamproc.cli.options import overrides_of
from streamproc.errors import ConfigError

if TYPE_CHECKING:
    from streamproc_benchmarks.consumer import ConsumerName
    from streamproc_benchmarks.peers.installation import PeerName

__all__ = [
    "AgainstOption",
    "BarsOption",
    "ConsumerOption",
    "JsonOption",
    "LimitOption",
    "OutOption",
    "RateOption",
    "RecordsOption",
    "RoundsOption",
    "SecondsOption",
    "SeedOption",
    "ShardsOption",
    "WarmUpOption",
    "checked_settings",
    "chosen",
    "chosen_consumers",
    "chosen_peers",
    "say",
]

ConsumerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--consumer",
        help="plain, typed, leased, noop, fraud or inventory; repeatable. All by default.",
    ),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        help="Peers to take turns with, separated by commas: aiobotocore (the consumer plain), "
        "async-kinesis, kcl (needs a JDK). What is missing is downloaded into the user's cache."
    ),
]
RoundsOption = Annotated[int, typer.Option(help="Rounds; consumers take turns.", min=1)]
ShardsOption = Annotated[int, typer.Option(help="Shards of each stream.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Seed of the events.")]
LimitOption = Annotated[float, typer.Option(help="Seconds that one run may take.", min=0.1)]
RecordsOption = Annotated[int, typer.Option(help="Records to read in each run.", min=1)]
RateOption = Annotated[
    float | None,
    typer.Option(
        help="Records a second to offer. [default: half of what each consumer can do]",
        min=1,
        show_default=False,
    ),
]
SecondsOption = Annotated[float, typer.Option(help="Seconds to offer them for.", min=0.1)]
WarmUpOption = Annotated[
    float, typer.Option(help="Seconds at the start that percentiles leave out.", min=0)
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write the report to this directory: JSON and a page.")
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the report's JSON here.")]
BarsOption = Annotated[
    bool,
    typer.Option("--bars/--no-bars", help="Exit with 1 if a bar is missed, or only show the bars."),
]

N = TypeVar("N", bound=str)

# What people know it by; as a consumer of ours it is called plain.
_AIOBOTOCORE = "aiobotocore"


def chosen_consumers(given: list[str] | None) -> list[ConsumerName]:
    """Return the consumers to run, in their own order.

    Raises:
        ConfigError: there is none of such a name.
    """
    from streamproc_benchmarks.consumer import CONSUMERS

    return chosen("--consumer", given, CONSUMERS)


def chosen(option: str, given: Iterable[str] | None, known: Collection[N]) -> list[N]:
    """Return what was named of what there is, in the order of that; all of it if nothing was.

    Raises:
        ConfigError: there is none of such a name.
    """
    names = list(given or ())
    for name in names:
        if name not in known:
            raise ConfigError(f"{option} {name}: there are {', '.join(known)}")
    return [name for name in known if not names or name in names]


def checked_settings(assignments: list[str] | None) -> dict[str, Any]:
    """Return the workers' settings that differ from the defaults.

    Raises:
        ConfigError: one is wrong; found here, before streams are filled for workers that will not
            start.
    """
    from streamproc.settings import load_config

    settings = overrides_of(assignments)
    load_config(None, {}, settings)
    return settings


def chosen_peers(
    against: str | None, consumers: list[ConsumerName]
) -> tuple[list[PeerName], list[ConsumerName]]:
    """Return the peers to run, and the consumers with `plain` if it was asked for as aiobotocore.

    Raises:
        ConfigError: there is none of such a name.
    """
    from streamproc_benchmarks.consumer import CONSUMERS
    from streamproc_benchmarks.peers.installation import PEERS

    asked = [name.strip() for name in (against or "").split(",") if name.strip()]
    known = (_AIOBOTOCORE, *PEERS)
    for name in asked:
        if name not in known:
            raise ConfigError(f"--against {name}: there are {', '.join(known)}")
    wanted = {*consumers, "plain"} if _AIOBOTOCORE in asked else {*consumers}
    return (
        [name for name in PEERS if name in asked],
        [name for name in CONSUMERS if name in wanted],
    )


def say(text: str) -> None:
    """Tell on stderr what is being done."""
    typer.echo(text, err=True)
