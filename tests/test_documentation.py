"""What the documents say is run, or checked against the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import streamproc
import streamproc.testing
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
    for module in (streamproc, streamproc.testing):
        assert list(module.__all__) == sorted(module.__all__)
        for name in module.__all__:
            assert getattr(module, name)
