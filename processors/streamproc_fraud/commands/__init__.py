"""`streamproc fraud`: simulate, fit, evaluate, and work on rules."""

from __future__ import annotations

import typer

from streamproc_fraud.commands import evaluate, fit, rules, simulate

__all__ = ["app"]

app = typer.Typer(help="The fraud processor's tools.", no_args_is_help=True)
app.command("simulate")(simulate.simulate)
app.command("fit")(fit.fit)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(rules.app, name="rules")
