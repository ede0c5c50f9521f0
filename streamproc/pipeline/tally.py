"""Counts what became of committed batches, and logs what they put aside."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from streamproc.deadletter import DeadLetter
from streamproc.pipeline.decode import DecodedBatch
from streamproc.pipeline.dispatch import Dispatched
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.state.parking import Redriven

__all__ = ["Tally"]

log = logging.getLogger(__name__)


class Tally:
    """Keeps the statistics of one shard.

    Args:
        statistics: the shard's.
        field: the shard's name in messages, ``stream/shard``.
        wall_clock: seconds since the epoch.
        now_ms: the store's time in ms.
    """

    def __init__(
        self,
        statistics: ShardStatistics,
        field: str,
        wall_clock: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._statistics = statistics
        self._field = field
        self._wall_clock = wall_clock
        self._now_ms = now_ms

    def batch(self, batch: DecodedBatch, result: Dispatched, started: float) -> None:
        """Count a batch that is committed, and say what it put aside."""
        statistics, records = self._statistics, batch.own
        dead = sum(failure.fate == "dead-letter" for failure in result.failures)
        parked = len(result.failures) - dead + len(result.behind)
        processed = len(result.items)
        if batch.has_timers:
            fired, failed = self._count_timers(result)
            processed, dead = processed - fired, dead - failed
        put_aside = len(batch.dead) + dead + parked
        unknown = len(batch.unknown)
        statistics.batches += 1
        statistics.records += len(records)
        statistics.bytes += batch.bytes
        statistics.processed += processed
        statistics.unknown += unknown
        statistics.dead_letters += put_aside - parked
        statistics.parked += parked
        statistics.duplicates += len(records) - processed - unknown - put_aside
        if records:
            statistics.batch_records.observe(len(records))
        statistics.batch_seconds.observe(time.perf_counter() - started)
        statistics.end_to_end_seconds.observe_ages(
            self._wall_clock(),
            [record.approximate_arrival_timestamp for record in records],
        )
        self._count_outcome(batch.dead, result)

    def redriven(
        self,
        batch: DecodedBatch,
        result: Dispatched,
        redriven: Redriven,
        undecodable: Sequence[DeadLetter],
        started: float,
    ) -> None:
        """Count a step of a redrive that is committed; `undecodable` ones are dead letters now."""
        statistics = self._statistics
        dead = len(undecodable) + sum(failure.fate == "dead-letter" for failure in result.failures)
        statistics.redriven += redriven.done
        statistics.dead_letters += dead
        statistics.batch_seconds.observe(time.perf_counter() - started)
        self._count_outcome(undecodable, result)
        log.info(
            "%s: %d records of a parked key redriven, %d left%s",
            self._field,
            redriven.done,
            redriven.length - redriven.done,
            "; the next one failed again" if redriven.head else "",
        )

    def _count_outcome(self, undecodable: Sequence[DeadLetter], result: Dispatched) -> None:
        statistics = self._statistics
        statistics.retries += result.retries
        statistics.emitted += len(result.emissions)
        for emission in result.emissions:
            by_processor = statistics.emitted_by_processor
            by_processor[emission.processor] = by_processor.get(emission.processor, 0) + 1
        for failure in result.failures:
            processor = failure.handler.partition(".")[0]
            failed = statistics.failed_by_processor
            failed[processor] = failed.get(processor, 0) + 1
        for letter in undecodable:
            log.warning(
                "%s: record %s is no event (%s); put into the dead letters",
                self._field,
                letter.sequence,
                letter.reason,
            )
        for failure in result.failures:
            # The error's own text may quote the event: it goes to the dead letter, not to the log.
            log.warning(
                "%s: %s failed on the event at %s, %d attempts (%s); %s",
                self._field,
                failure.handler,
                failure.item.sequence,
                failure.attempts,
                type(failure.error).__name__,
                "put into the dead letters"
                if failure.fate == "dead-letter"
                else "its partition key is parked",
            )

    def _count_timers(self, result: Dispatched) -> tuple[int, int]:
        """Count the timers that fired; return how many succeeded and how many failed."""
        done = [item.timer for item in result.items if item.timer is not None]
        failed = [f.item.timer for f in result.failures if f.item.timer is not None]
        self._statistics.timers_fired += len(done) + len(failed)
        self._statistics.timers_failed += len(failed)
        now = self._now_ms()
        for timer in (*done, *failed):
            if timer.clock == "wall":
                self._statistics.timer_late_seconds.observe(max(0, now - timer.at) / 1000)
        return len(done), len(failed)
