"""The rule set in force, exchanged while the worker runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from streamproc import ConfigError
from streamproc_fraud.features.reading import Read
from streamproc_fraud.rules.deciding import Decider
from streamproc_fraud.rules.sources import RulesSource, SourceError

__all__ = ["POLL_S", "InForce", "LiveRules"]

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""How often a source is asked; an answer may take 1.5 s, so that a change shows within 2 s."""


class InForce(msgspec.Struct, frozen=True):
    """A decider, and the function that reads the features that it needs."""

    decider: Decider
    read: Read


class LiveRules:
    """Holds the rules in force; another one takes its place between two payments, never within.

    Args:
        source: where rule sets are published.
        make: content and place -> what goes into force; raises ConfigError for what cannot.
        sleep: waits between looks.

    Attributes:
        reloads: rule sets put into force after the first.
        refused: rule sets that could not be used; the one in force stayed.
        failures: times in a row that the source could not be asked.
    """

    def __init__(
        self,
        source: RulesSource,
        make: Callable[[bytes, str], InForce],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.reloads = 0
        self.refused = 0
        self.failures = 0
        self._source = source
        self._make = make
        self._sleep = sleep
        self._tag: object = None
        self._in_force: InForce | None = None
        self._watching: asyncio.Task[None] | None = None
        if source.at_once is not None:  # so that a mistake shows before anything starts
            self._take_first(*source.at_once())

    @property
    def in_force(self) -> InForce:
        """What is in force.

        Raises:
            ConfigError: nothing is before `start`, where the rules are not on this host.
        """
        if self._in_force is None:
            raise ConfigError(f"rules at {self._source.where} are read when the worker starts")
        return self._in_force

    async def start(self) -> None:
        """Read the rule set if it was not yet, and watch its source from now on.

        Raises:
            ConfigError: the first rule set cannot be used.
            SourceError: it cannot be fetched.
        """
        if self._in_force is None:
            try:
                published = await self._source.fetch(None)
                assert published is not None, "nothing is known yet, so it cannot be the same"
                self._take_first(*published)
            except BaseException:
                await self._source.aclose()
                raise
        if self._source.changes:
            self._watching = asyncio.create_task(self._watch(), name="watch fraud rules")

    async def stop(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        await self._source.aclose()

    async def look(self) -> None:
        """Ask the source once, and put what is new into force."""
        try:
            published = await self._source.fetch(self._tag)
        except SourceError as error:
            self.failures += 1
            if self.failures == 1:
                log.warning("%s; %s stays in force", error, self.in_force.decider.version)
            return
        self.failures = 0
        if published is None:
            return
        self._tag = published.tag
        before = self.in_force.decider
        try:
            made = self._make(published.content, self._source.where)
        except ConfigError as error:
            self.refused += 1
            log.error("rules refused: %s; %s stays in force", error, before.version)
            return
        if made.decider.version != before.version:
            self._in_force = made
            self.reloads += 1
            log.info("rules %s in force in place of %s", made.decider.version, before.version)

    async def _watch(self) -> None:
        while True:
            await self._sleep(POLL_S)
            await self.look()

    def _take_first(self, content: bytes, tag: object) -> None:
        self._in_force = self._make(content, self._source.where)
        self._tag = tag
