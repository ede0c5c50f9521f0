"""streamproc: an async, exactly-once-effects processor for Amazon Kinesis Data Streams.

What is exported here is the plugin API; `streamproc --help` shows the commands.
"""

from streamproc.context import Context, States
from streamproc.errors import ConfigError, ProcessorError, Reject, Retry, StreamprocError
from streamproc.events.event import Event
from streamproc.processor import Key, Policy, Processor, on

__all__ = [
    "ConfigError",
    "Context",
    "Event",
    "Key",
    "Policy",
    "Processor",
    "ProcessorError",
    "Reject",
    "Retry",
    "States",
    "StreamprocError",
    "on",
]
