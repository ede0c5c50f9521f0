"""From the layers of settings to one checked tree.

Layers, weakest first: the defaults in `streamproc.config`, the TOML file, `STREAMPROC_*`
environment variables (`STREAMPROC_REDIS__URL` sets `redis.url`), then command-line flags.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from streamproc.config import ENV_PREFIX, Config, Section
from streamproc.errors import ConfigError

__all__ = ["Setting", "convert", "load_config", "merge_layers", "settings"]


class Setting(msgspec.Struct, frozen=True):
    """One effective setting, for `streamproc config show`."""

    key: str
    value: Any
    origin: str
    description: str


def load_config(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Merge the layers into one checked tree.

    Args:
        path: the TOML file; None for none.
        environ: the environment; the process's own if None.
        overrides: dotted keys from the command line, such as ``{"redis.url": ...}``.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, or a value has the wrong type.
    """
    return convert(merge_layers(path, environ, overrides)[0], path)


def merge_layers(
    path: Path | None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the merged raw tree and, for each dotted key that is not a default, its origin."""
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is not None:
        for key, value in _leaves(_read_toml(path)):
            _put(tree, key, value)
            origins[".".join(key)] = str(path)
    for name, text in sorted((os.environ if environ is None else environ).items()):
        if name.startswith(ENV_PREFIX):
            key = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            _put(tree, key, _parse_scalar(text))
            origins[".".join(key)] = f"environment {name}"
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _put(tree, tuple(dotted.split(".")), value)
            origins[dotted] = "command line"
    return tree, origins


def convert(tree: Mapping[str, Any], path: Path | None = None) -> Config:
    """Check a raw tree and turn it into a `Config`.

    Raises:
        ConfigError: names the key, and for a misspelt one the nearest that exists.
    """
    _refuse_unknown_keys(tree, Config, (), path)
    try:
        # Environment values are text; lax conversion lets "5" be a number, as TOML's 5 is.
        return msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), path)) from None


def settings(config: Config, origins: Mapping[str, str]) -> Iterator[Setting]:
    """Yield every effective setting with where it came from, in the order of the tree."""
    yield from _settings(config, (), origins)


def _settings(
    section: Section, prefix: tuple[str, ...], origins: Mapping[str, str]
) -> Iterator[Setting]:
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        key = (*prefix, field.name)
        if isinstance(value, Section):
            yield from _settings(value, key, origins)
            continue
        dotted = ".".join(key)
        given = [origin for name, origin in origins.items() if f"{name}.".startswith(f"{dotted}.")]
        yield Setting(dotted, value, given[-1] if given else "default", _description(field.type))


def _description(annotation: Any) -> str:
    info = msgspec.inspect.type_info(annotation)
    while isinstance(info, msgspec.inspect.Metadata):
        schema = info.extra_json_schema or {}
        if "description" in schema:
            return str(schema["description"])
        info = info.type
    return ""


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file {path}; write one with `streamproc config init` "
            "or name another with --config"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            for rest, leaf in _leaves(value):
                yield (key, *rest), leaf
        else:
            yield (key,), value


def _put(tree: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{'.'.join(key)}: {part} is a value, not a table")
    tree[key[-1]] = value


def _parse_scalar(text: str) -> Any:
    """Read an environment value as TOML would, and as plain text where it is not TOML."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_unknown_keys(
    tree: Mapping[str, Any], section: type[Section], prefix: tuple[str, ...], path: Path | None
) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(section)}
    for key, value in tree.items():
        if key not in known:
            raise ConfigError(_unknown_key((*prefix, key), list(known), path))
        kind = known[key]
        if isinstance(kind, type) and issubclass(kind, Section) and isinstance(value, dict):
            _refuse_unknown_keys(value, kind, (*prefix, key), path)


def _unknown_key(key: tuple[str, ...], known: list[str], path: Path | None) -> str:
    near = difflib.get_close_matches(key[-1], known, n=1)
    hint = (
        f"did you mean {'.'.join((*key[:-1], near[0]))}?"
        if near
        else f"known here: {', '.join(sorted(known))}"
    )
    return f"{path or 'configuration'}: unknown key {'.'.join(key)}; {hint}"


def _explain(message: str, path: Path | None) -> str:
    where = re.search(r"^(?P<what>.*?) - at `\$\.?(?P<key>.*)`$", message, re.DOTALL)
    if where is None:
        return f"{path or 'configuration'}: {message}"
    what = where["what"]
    if what.startswith("Invalid enum value"):
        what += f"; it may be {_choices(Config, where['key'].split('.'))}"
    return f"{path or 'configuration'}: {where['key']}: {what}"


def _choices(section: type[Section], key: list[str]) -> str:
    """Return in words what the setting at a key may be, such as ``a number or auto``."""
    kind: Any = typing.get_type_hints(section)[key[0]]
    if len(key) > 1:
        return _choices(kind, key[1:])
    kinds = (kind,) if typing.get_origin(kind) is Literal else typing.get_args(kind)
    words: list[str] = []
    for each in kinds:
        is_literal = typing.get_origin(each) is Literal
        words += typing.get_args(each) if is_literal else ["a number"]
    return " or ".join(words)
