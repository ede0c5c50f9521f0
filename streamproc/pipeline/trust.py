"""Whether a batch may go to its commit without asking Redis what that will say anyhow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from streamproc.pipeline.decode import DecodedBatch
from streamproc.state.parking import Parked
from streamproc.state.store import Checked

__all__ = ["Trust"]

# The check also tells Redis's time, by which ids are filed: it is asked for that often at least.
_LONGEST_S: Final = 5.0
_MOST_CHECKS: Final = 64


class Trust:
    """Tells of which batches Redis is not asked what the commit finds out anyhow.

    The commit refuses ids that are committed and states that have changed, whatever was checked
    before. So looking them up only saves handlers from running in vain. A batch goes without when
    its handlers are plain functions: what an `async` one does outside must not be done for a
    duplicate. Redis is then asked for what it needs, which are states that are not held, and
    counters, which no commit refuses; and if it needs none, not at all. After a refusal the next
    batches are checked; each refusal in a row doubles their number.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._checked_at = float("-inf")
        self._last: Checked | None = None
        self._to_check = 0
        self._penalty = 1

    @property
    def is_fresh(self) -> bool:
        """Whether Redis was asked so recently that nothing needs to be."""
        return self._clock() - self._checked_at < _LONGEST_S

    def recall(self, bucket: int) -> Checked:
        """Return what the last check told, for a batch that is covered: nothing of it is committed.

        Args:
            bucket: the dedupe bucket by now.
        """
        assert self._last is not None, "nothing is covered before the first check"
        return msgspec.structs.replace(self._last, bucket=bucket, committed=set())

    def covers(self, batch: DecodedBatch) -> bool:
        """Whether the batch's ids, and states that are held, are not looked up."""
        return (
            self._to_check == 0
            and self._last is not None
            and not (batch.has_async or batch.has_timers)
        )

    def checked(self, told: Checked) -> None:
        """Note what the check of a batch told."""
        self._checked_at, self._last = self._clock(), told
        self._to_check = max(0, self._to_check - 1)

    def parked(self, parked: Parked | None) -> None:
        """Note what a commit told of the keys that are parked."""
        if self._last is not None and parked is not None:
            self._last = msgspec.structs.replace(self._last, parked=parked)

    def held(self) -> None:
        """Note that a batch that was covered went through."""
        self._penalty = 1

    def broken(self) -> None:
        """Note that one did not, and has to run again."""
        self._to_check = self._penalty
        self._penalty = min(_MOST_CHECKS, self._penalty * 2)
