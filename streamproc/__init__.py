"""streamproc: an async, exactly-once-effects processor for Amazon Kinesis Data Streams.

What is exported here is the plugin API; `streamproc --help` shows the commands.
"""

from streamproc.context import Context, Counters, States
from streamproc.entries import read_options
from streamproc.errors import ConfigError, ProcessorError, Reject, Retry, StreamprocError
from streamproc.events.event import Event
from streamproc.page import Page, PageAnswer, PageRequest
from streamproc.processor import Key, Policy, Processor, on
from streamproc.sinks.sink import OutgoingEvent, Sink, open_sink
from streamproc.state.counters import Counter
from streamproc.state.counts import CounterValues
from streamproc.state_reader import StateReader, StoredCounters, StoredState

__all__ = [
    "ConfigError",
    "Context",
    "Counter",
    "CounterValues",
    "Counters",
    "Event",
    "Key",
    "OutgoingEvent",
    "Page",
    "PageAnswer",
    "PageRequest",
    "Policy",
    "Processor",
    "ProcessorError",
    "Reject",
    "Retry",
    "Sink",
    "StateReader",
    "States",
    "StoredCounters",
    "StoredState",
    "StreamprocError",
    "on",
    "open_sink",
    "read_options",
]
