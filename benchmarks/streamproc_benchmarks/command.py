"""`streamproc bench`: measure this machine, against the usual ways to read Kinesis.

What runs a benchmark is imported when it is asked for: `streamproc --help` loads this.
"""

from __future__ import annotations

import typer

from streamproc_benchmarks.commands.compare import compare
from streamproc_benchmarks.commands.dedupe import dedupe
from streamproc_benchmarks.commands.idle import idle
from streamproc_benchmarks.commands.latency import latency
from streamproc_benchmarks.commands.quick import quick
from streamproc_benchmarks.commands.recovery import recovery
from streamproc_benchmarks.commands.scaling import scaling
from streamproc_benchmarks.commands.soak import soak
from streamproc_benchmarks.commands.steps import codec, windows
from streamproc_benchmarks.commands.throughput import throughput

__all__ = ["app"]

app = typer.Typer(
    name="bench",
    help="Measure throughput and latency on this machine, beside a plain aiobotocore loop.",
    invoke_without_command=True,
)
app.callback()(quick)
app.command()(throughput)
app.command()(latency)
app.command()(recovery)
app.command()(soak)
app.command()(idle)
app.command()(scaling)
app.command()(dedupe)
app.command()(codec)
app.command()(windows)
app.command()(compare)
