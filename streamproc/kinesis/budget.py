"""A bound, in bytes, on what all shards of a worker have read ahead.

How much an answer brings is known only once it is there, so a reader reserves what it expects
before it asks, and settles afterwards. What outgrew its reservation is kept even past the capacity,
as it is in memory already; the next reservations wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import msgspec

__all__ = ["Account", "BudgetStatistics", "ByteBudget"]

# A reservation of up to 1/64 of the capacity is small: 1 MiB of the default 64.
_SMALL_PART: Final = 64
_SET_ASIDE_PART: Final = 4
_LEAST_DIVIDED: Final = 1024 * 1024


class BudgetStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a budget holds now, in bytes.

    `kept` is there, `reserved` is expected by calls under way; `peak` is the most that both ever
    came to; `accounts` and `waiting` are numbers of readers.
    """

    capacity: int
    kept: int
    reserved: int
    peak: int
    accounts: int
    waiting: int


class ByteBudget:
    """Shares `capacity` bytes among the readers of a worker, each with an `Account`.

    Invariants:
        Reservations are granted in the order in which they were asked for and never past the
        capacity. While anything at all is free, the first in turn gets it, however much it asked
        for, once no other reservation is outstanding: only consumers could free more, and theirs
        may be stuck. It is then to ask for no more than it was granted. An account that keeps
        something gets no more than its share, capacity / accounts, and is passed by while it waits
        for that.

        Small reservations, as those of shards at their tip, do not wait behind large ones, but in a
        queue of their own: a quarter of the capacity is for them alone, and they get no more than
        that while a large one waits. A large one gets a small part of it once no other large one is
        outstanding, for the same reason as above.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a byte budget needs a capacity of at least 1")
        self._capacity = capacity
        self._kept = 0
        self._reserved = 0
        self._peak = 0
        self._accounts: set[Account] = set()
        self._queue: deque[_Request] = deque()
        self._small = capacity // _SMALL_PART if capacity >= _LEAST_DIVIDED else 0
        self._set_aside = capacity // _SET_ASIDE_PART if self._small else 0
        self._reserved_small = 0
        self._small_queue: deque[_Request] = deque()

    def open(self) -> Account:
        """Open an account, which counts for the shares until it is closed."""
        account = Account(self)
        self._accounts.add(account)
        return account

    def statistics(self) -> BudgetStatistics:
        """Return the present figures."""
        return BudgetStatistics(
            capacity=self._capacity,
            kept=self._kept,
            reserved=self._reserved,
            peak=self._peak,
            accounts=len(self._accounts),
            waiting=sum(account.is_waiting for account in self._accounts),
        )

    def _room_for(self, size: int) -> int:
        """Return how much of `size` can be granted now: all, none, or a part."""
        free = self._capacity - self._kept - self._reserved
        others = self._reserved
        if size > self._small:
            free = max(free - self._set_aside, min(free, self._small))
            others -= self._reserved_small
        elif self._queue and self._reserved_small + size > self._set_aside:
            return 0
        if size <= free:
            return size
        return free if free > 0 and others == 0 else 0

    def _queue_of(self, size: int) -> deque[_Request]:
        return self._small_queue if size <= self._small else self._queue

    def _exceeds_share(self, account: Account, size: int) -> bool:
        share = self._capacity // max(1, len(self._accounts))
        return account._kept > 0 and account._kept + size > share

    def _grant(self) -> None:
        for queue in (self._queue, self._small_queue):
            # The first that merely finds no room ends the pass: a large reservation is not to be
            # starved by smaller ones that would still fit.
            while queue:
                head = queue[0]
                if not head.granted.done():
                    if self._exceeds_share(head.account, head.size):
                        head.account._blocked = head
                    elif (size := self._room_for(head.size)) > 0:
                        self._move(head.account, reserved=size)
                        head.granted.set_result(None)
                    else:
                        break
                queue.popleft()

    def _move(self, account: Account, *, reserved: int = 0, kept: int = 0) -> None:
        self._reserve_for(account, reserved)
        account._kept += kept
        self._kept += kept
        self._peak = max(self._peak, self._reserved + self._kept)

    def _reserve_for(self, account: Account, change: int) -> None:
        before, after = account._reserved, account._reserved + change
        self._reserved += change
        self._reserved_small += (after if after <= self._small else 0) - (
            before if before <= self._small else 0
        )
        account._reserved = after

    def _close(self, account: Account) -> None:
        if account in self._accounts:
            self._accounts.remove(account)
            # Everyone's share has grown.
            for other in self._accounts:
                other._unblock()
            self._grant()


class Account:
    """One reader's part of a `ByteBudget`, with one reservation at a time."""

    # A thousand quiet shards are touched once a second each, out of the caches' reach: what an
    # object without a dictionary spares is fetched from memory each time.
    __slots__ = ("_asking", "_blocked", "_budget", "_kept", "_reserved")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._kept = 0
        self._reserved = 0
        self._asking = False
        self._blocked: _Request | None = None

    @property
    def kept(self) -> int:
        """Bytes of answers that are there and not yet released."""
        return self._kept

    @property
    def reserved(self) -> int:
        """Bytes reserved for a call."""
        return self._reserved

    @property
    def is_waiting(self) -> bool:
        """Whether a reservation waits for room."""
        return self._asking

    def reserve_at_once(self, size: int) -> bool:
        """Reserve for a call that is expected to bring `size` bytes, if that needs no waiting.

        Returns:
            False if there is no room now, and nothing is reserved.

        Raises:
            RuntimeError: the last reservation is not settled yet.
        """
        if self._asking or self._reserved:
            raise RuntimeError("an account has one reservation at a time")
        budget = self._budget
        used = budget._kept + budget._reserved + size
        if (
            0 < size <= budget._small
            and used <= budget._capacity
            and not (self._kept or budget._queue or budget._small_queue)
        ):
            # An idle shard's poll: nothing stands against it, whatever the rules.
            budget._reserved += size
            budget._reserved_small += size
            if used > budget._peak:
                budget._peak = used
            self._reserved = size
            return True
        size = max(1, min(size, budget._capacity))
        if budget._queue_of(size) or budget._exceeds_share(self, size):
            return False
        granted = budget._room_for(size)
        if granted:
            budget._move(self, reserved=granted)
        return granted > 0

    async def reserve(self, size: int) -> None:
        """Wait until a call that is expected to bring `size` bytes may be made.

        Raises:
            RuntimeError: the last reservation is not settled yet.
        """
        if not self.reserve_at_once(size):
            await self._wait_for(max(1, min(size, self._budget._capacity)))

    def settle(self, actual: int) -> None:
        """Replace the reservation by the `actual` bytes that came; 0 if nothing did."""
        budget, reserved = self._budget, self._reserved
        if actual:
            budget._move(self, reserved=-reserved, kept=actual)
        else:
            budget._reserved -= reserved
            if reserved <= budget._small:
                budget._reserved_small -= reserved
            self._reserved = 0
        if budget._queue or budget._small_queue or self._blocked is not None:
            self._after_release()

    def release(self, size: int) -> None:
        """Give `size` bytes that were kept back.

        Raises:
            ValueError: that much is not kept.
        """
        if size > self._kept:
            raise ValueError(f"{size} bytes released, only {self._kept} kept")
        self._budget._move(self, kept=-size)
        self._after_release()

    def close(self) -> None:
        """Leave the sharing; what is still kept stays so until it is released."""
        self._budget._close(self)

    async def _wait_for(self, size: int) -> None:
        request = _Request(self, size, asyncio.get_running_loop().create_future())
        self._asking = True
        self._budget._queue_of(size).append(request)
        self._budget._grant()
        try:
            await request.granted
        except asyncio.CancelledError:
            # Either it was granted in the same moment, or it may have stood before some that fit.
            self._blocked = None
            self.settle(0)
            raise
        finally:
            self._asking = False

    def _unblock(self) -> None:
        if self._blocked is not None:
            self._budget._queue_of(self._blocked.size).append(self._blocked)
            self._blocked = None

    def _after_release(self) -> None:
        self._unblock()
        self._budget._grant()


class _Request:
    __slots__ = ("account", "granted", "size")

    def __init__(self, account: Account, size: int, granted: asyncio.Future[None]) -> None:
        self.account = account
        self.size = size
        self.granted = granted
