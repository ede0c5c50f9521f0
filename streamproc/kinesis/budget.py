"""A bound, in bytes, on what all shards of a worker have read ahead.

How much an answer brings is known only once it is there, so a reader reserves what it expects
before it asks, and settles afterwards. What outgrew its reservation is kept even past the capacity,
as it is in memory already; the next reservations wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

__all__ = ["Account", "BudgetStatistics", "ByteBudget"]


class BudgetStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a budget holds now, in bytes; `peak` is the most it ever held."""

    capacity: int
    held: int
    peak: int
    accounts: int
    waiting: int


class ByteBudget:
    """Shares `capacity` bytes among the readers of a worker, each with an `Account`.

    Invariants: reservations are granted in the order in which they were asked for, never past the
    capacity. An account that holds something gets no more than its share, capacity / accounts, so
    one stuck shard cannot stop the others; while it waits for that, others pass it.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a byte budget needs a capacity of at least 1")
        self._capacity = capacity
        self._held = 0
        self._peak = 0
        self._accounts: set[Account] = set()
        self._queue: deque[_Reservation] = deque()

    def open(self) -> Account:
        """Open an account, which counts for the shares until it is closed."""
        account = Account(self)
        self._accounts.add(account)
        return account

    def statistics(self) -> BudgetStatistics:
        """Return the present figures."""
        return BudgetStatistics(
            capacity=self._capacity,
            held=self._held,
            peak=self._peak,
            accounts=len(self._accounts),
            waiting=sum(account.is_waiting for account in self._accounts),
        )

    def _has_room(self, size: int) -> bool:
        return self._held + size <= self._capacity

    def _exceeds_share(self, account: Account, size: int) -> bool:
        share = self._capacity // max(1, len(self._accounts))
        return account._held > 0 and account._held + size > share

    def _grant(self) -> None:
        # The first that merely finds no room ends the pass: a large reservation is not to be
        # starved by small ones that would still fit.
        while self._queue:
            head = self._queue[0]
            if not head.granted.done():
                if self._exceeds_share(head.account, head.size):
                    head.account._blocked = head
                elif self._has_room(head.size):
                    self._hold(head.account, head.size)
                    head.granted.set_result(None)
                else:
                    return
            self._queue.popleft()

    def _hold(self, account: Account, change: int) -> None:
        account._held += change
        self._held += change
        self._peak = max(self._peak, self._held)

    def _close(self, account: Account) -> None:
        if account in self._accounts:
            self._accounts.remove(account)
            # Everyone's share has grown.
            for other in self._accounts:
                other._unblock()
            self._grant()


class Account:
    """One reader's part of a `ByteBudget`; it asks for one reservation at a time."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held = 0
        self._pending: _Reservation | None = None
        self._blocked: _Reservation | None = None

    @property
    def held(self) -> int:
        """Bytes reserved or kept."""
        return self._held

    @property
    def is_waiting(self) -> bool:
        """Whether a reservation waits for room."""
        return self._pending is not None

    async def reserve(self, size: int) -> int:
        """Wait for room for `size` bytes and return how many are held: at most the capacity."""
        if self._pending is not None:
            raise RuntimeError("an account has one reservation at a time")
        budget, size = self._budget, min(size, self._budget._capacity)
        if not budget._queue and budget._has_room(size) and not budget._exceeds_share(self, size):
            budget._hold(self, size)
            return size
        reservation = _Reservation(self, size, asyncio.get_running_loop().create_future())
        self._pending = reservation
        budget._queue.append(reservation)
        budget._grant()
        try:
            await reservation.granted
        except asyncio.CancelledError:
            if reservation.granted.cancelled():
                # It may have stood at the head, before some that fit.
                self._blocked = None
                budget._grant()
            else:
                self.release(size)
            raise
        finally:
            self._pending = None
        return size

    def settle(self, reserved: int, actual: int) -> None:
        """Replace a reservation by what really came."""
        self._budget._hold(self, actual - reserved)
        self._after_release()

    def release(self, size: int) -> None:
        """Give `size` bytes back.

        Raises:
            ValueError: more than is held.
        """
        if size > self._held:
            raise ValueError(f"{size} bytes released, only {self._held} held")
        self._budget._hold(self, -size)
        self._after_release()

    def close(self) -> None:
        """Leave the sharing; what is still held stays so until it is released."""
        self._budget._close(self)

    def _unblock(self) -> None:
        if self._blocked is not None:
            self._budget._queue.append(self._blocked)
            self._blocked = None

    def _after_release(self) -> None:
        self._unblock()
        self._budget._grant()


class _Reservation:
    __slots__ = ("account", "granted", "size")

    def __init__(self, account: Account, size: int, granted: asyncio.Future[None]) -> None:
        self.account = account
        self.size = size
        self.granted = granted
