"""Makes the configured processors, found by entry point or by ``module:Class``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import Any

from streamproc.entries import find_entry, import_problem
from streamproc.errors import ConfigError, ProcessorError
from streamproc.processor import Processor

__all__ = ["load_processors"]


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
    cls = find_entry("streamproc.processors", name) if where is None else _import(name, where)
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
    except Exception as error:  # whatever a module may raise while it is run
        problem = import_problem(error)
        raise ConfigError(f"processors.{name}: {where} cannot be imported: {problem}") from error
