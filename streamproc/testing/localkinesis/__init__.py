"""LocalKinesis: an embedded Kinesis Data Streams endpoint, in one process and in memory.

`LocalKinesis` serves HTTP; `LocalKinesisCore` is the same without sockets, for virtual time;
`serve` runs an endpoint in the foreground.
"""

from streamproc.testing.localkinesis.core import LocalKinesisCore, Reply, Wire
from streamproc.testing.localkinesis.errors import KinesisError
from streamproc.testing.localkinesis.faults import Fault, FaultKind, Faults
from streamproc.testing.localkinesis.server import LocalKinesis, serve
from streamproc.testing.localkinesis.throttle import ThrottleLimits

__all__ = [
    "Fault",
    "FaultKind",
    "Faults",
    "KinesisError",
    "LocalKinesis",
    "LocalKinesisCore",
    "Reply",
    "ThrottleLimits",
    "Wire",
    "serve",
]
