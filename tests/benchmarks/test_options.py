from __future__ import annotations

import pytest

from streamproc.errors import ConfigError
from streamproc_benchmarks.options import checked_settings, chosen_consumers


def test_a_workers_settings_are_checked_before_anything_is_measured() -> None:
    assert checked_settings(["batch.records=500"]) == {"batch.records": 500}
    assert checked_settings(None) == {}
    with pytest.raises(ConfigError, match=r"read\.min_interval"):
        checked_settings(["read.min_interval=0"])
    with pytest.raises(ConfigError, match="recrods"):
        checked_settings(["batch.recrods=500"])


def test_consumers_run_in_their_own_order_and_once() -> None:
    assert chosen_consumers(["noop", "plain", "noop"]) == ["plain", "noop"]
    with pytest.raises(ConfigError, match="--consumer nop: there are plain"):
        chosen_consumers(["nop"])
