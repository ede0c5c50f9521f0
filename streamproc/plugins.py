"""Finds what plugins provide, by entry point or by ``module:name``."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from streamproc.errors import ConfigError, ProcessorError
from streamproc.processor import Processor

__all__ = ["find_plugin", "load_processors"]


def find_plugin(group: str, name: str) -> Any:
    """Return the object that is registered as `name` in an entry-point group.

    Raises:
        ConfigError: no such name, or its package cannot be imported.
    """
    known: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=group)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(sorted(known))}"
        raise ConfigError(f"nothing named {name!r} is registered under {group}; {hint}")
    try:
        return known[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{group}: {name} ({known[name].value}) cannot be loaded: {error}"
        ) from error


def load_processors(tables: Mapping[str, Mapping[str, Any]]) -> list[Processor[Any]]:
    """Make the processors of the `[processors.*]` tables, in their order.

    A table's name is an entry point's; with ``use = "module:Class"`` it is any name, and the class
    is imported, also from the working directory. Every other key is a constructor argument.

    Raises:
        ConfigError: a processor is not found, or its settings do not fit its constructor.
        ProcessorError: its module is no processor.
    """
    if not tables:
        raise ConfigError(
            "no processor is configured; add a table such as [processors.fraud] to the "
            "configuration"
        )
    return [_load(name, dict(table)) for name, table in tables.items()]


def _load(name: str, arguments: dict[str, Any]) -> Processor[Any]:
    where = arguments.pop("use", None)
    cls = find_plugin("streamproc.processors", name) if where is None else _import(name, where)
    if not (inspect.isclass(cls) and issubclass(cls, Processor)):
        raise ProcessorError(f"processors.{name}: {cls!r} is no subclass of streamproc.Processor")
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        accepted = ", ".join(inspect.signature(cls).parameters) or "none"
        raise ConfigError(f"processors.{name}: {error}; settings it takes: {accepted}") from None
    processor: Processor[Any] = cls(**arguments)
    return processor


def _import(name: str, where: Any) -> Any:
    module_name, colon, attribute = str(where).partition(":")
    if not colon:
        raise ConfigError(f'processors.{name}: use = "{where}"; write "module:Class"')
    # The console script does not put the working directory on the path, as `python -m` does.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"processors.{name}: {where} cannot be imported: {error}") from error
