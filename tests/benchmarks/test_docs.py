"""docs/benchmarks.md names every command, and the bars as they are judged."""

from __future__ import annotations

import re
from pathlib import Path

from streamproc_benchmarks.command import app
from streamproc_benchmarks.throughput import RATIOS

TEXT = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()


def test_every_command_is_there_and_none_that_does_not_exist() -> None:
    commands = {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback is not None
    }
    assert set(re.findall(r"^\$ streamproc bench ([a-z]+)", TEXT, re.MULTILINE)) == commands


def test_the_bars_of_throughput_are_those_that_are_judged() -> None:
    for ratio in RATIOS:
        judged = ["judged" if clock in ratio.clocks else "" for clock in ("wall", "cpu")]
        row = f"| {ratio.what} | >= {ratio.least:g} | {' | '.join(judged)} |"
        assert row.replace("|  |", "| |") in TEXT
