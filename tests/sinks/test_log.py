from __future__ import annotations

import io

import orjson
import pytest

from streamproc.errors import ConfigError
from streamproc.sinks.log import LogSink
from streamproc.sinks.sink import OutgoingEvent, open_sink


async def test_each_event_is_one_json_line() -> None:
    stream = io.StringIO()
    events = [
        OutgoingEvent(
            id=i, type="T", key=f"k-{i}", cause="c", data=b'{"id":"%s","data":{"n":1}}' % i.encode()
        )
        for i in ("a", "b")
    ]
    assert await LogSink(stream).send(events) == {0, 1}
    assert [orjson.loads(line) for line in stream.getvalue().splitlines()] == [
        {"key": "k-a", "cause": "c", "event": {"id": "a", "data": {"n": 1}}},
        {"key": "k-b", "cause": "c", "event": {"id": "b", "data": {"n": 1}}},
    ]


async def test_it_writes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    sink = await open_sink("log", {})
    await sink.send([OutgoingEvent(id="a", type="T", key="k", cause="c", data=b"{}")])
    await sink.aclose()
    assert orjson.loads(capsys.readouterr().out)["key"] == "k"


async def test_it_has_no_options() -> None:
    with pytest.raises(ConfigError, match=r"\[outbox\] options\.colour: the log sink"):
        await open_sink("log", {"colour": "red"})
