from __future__ import annotations

import os
import platform
from importlib.metadata import version

import msgspec

from streamproc_benchmarks.environment import Environment, read_environment


def test_it_says_what_the_figures_depend_on() -> None:
    found = read_environment(redis_server="valkey 9.1.2", pinning="not pinned: a test")
    assert platform.python_version() in found.python
    assert found.libraries["msgspec"] == version("msgspec")
    assert found.libraries["aiobotocore"] == version("aiobotocore")
    assert found.redis_server == "valkey 9.1.2"
    assert found.pinning == "not pinned: a test"
    assert found.kernel == f"{platform.system()} {platform.release()}"
    assert found.cores == os.cpu_count()
    assert 1 <= found.usable_cores <= found.cores
    assert found.cpu


def test_it_survives_json() -> None:
    found = read_environment(redis_server="redis 7.2", pinning="")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Environment) == found


def test_it_does_not_name_the_host() -> None:
    text = msgspec.json.encode(read_environment(redis_server="", pinning="")).decode()
    assert platform.node() == "" or f'"{platform.node()}"' not in text
