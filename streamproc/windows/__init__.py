"""Sliding windows that live inside a processor's keyed state, in event time.

Each is a msgspec Struct with a stable JSON form (docs/windows.md); all are pure and know no clock.
"""

from streamproc.windows.buckets import Buckets, BucketWindow
from streamproc.windows.decay import Decay
from streamproc.windows.distinct import Distinct
from streamproc.windows.history import History, Window

__all__ = ["BucketWindow", "Buckets", "Decay", "Distinct", "History", "Window"]
