"""One handler call, in time: what becomes of handlers that raise, or that do not come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from streamproc.context import Context, Item
from streamproc.pipeline.routes import Target

__all__ = ["Crew", "HandlerError", "Lane", "call_plain"]

log = logging.getLogger(__name__)

# What a cancelled handler gets to clean up before it is left behind.
_GRACE_S: Final = 1.0

# The loop itself holds tasks weakly.
_left_behind: set[asyncio.Task[None]] = set()


class HandlerError(Exception):
    """A handler raised `error`, took too long, or was cancelled by something it waited for.

    Attributes:
        target: whose handler it is.
        items: the events of the call: one, or a run of a batch handler.
        error: what it raised.
    """

    def __init__(self, target: Target, items: Sequence[Item], error: BaseException) -> None:
        super().__init__(target.handler.name)
        self.target = target
        self.items = items
        self.error = (
            error
            if isinstance(error, Exception)
            else RuntimeError(f"cancelled from within: {error!r}")
        )


def call_plain(target: Target, items: Sequence[Item], event: Any, context: Any) -> None:
    """Call a plain function; nothing can interrupt it.

    Raises:
        HandlerError: it raised.
    """
    try:
        target.call(event, context)
    except (Exception, asyncio.CancelledError) as error:
        raise HandlerError(target, items, error) from error


class Lane:
    """A task that makes handler calls one after another.

    A call that outlasts its policy's timeout has failed: its contexts are closed and its task is
    cancelled. A handler that swallows the cancellation and goes on is left behind a second later;
    everything it still holds of the transaction is dead.
    """

    def __init__(self, crew: Crew, work: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        self._crew = crew
        self._loop = asyncio.get_running_loop()
        self._contexts: Sequence[Context[object]] = ()
        self._name = ""
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._task = asyncio.create_task(work(self))
        self._task.add_done_callback(self._ended)

    async def call(
        self,
        target: Target,
        items: Sequence[Item],
        event: Any,
        context: Any,
        contexts: Sequence[Context[object]],
    ) -> None:
        """Call a handler, plain or async, with `event` and `context`.

        Args:
            target: whose handler.
            items: the events of the call.
            event: its first argument.
            context: its second one.
            contexts: what is closed when its time is over.

        Raises:
            HandlerError: it raised, or its time was over.
        """
        if not target.handler.is_async:
            call_plain(target, items, event, context)
            return
        self._contexts, self._name = contexts, target.handler.name
        timeout, late = target.policy.timeout, False

        def expire() -> None:
            nonlocal late
            late = True
            self._crew.fail(HandlerError(target, items, _too_late(timeout)))
            self._cut_off()

        timer = None if timeout is None else self._loop.call_later(timeout, expire)
        problem: BaseException | None = None
        try:
            await target.call(event, context)
        except asyncio.CancelledError as error:
            if self._crew.is_cancelled:
                raise
            # Not our own cancellation: something that the handler waited for was cancelled, or the
            # handler cancelled its task. Taken for ours, the lane's other events would be lost.
            problem = error
        except Exception as error:
            problem = error
        finally:
            if timer is not None:
                timer.cancel()
        if late:
            raise HandlerError(target, items, _too_late(timeout)) from problem
        if problem is not None:
            raise HandlerError(target, items, problem) from problem

    def cancel(self) -> None:
        """Cancel the call in hand; leave it behind if it goes on."""
        if not self._task.done():
            self._cut_off()

    def result(self) -> None:
        """Raise what is no handler's failure: a defect of the pipeline."""
        if self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            if error is not None and not isinstance(error, HandlerError):
                raise error

    def _cut_off(self) -> None:
        for context in self._contexts:
            context.close()
        self._task.cancel()
        self._loop.call_later(_GRACE_S, self._leave)

    def _leave(self) -> None:
        if not self.over.done():
            _left_behind.add(self._task)
            log.error(
                "%s goes on although it was cancelled; it is left behind, and its context is dead",
                self._name,
            )
            self.over.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if task in _left_behind:
            _left_behind.discard(task)
            log.warning("%s, which was left behind, has ended", self._name)
        elif not self.over.done():
            if isinstance(error, HandlerError):
                self._crew.fail(error)
            self.over.set_result(None)


class Crew:
    """Lanes that work side by side on one stage of a batch.

    Attributes:
        failure: the first that a handler failed with; the lanes stop at their next call.
        is_cancelled: whether the whole crew was cancelled.
    """

    def __init__(self) -> None:
        self.failure: HandlerError | None = None
        self.is_cancelled = False
        self._lanes: list[Lane] = []

    def start(self, work: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        """Start a lane."""
        self._lanes.append(Lane(self, work))

    def fail(self, failure: HandlerError) -> None:
        """Note a failure."""
        self.failure = self.failure or failure

    async def join(self) -> None:
        """Wait until every lane has ended or is left behind.

        Raises:
            HandlerError: a handler failed.
        """
        try:
            await asyncio.wait([lane.over for lane in self._lanes])
        except asyncio.CancelledError:
            self.is_cancelled = True
            for lane in self._lanes:
                lane.cancel()
            await asyncio.wait([lane.over for lane in self._lanes])
            raise
        for lane in self._lanes:
            lane.result()
        if self.failure is not None:
            raise self.failure


def _too_late(timeout: float | None) -> TimeoutError:
    return TimeoutError(f"not done within {timeout:g} s")
