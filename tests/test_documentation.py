"""What the documents say is run, or checked against the code."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import streamproc
import streamproc.testing
import streamproc.windows
from streamproc.settings import convert
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
