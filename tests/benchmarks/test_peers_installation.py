"""Peers are installed on demand, once, elsewhere; and what fails is a reason, not a crash."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import streamproc_benchmarks
from streamproc_benchmarks.peers.installation import Finished, Installer, Unavailable, run_command
from tests.waiting import until

PROGRAMS = {"uv": "/tools/uv", "java": "/jdk/java", "javac": "/jdk/javac"}


def leave_behind(call: list[str]) -> None:
    """Make what the real program would, as far as it is looked for."""
    if "venv" in call:
        jars = Path(call[-1]) / "lib" / "python3" / "site-packages" / "amazon_kclpy" / "jars"
        jars.mkdir(parents=True)
    if call[0] == PROGRAMS["javac"]:
        Path(call[call.index("-d") + 1]).mkdir()


def make_old(cache: Path) -> Path:
    """Have the one environment hold another version; return a file that it left behind."""
    (marker,) = cache.glob("*/complete")
    marker.write_text("async-kinesis==2.0")
    left_behind = marker.with_name("old")
    left_behind.touch()
    return left_behind


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*")}


class Machine:
    """Programs that are there, what they were called with, and what they do."""

    def __init__(self, cache: Path, *missing: str) -> None:
        self.calls: list[list[str]] = []
        self.said: list[str] = []
        self.failing: dict[str, str] = {}
        programs = {name: path for name, path in PROGRAMS.items() if name not in missing}
        self._which: Callable[[str], str | None] = programs.get
        self.cache = cache

    def installer(self) -> Installer:
        return Installer(self.said.append, cache=self.cache, run=self.run, which=self._which)

    async def run(self, command: Sequence[str]) -> Finished:
        call = list(command)
        self.calls.append(call)
        for word, output in self.failing.items():
            if any(word in argument for argument in call):
                return Finished(2, output)
        leave_behind(call)
        return Finished(0, 'openjdk version "17.0.15" 2025-04-15\nmore\n')

    def ran(self, word: str) -> int:
        return sum(any(word in argument for argument in call) for call in self.calls)


async def test_async_kinesis_gets_an_environment_of_its_own_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    first = await machine.installer().prepare("async-kinesis")
    assert first.dynamodb is None
    assert first.described == "async-kinesis 3.0.1"
    interpreter, script = first.command
    assert Path(interpreter).is_relative_to(tmp_path)
    assert interpreter != sys.executable
    assert Path(script).name in names_in(Path(streamproc_benchmarks.__file__).parent)
    (said,) = machine.said
    assert "async-kinesis==3.0.1" in said
    assert "MB" in said
    assert str(tmp_path) in said
    calls = len(machine.calls)
    assert await machine.installer().prepare("async-kinesis") == first
    assert len(machine.calls) == calls, "it was there"
    assert machine.said == [said], "nothing was downloaded"


async def test_without_uv_pip_installs(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "uv")
    await machine.installer().prepare("async-kinesis")
    make, install = machine.calls
    assert make[:3] == [sys.executable, "-m", "venv"]
    assert install[1:4] == ["-m", "pip", "install"]
    assert Path(install[0]).is_relative_to(tmp_path)


async def test_kcls_record_processor_is_compiled_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    first = await machine.installer().prepare("kcl")
    assert first.command[0] == PROGRAMS["java"]
    assert first.command[-1] == "KclPeer"
    assert first.dynamodb is not None
    assert Path(first.dynamodb).is_relative_to(tmp_path)
    assert 'openjdk version "17.0.15" 2025-04-15' in first.described
    assert "kclpy-ext 3.1.3.post4" in first.described
    assert await machine.installer().prepare("kcl") == first
    assert machine.ran("KclPeer.java") == 1
    assert machine.ran("kclpy-ext==3.1.3.post4") == 1
    assert machine.ran("ministack==1.5.33") == 1


@pytest.mark.parametrize("program", ["java", "javac"])
async def test_without_a_jdk_nothing_is_downloaded(tmp_path: Path, program: str) -> None:
    machine = Machine(tmp_path, program)
    with pytest.raises(Unavailable, match=f"^{program} is not on PATH"):
        await machine.installer().prepare("kcl")
    assert machine.calls == []


async def test_a_failed_installation_is_a_reason_and_tried_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.failing["async-kinesis=="] = "no route to\n  https://user:secret@index.example/simple"
    with pytest.raises(
        Unavailable, match=r"installing async-kinesis.* failed with code 2"
    ) as found:
        await machine.installer().prepare("async-kinesis")
    assert "no route to" in str(found.value)
    assert "secret" not in str(found.value)
    machine.failing.clear()
    await machine.installer().prepare("async-kinesis")
    assert machine.ran("async-kinesis==") == 2


async def test_a_compiler_that_fails_is_a_reason_and_leaves_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.failing["KclPeer.java"] = "error: release version 16 not supported"
    with pytest.raises(Unavailable, match=r"javac failed .*release version 16 not supported"):
        await machine.installer().prepare("kcl")
    assert not any(name.startswith("classes-") for name in names_in(tmp_path))


async def test_an_environment_with_other_versions_is_made_anew(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.installer().prepare("async-kinesis")
    left_behind = make_old(tmp_path)
    await machine.installer().prepare("async-kinesis")
    assert left_behind.name not in names_in(tmp_path)
    assert machine.ran("async-kinesis==") == 2


async def test_a_cache_that_cannot_be_written_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    machine = Machine(tmp_path / "file")
    with pytest.raises(Unavailable, match="Error"):
        await machine.installer().prepare("async-kinesis")


async def test_commands_tell_their_code_and_both_outputs() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    finished = await run_command([sys.executable, "-c", script])
    assert finished.code == 3
    assert sorted(finished.output.split()) == ["err", "out"]
    with pytest.raises(OSError, match="no-such-program"):
        await run_command(["streamproc-no-such-program"])


@pytest.mark.process
async def test_a_program_ends_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    running = asyncio.create_task(run_command([sys.executable, "-c", script]))
    await until(lambda: file.exists() and file.read_text())
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
