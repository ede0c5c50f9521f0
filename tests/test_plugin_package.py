"""A plugin in a package of its own: built, installed, found by its entry point, and run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamproc import ConfigError, ProcessorError
from streamproc.plugins import load_processors

FILES = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-doorbell"
version = "1.2.3"
requires-python = ">=3.11"
dependencies = ["streamproc"]

[project.entry-points."streamproc.processors"]
doorbell = "acme_doorbell:Doorbell"
broken = "acme_doorbell:Nothing"

[tool.hatch.build.targets.wheel]
packages = ["acme_doorbell"]
""",
    "acme_doorbell/__init__.py": '''
"""Counts rings."""

from streamproc import Context, Event, Processor, on


class Rung(Event, type="Rung", id="ring_id"):
    ring_id: str
    door: str


class Doorbell(Processor[int]):
    """Count the rings of each door."""

    def __init__(self, step: int = 1) -> None:
        self.step = step

    @on(Rung, key="door")
    def ring(self, event: Rung, ctx: Context[int]) -> None:
        ctx.state += self.step
''',
    "use.py": """
import asyncio

from acme_doorbell import Rung
from streamproc import ConfigError
from streamproc.plugins import load_processors
from streamproc.testing import Harness

async def main():
    (doorbell,) = load_processors({"doorbell": {"step": 5}})
    async with Harness(doorbell) as h:
        await h.send(Rung("r1", "front"), Rung("r2", "front"), Rung("r2", "front"))
        print(doorbell.name, h.state("doorbell", "front"))
    for tables in ({"doorbel": {}}, {"doorbell": {"stp": 1}}, {"broken": {}}):
        try:
            load_processors(tables)
        except ConfigError as error:
            print(error)

asyncio.run(main())
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package and install it into a directory of its own, from what is here only."""
    source = tmp_path_factory.mktemp("source")
    for name, text in FILES.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    target = tmp_path_factory.mktemp("target")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--no-compile", "--disable-pip-version-check", "--target", str(target),
        str(source),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (target / "use.py").write_text(FILES["use.py"])
    return target


def test_an_installed_plugin_is_found_configured_and_run(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "use.py"],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counted, misspelt, wrong_setting, missing = done.stdout.splitlines()
    assert counted == "doorbell 10"
    assert "did you mean 'doorbell'?" in misspelt
    assert "processors.doorbell" in wrong_setting
    assert "settings it takes: step" in wrong_setting
    assert "broken (acme_doorbell:Nothing) cannot be loaded" in missing


def test_the_shipped_processors_are_plugins_like_any_other() -> None:
    fraud, inventory = load_processors(
        {"fraud": {"constants": {"velocity_limit": 7}}, "inventory": {}}
    )
    assert (fraud.name, inventory.name) == ("fraud", "inventory")
    rules = fraud.live.in_force.decider.checked.source  # type: ignore[attr-defined]
    assert rules.constants["velocity_limit"] == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_module", r"No module named 'no_such_module' \(\S+/mine\.py, line 2\)"),
        ("raise ValueError('boom')", r"ValueError: boom \(\S+/mine\.py, line 2\)"),
        ("x = (", r"SyntaxError: '\(' was never closed \(mine\.py, line 2\)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    (tmp_path / "mine.py").write_text(f"\n{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(ConfigError, match=f"^processors.x: mine:X cannot be imported: .*{told}$"):
        load_processors({"x": {"use": "mine:X"}})


def test_a_class_may_be_named_instead_of_an_entry_point() -> None:
    (mine,) = load_processors({"mine": {"use": "streamproc_fraud:FraudProcessor"}})
    assert mine.name == "fraud"


@pytest.mark.parametrize(
    ("tables", "error", "message"),
    [
        ({}, ConfigError, r"no processor is configured; .*\[processors\.fraud\]"),
        ({"x": {"use": "json"}}, ConfigError, 'write "module:Class"'),
        ({"x": {"use": "json:Nope"}}, ConfigError, "json:Nope cannot be imported"),
        ({"x": {"use": "no_such_module:X"}}, ConfigError, "no_such_module"),
        ({"x": {"use": "json:dumps"}}, ProcessorError, "is no subclass of streamproc.Processor"),
        ({"fraud": {"velocty": 1}}, ConfigError, "settings it takes: rules, constants, "),
        ({"fraud": {"precision": "high"}}, ConfigError, 'write "exact" or "bucketed"'),
    ],
)
def test_mistakes_in_a_processor_table_are_told(
    tables: dict[str, dict[str, object]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_processors(tables)
