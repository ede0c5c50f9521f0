"""`streamproc demo`: a run with a kill and a reshard, held against an oracle."""

from streamproc_benchmarks.demo.command import app

__all__ = ["app"]
