"""The command without its entry point: `python -m streamproc_benchmarks.demo`."""

from streamproc_benchmarks.demo.command import app

app(prog_name="streamproc demo")
