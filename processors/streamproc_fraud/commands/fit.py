"""`streamproc fraud fit`: the scorecard's weights, from the training period alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamproc_fraud.commands.extras import needs_extra
from streamproc_fraud.commands.options import Customers, Radius, Terminals

__all__ = ["fit"]


def fit(
    out: Annotated[Path, typer.Option(help="Write the scorecard here, as JSON.")],
    parquet: Annotated[
        Path | None, typer.Option(help="Payments to fit on. [default: the reference world]")
    ] = None,
    train_start: Annotated[int, typer.Option(help="First day of the training period.")] = 115,
    train_days: Annotated[int, typer.Option(help="Its length in days.", min=1)] = 7,
    customers: Customers = 5_000,
    terminals: Terminals = 10_000,
    radius: Radius = 5.0,
) -> None:
    """Fit the scorecard on one period; payments after it are not looked at.

    With the defaults this makes the scorecard that is shipped, from 2018-07-25 to 2018-07-31.
    """
    with needs_extra("fraud"):
        import msgspec

        from streamproc_fraud.evaluation.protocol import Weeks
        from streamproc_fraud.score.fit import fit_scorecard
        from streamproc_fraud.world import simulator
        from streamproc_fraud.world.parquet import read_parquet
    weeks = Weeks(train_start=train_start, train_days=train_days)
    if parquet is not None:
        transactions = read_parquet(parquet)
    else:
        transactions = simulator.simulate(
            simulator.World(customers=customers, terminals=terminals, radius=radius)
        )
    card = fit_scorecard(transactions, weeks)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    typer.echo(f"{out}: fitted on {card.trained_on}")
    for term in card.terms:
        typer.echo(f"  {term.weight:>12.4f}  {term.name}: {term.value}")
    typer.echo(f"  {card.bias:>12.4f}  bias; log odds x {card.slope:.4f} + {card.offset:.4f}")
