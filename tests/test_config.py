"""The configuration tree: layers, origins, and what a mistake reads like."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from streamproc.config import Config
from streamproc.errors import ConfigError
from streamproc.settings import convert, load_config, merge_layers, settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streamproc.toml"


def test_defaults_need_no_file() -> None:
    assert load_config(None, {}) == Config()


def test_stronger_layers_win(file: Path) -> None:
    file.write_text('[redis]\nurl = "redis://file"\ntimeout = 1\n[read]\nmax_records = 10\n')
    environ = {"STREAMPROC_REDIS__URL": "redis://env", "STREAMPROC_READ__MAX_RECORDS": "20"}
    config = load_config(file, environ, {"redis.url": "redis://flag"})
    assert config.redis.url == "redis://flag"
    assert config.read.max_records == 20
    assert config.redis.timeout == 1.0


def test_every_value_tells_its_origin(file: Path) -> None:
    file.write_text("[redis]\ntimeout = 1\n")
    tree, origins = merge_layers(file, {"STREAMPROC_GROUP": "g"}, {"redis.url": "redis://flag"})
    origin = {setting.key: setting.origin for setting in settings(convert(tree), origins)}
    assert origin["redis.timeout"] == str(file)
    assert origin["group"] == "environment STREAMPROC_GROUP"
    assert origin["redis.url"] == "command line"
    assert origin["dedupe.ttl"] == "default"


def test_every_setting_says_what_it_means() -> None:
    assert [s.key for s in settings(Config(), {}) if not s.description] == []


def test_environment_values_are_read_as_toml_or_else_as_text() -> None:
    environ = {
        "STREAMPROC_STREAM__NAME": "payments",
        "STREAMPROC_HTTP__PORT": "0",
        "STREAMPROC_PROCESSORS__FRAUD__LIMITS": "[1, 2]",
        "PATH": "/bin",
    }
    config = load_config(None, environ)
    assert (config.stream.name, config.http.port) == ("payments", 0)
    assert config.processors == {"fraud": {"limits": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[redis]\nulr = "x"', "unknown key redis.ulr; did you mean redis.url?"),
        ("[stream]\nzzz = 1", "unknown key stream.zzz; known here: endpoint_url"),
        ('group = "a b"', "group"),
        ("[redis]\ntimeout = -1", "redis.timeout: Expected `float` > 0.0"),
        ('[redis]\ntimeout = "soon"', "redis.timeout: Expected `float`, got `str`"),
        ('[worker]\non_unknown = "drop"', "worker.on_unknown: Invalid enum value 'drop'"),
        ('[worker]\non_unknown = "drop"', "it may be dead-letter or skip"),
        (
            '[worker]\nprocesses = "many"',
            "worker.processes: Invalid enum value 'many'; it may be a number or auto",
        ),
        ('[stream]\ninitial_position = "YESTERDAY"', "stream.initial_position"),
        ("redis = 5", "redis: Expected `object`, got `int`"),
        ("[redis", "Expected ']'"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_remedy(
    file: Path, text: str, message: str
) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    with pytest.raises(ConfigError, match="streamproc config init"):
        load_config(file, {})


def test_a_value_cannot_be_a_table_too() -> None:
    with pytest.raises(ConfigError, match="group is a value, not a table"):
        load_config(None, {"STREAMPROC_GROUP": "g", "STREAMPROC_GROUP__X": "1"})


def test_a_config_cannot_be_changed_afterwards() -> None:
    with pytest.raises(AttributeError):
        Config().group = "other"  # type: ignore[misc]
    assert msgspec.structs.asdict(Config())["group"] == ""
