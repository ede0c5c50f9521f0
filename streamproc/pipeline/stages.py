"""Which calls of a batch are made together, so that batch handlers see runs and order holds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from streamproc.context import Item
from streamproc.pipeline.decode import Call
from streamproc.pipeline.routes import Target

__all__ = ["Run", "Stage", "order_keys", "stages"]


class Run:
    """Events that a batch handler takes in one call, in stream order."""

    __slots__ = ("calls", "items", "keys", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.items: list[Item] = []
        self.calls: list[Call] = []
        self.keys: set[Hashable] = set()

    def events(self) -> list[Any]:
        """Return what the handler is called with."""
        return [event for _, event, _, _ in self.calls]


class Stage:
    """Calls with one event each, and then runs; all of it before the next stage."""

    __slots__ = ("runs", "steps")

    def __init__(self) -> None:
        self.steps: list[tuple[Item, Sequence[Call]]] = []
        self.runs: list[Run] = []


def stages(items: Sequence[Item], has_runs: bool) -> Iterator[Stage]:
    """Divide a batch into stages; into one where no handler of a processor waits for another.

    Within a processor, events that share a partition key or a state are handled in stream order.
    A run is therefore closed before another handler of its processor sees such an event; events
    of other processors and other keys go on past it.
    """
    stage = Stage()
    if not has_runs:
        stage.steps = [(item, item.calls) for item in items]
        yield stage
        return
    for item in items:
        if any(_must_wait(stage, item, call) for call in item.calls):
            yield stage
            stage = Stage()
        single = []
        for call in item.calls:
            if call[0].handler.is_batch:
                _add_to_run(stage, item, call)
            else:
                single.append(call)
        if single:
            stage.steps.append((item, single))
    yield stage


def order_keys(item: Item, calls: Sequence[Call]) -> list[Hashable]:
    """Return what orders an event: its partition key, and every state that it touches."""
    keys: list[Hashable] = [item.partition_key]
    for target, _, key, cells in calls:
        if key is not None:
            keys.append((target.processor, key))
        keys += [cell.key for cell in cells.values()]
    return keys


def _must_wait(stage: Stage, item: Item, call: Call) -> bool:
    """Whether another handler of the processor has an earlier event of these keys in a run."""
    target = call[0]
    others = [
        run for run in stage.runs
        if run.target.processor == target.processor and run.target is not target
    ]  # fmt: skip
    return any(not run.keys.isdisjoint(order_keys(item, (call,))) for run in others)


def _add_to_run(stage: Stage, item: Item, call: Call) -> None:
    run = next((run for run in stage.runs if run.target is call[0]), None)
    if run is None:
        run = Run(call[0])
        stage.runs.append(run)
    run.items.append(item)
    run.calls.append(call)
    run.keys.update(order_keys(item, (call,)))
