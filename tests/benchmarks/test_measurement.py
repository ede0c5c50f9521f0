from __future__ import annotations

import os

import msgspec
import pytest

from streamproc_benchmarks.measurement import Reading, cpu_seconds, mark, reading


def taken(
    own: float,
    server: float | None,
    redis: float | None = 0.0,
    delayed: float | None = 0.0,
    wall: float = 10.0,
) -> Reading:
    return Reading(wall=wall, own=own, delayed=delayed, server=server, redis=redis)


def test_a_busy_consumer_is_the_bottleneck() -> None:
    assert taken(own=9.8, server=2.0).bottleneck == "consumer"


def test_a_consumer_that_others_keep_off_its_core_still_is_the_bottleneck() -> None:
    assert taken(own=5.0, delayed=4.5, server=2.0).bottleneck == "consumer"


def test_a_saturated_server_beside_an_idle_consumer_is_the_bottleneck() -> None:
    assert taken(own=4.0, server=9.5).bottleneck == "server"


def test_redis_shares_the_servers_core() -> None:
    assert taken(own=4.0, server=5.0, redis=4.6).bottleneck == "server"


def test_a_busy_server_does_not_hide_a_busy_consumer() -> None:
    # Nothing waits here: both cores work to the full.
    assert taken(own=9.6, server=9.6).bottleneck == "consumer"


def test_when_both_wait_it_is_nobody() -> None:
    assert taken(own=4.0, server=3.0, redis=1.0).bottleneck == "nobody"


def test_without_the_servers_clock_nothing_is_claimed() -> None:
    assert taken(own=4.0, server=None).bottleneck == "unknown"
    assert taken(own=9.5, server=None, delayed=None).bottleneck == "consumer"


@pytest.mark.parametrize(
    ("server", "redis", "named"),
    [(9.5, 4.0, "server"), (4.0, 9.5, "server"), (8.0, 8.0, "nobody"), (None, None, "nobody")],
)
def test_a_server_that_others_keep_off_its_core_still_is_the_bottleneck(
    server: float | None, redis: float | None, named: str
) -> None:
    found = msgspec.structs.replace(
        taken(own=4.0, server=3.0, redis=1.0), server_ready=server, redis_ready=redis
    )
    assert found.bottleneck == named


def test_a_process_is_ready_while_it_runs_or_waits_for_a_core() -> None:
    start = mark(os.getpid(), os.getpid())
    if start.server_ready is None or start.delayed is None:
        pytest.skip("this platform does not tell")
    while mark(None, None).own - start.own < 0.05:
        pass
    end = mark(os.getpid(), os.getpid())
    found = reading(start, end)
    assert found.server_ready is not None
    assert found.delayed is not None
    # Of the pauses of other threads, which the latter counts too, there are next to none.
    assert found.server_ready == pytest.approx(found.own + found.delayed, abs=0.02)
    assert found.busiest_share == pytest.approx(1.0, abs=0.1)


def test_a_reading_lies_between_two_marks() -> None:
    start = mark(os.getpid(), None)
    total = 0
    while mark(None, None).own - start.own < 0.05:
        total += 1
    found = reading(start, mark(os.getpid(), None))
    assert found.wall > 0
    assert 0.05 <= found.own < 5
    assert found.redis is None
    if start.server is not None:
        # /proc counts this process in ticks of 10 ms.
        assert found.server == pytest.approx(found.own, abs=0.03)


def test_no_reading_without_time() -> None:
    now = mark(None, None)
    with pytest.raises(ValueError, match="no time"):
        reading(now, now)


def test_a_process_that_is_gone_has_no_cpu_time() -> None:
    # Above every limit that Linux allows (PID_MAX_LIMIT is 2^22).
    assert cpu_seconds(2**22 + 1) is None
