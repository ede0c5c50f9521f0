"""How often a worker writes to the lease store and reads it: pure, from settings and prices."""

from __future__ import annotations

from streamproc.config import LeaseConfig

__all__ = ["checkpoint_interval", "renewal_interval", "scan_interval"]

RENEWALS = 0.4
"""Share of the lease duration between renewals. A renewal that hangs is given up after a third, so
one may be lost and the next still comes in time; KCL, at a third, pays a fifth more."""

FREE_CHECKPOINT_S = 1.0
"""Between checkpoints where a write costs nothing."""

PAID_CHECKPOINT_S = 60.0
"""Between checkpoints that are writes of their own and billed: what is resumed from is the position
in Redis; the checkpoint is for a Redis that was lost, and for who reads the table."""

PAID_ROWS_PER_SECOND = 100.0
"""Rows a worker reads a second at most where reads are billed. Of rows of some 400 bytes that is
5 read units a second, which is what a KCL 2.x worker spends on 2,000 leases."""

FLEET_ROWS_PER_SECOND = 250_000.0
"""Rows that a fleet's workers together read a second at most where reads are free. Each looks at
all rows, so 200 workers on 10,000 leases would read a million a second, more than one Redis sends.
Up to 500,000 rows times workers a look every 2 s is less than that."""

AUDIT_SCANS = 30
"""Scan intervals after which the whole table is read although nobody told of a change."""


def renewal_interval(config: LeaseConfig) -> float:
    """Return the seconds between renewals."""
    return config.duration * RENEWALS


def checkpoint_interval(config: LeaseConfig, *, metered: bool) -> float:
    """Return the seconds between checkpoints of a shard that moves.

    Args:
        config: the lease settings.
        metered: whether the store's calls are billed one by one.
    """
    if config.checkpoint_interval is not None:
        return config.checkpoint_interval
    if not metered:
        return FREE_CHECKPOINT_S
    # Beside renewals of single leases a checkpoint costs nothing: it is one.
    return PAID_CHECKPOINT_S if config.renewal == "worker" else renewal_interval(config)


def scan_interval(config: LeaseConfig, rows: int, workers: int, *, metered: bool) -> float:
    """Return the seconds between looks at all rows of a table.

    A crash is taken over within the lease duration and this interval after the last renewal.

    Args:
        config: the lease settings.
        rows: how many the table has.
        workers: how many look at it.
        metered: whether the store's reads are billed.
    """
    affordable = rows / PAID_ROWS_PER_SECOND if metered else rows * workers / FLEET_ROWS_PER_SECOND
    return max(config.scan_interval, min(affordable, config.duration))
