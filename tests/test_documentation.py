"""What the documents say is run, or checked against the code."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import streamproc
import streamproc.testing
import streamproc.windows
from streamproc import Processor
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON
from streamproc.redis_client import connect_redis
from streamproc.settings import convert
from streamproc.state.cache import CellCache
from streamproc.state.redis_store import RedisStateStore
from streamproc.testing import Harness

ROOT = Path(__file__).parents[1]


def snippets(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


async def test_the_readmes_processor_does_what_the_readme_says() -> None:
    processor, usage = snippets("README.md", "python")
    names: dict[str, Any] = {}
    exec(processor, names)
    steps = usage.replace("from streamproc.testing import Harness\n", "").rstrip()
    body = "".join(f"    {line}\n" for line in steps.splitlines())
    exec(f"async def example():\n{body}", names | {"Harness": Harness}, names)
    await names["example"]()


async def test_the_processors_of_the_document_on_failures_do_what_it_says() -> None:
    policies, batches = snippets("docs/failures.md", "python")
    names: dict[str, Any] = {}
    exec(policies, names)
    async with Harness(names["Bank"]()) as h:
        await h.send(names["Transfer"]("t1", "a", 5), names["Transfer"]("t2", "b", 0))
        assert (h.state("bank", "a"), h.delays) == (5, [2.0, 2.0])
        assert [letter.reason for letter in h.dead_letters] == ["nothing-to-book"]
    exec(batches, names)
    async with Harness(names["Scorer"]()) as h:
        await h.send(names["Paid"]("p1", "c", 100.0), names["Paid"]("p2", "c", 50.0))
        assert h.state("scorer", "c") == 0.1


def test_the_readmes_configuration_is_understood() -> None:
    (text,) = snippets("README.md", "toml")
    config = convert(tomllib.loads(text))
    assert config.processors == {"velocity": {"use": "velocity:Velocity", "limit": 3}}


async def test_the_windows_document_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = snippets("docs/windows.md", "python")
    module: Any = ModuleType("windows_document")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # types are looked up there
    exec(code, vars(module))
    paid = module.Paid
    async with Harness(module.Spending()) as h:
        await h.send(paid("p1", "c", "shop", 500), time="2026-01-01T00:00:00Z")
        await h.send(paid("p2", "c", "bar", 700), time="2026-01-02T00:00:00Z")
        await h.restart()
        await h.send(paid("p3", "c", "bar", 300), time="2026-01-02T12:00:00Z")
        assert h.state("spending", "c").seen == [2, 1000, 500, 700, 2]


async def test_the_timers_document_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    processor, usage = snippets("docs/timers.md", "python")
    module: Any = ModuleType("timers_document")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # types are looked up there
    exec(processor, vars(module))
    body = "".join(f"    {line}\n" for line in usage.rstrip().splitlines())
    exec(f"async def example():\n{body}", vars(module))
    await module.example()


async def test_the_state_document_runs_and_its_keys_are_as_shown(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("state_document")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for code in snippets("docs/state.md", "python"):
        exec(code, vars(module))
    paid = [
        module.Paid("p1", "card-1", "7", 500),
        module.Paid("p2", "card-1", "7", 200),
    ]
    await process_in_redis(redis_url, "payments", module.Spending(), paid, "2026-01-01T12:00:00Z")
    (shown,) = [code for code in snippets("docs/state.md", "console") if "redis-cli" in code]
    commands = re.findall(r"^\$ (.*)$", shown, re.MULTILINE)
    outputs = [await redis_cli(redis_url, command) for command in commands]
    assert shown == "".join(
        f"$ {command}\n{output}\n" for command, output in zip(commands, outputs, strict=True)
    )
    assert await module.total_of(redis_url, "card-1") == 700
    later = [module.Paid("p3", "card-1", "7", 1)]
    await process_in_redis(
        redis_url, "payments", module.SpendingByCurrency(), later, "2026-01-02T12:00:00Z"
    )
    upgraded = "redis-cli HGET 'sp:{payments:0}:s:spending:card-1' d"
    assert await redis_cli(redis_url, upgraded) == '{"payments":2,"totals":{"EUR":701}}'


async def process_in_redis(
    url: str, group: str, processor: Processor[Any], events: list[Any], time: str
) -> None:
    """Process events as a worker of the group would."""
    client = connect_redis(url, 5.0)
    store = RedisStateStore(client, group, 3_600.0)
    engine = Engine(
        group=group,
        stream="s",
        routes=Routes([processor], [store.keys]),
        stores=(store,),
        cache=CellCache(1_000_000),
        gate=KeyGate(),
    )
    adopted = await store.adopt("s/shard", 1, TRIM_HORIZON)
    start = adopted.position or TRIM_HORIZON
    first = 0 if start == TRIM_HORIZON else int(start.sequence)
    made = Harness(processor)
    records = [
        msgspec.structs.replace(made.record(event, time=time), sequence_number=str(number))
        for number, event in enumerate(events, start=first + 1)
    ]
    transactor = Transactor(engine, "shard", 1, [ChainStart(start, adopted.timers)])
    await transactor.process(records)
    assert transactor.statistics.dead_letters == 0
    await store.aclose()


async def redis_cli(url: str, command: str) -> str:
    """Run a redis-cli command where it is installed, else what it would send; return its output."""
    name, *words = shlex.split(command)
    assert name == "redis-cli"
    program = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if program is not None:
        done = await asyncio.create_subprocess_exec(
            program, "-u", url, *words, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await done.communicate()
        return output.decode().rstrip("\n")
    client = connect_redis(url, 5.0)
    answer: Any = await client.execute_command(*words)
    await client.aclose()
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "deploy/README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"


def test_every_test_that_a_guarantee_names_exists() -> None:
    text = (ROOT / "docs/guarantees.md").read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = re.findall(r"`(test_\w+)`", text)
    assert len(named) > 3
    for name in named:
        assert f"def {name}(" in tests, name
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_exported_names_are_sorted_and_there() -> None:
    for module in (streamproc, streamproc.testing, streamproc.windows):
        assert list(module.__all__) == sorted(module.__all__)
        for name in module.__all__:
            assert getattr(module, name)
