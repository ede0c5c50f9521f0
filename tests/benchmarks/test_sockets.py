"""Sockets lie where the system takes the length of their paths."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from streamproc_benchmarks.sockets import socket_directory


def test_a_long_directory_for_temporary_files_holds_no_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with (
        tempfile.TemporaryDirectory(prefix="streamproc-bench-", dir=socket_directory()) as made,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{made}/worker-12.sock")


def test_a_short_one_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    assert socket_directory() == "/var/tmp"
