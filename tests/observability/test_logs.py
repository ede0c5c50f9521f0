from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator

import orjson
import pytest

from streamproc.observability.logs import configure_logging

log = logging.getLogger("streamproc.pipeline.test")


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    names = (None, "aiobotocore", "aiohttp", "asyncio", "botocore", "urllib3")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_line_for_people() -> None:
    stream = io.StringIO()
    configure_logging("info", "text", stream)
    log.info("committed %d", 3)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    pipeline\.test: committed 3\n",
        stream.getvalue(),
    )


def test_a_json_object_a_line_with_the_extra_fields() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    log.warning("slow %s", "shard", extra={"shard": "s-1", "lag_ms": 5, "ids": ("a", "b")})
    log.info("two\nlines")
    first, second = map(orjson.loads, lines(stream))
    assert {k: v for k, v in first.items() if k not in ("time", "pid")} == {
        "level": "warning",
        "logger": "streamproc.pipeline.test",
        "message": "slow shard",
        "shard": "s-1",
        "lag_ms": 5,
        "ids": ["a", "b"],
    }
    assert second["message"] == "two\nlines"


def test_an_extra_field_cannot_pose_as_one_of_the_records_own() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    log.info("here", extra={"level": "error", "time": "never"})
    line = orjson.loads(stream.getvalue())
    assert (line["level"], line["time"] == "never") == ("info", False)


def test_whatever_is_logged_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    log.info("odd", extra={"big": 2**70, "half": "\ud800", "thing": object, "map": {1: b"x"}})
    (line,) = lines(stream)
    assert orjson.loads(line.replace("\\ud800", ""))["map"] == {"1": "b'x'"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_tracebacks_are_logged(form: str) -> None:
    stream = io.StringIO()
    configure_logging("info", form, stream)  # type: ignore[arg-type]
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    assert "Traceback" in stream.getvalue()
    assert "ValueError: broken" in stream.getvalue()
    assert form == "text" or len(lines(stream)) == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_password_of_a_url_is_ever_written(form: str) -> None:
    stream = io.StringIO()
    configure_logging("debug", form, stream)  # type: ignore[arg-type]
    url = "rediss://app:hunter2@cache:6379/0"
    log.info("connecting to %s", url)
    log.info("with extra", extra={"url": url, "nested": {"urls": [url]}, url: 1})
    try:
        raise ConnectionError(f"cannot reach {url}")
    except ConnectionError:
        log.exception("failed", stack_info=True)
    assert "hunter2" not in stream.getvalue()
    assert "rediss://app:***@cache:6379/0" in stream.getvalue()


def test_libraries_stay_quiet_and_this_package_does_as_it_is_told() -> None:
    stream = io.StringIO()
    configure_logging("debug", "text", stream)
    logging.getLogger("botocore.hooks").info("chatter")
    logging.getLogger("aiobotocore").warning("important")
    log.debug("detail")
    assert [line.split(" ", 2)[2].strip() for line in lines(stream)] == [
        "aiobotocore: important",
        "pipeline.test: detail",
    ]


def test_a_high_level_holds_for_libraries_too() -> None:
    stream = io.StringIO()
    configure_logging("error", "text", stream)
    logging.getLogger("botocore").warning("important")
    log.warning("also")
    assert stream.getvalue() == ""


def test_the_last_configuration_counts() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("info", "text", first)
    configure_logging("info", "text", second)
    log.info("once")
    assert (first.getvalue(), len(lines(second))) == ("", 1)


def test_logs_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    log.info("here")
    written = capsys.readouterr()
    assert written.out == ""
    assert "here" in written.err
    assert sys.stderr is not sys.__stderr__  # capsys was in place
