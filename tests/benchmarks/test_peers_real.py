"""The real peers, installed and run by the command; `make peers` runs this, CI does not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.running import run

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("STREAMPROC_PEERS") != "1",
        reason="downloads packages and takes minutes; run: make peers",
    ),
]
RECORDS = 60_000


def test_real_peers_read_the_whole_stream_beside_us(tmp_path: Path) -> None:
    against = ["async-kinesis"]
    if shutil.which("java") and shutil.which("javac"):
        against.append("kcl")
    path = tmp_path / "report.json"
    done = run(
        *("throughput", "--records", str(RECORDS), "--rounds", "2", "--no-bars"),
        *("--consumer", "leased", "--against", ",".join(against), "--json", str(path)),
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(path.read_text())["result"]
    assert found["not_run"] == {}
    assert list(found["rounds"]) == ["leased", *against]
    for peer in against:
        assert found["peers"][peer]
        for one in found["rounds"][peer]:
            assert (one["lost"], one["duplicated"], one["unknown"]) == (0, 0, 0)
            assert 0.3 * RECORDS < one["records"] <= 0.9 * RECORDS
            # Faster than any of them can be; slower than any machine would make them.
            assert 1 < one["cpu_us_per_record"] < 1_000
