"""The states and counters a worker keeps between batches, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from streamproc.state.cell import Codec, StateCell
from streamproc.state.counts import Counts

__all__ = ["CellCache"]

# What a cell costs beside its stored bytes: objects, the key, the decoded value's head.
_OVERHEAD_BYTES = 600

Held = StateCell | Counts


class CellCache:
    """Least recently used cells go first once `limit_bytes` is passed.

    A cell that is dropped is only forgotten: the next batch that needs it loads it again. Cells
    in use are never dropped, because `trim` runs between batches only.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._cells: OrderedDict[str, Held] = OrderedDict()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """The estimated bytes held."""
        return self._bytes

    def get(self, key: str, codec: Codec) -> StateCell:
        """Return the state cell of `key`, a new one if it is not held."""
        held = self._cells.get(key)
        return held if isinstance(held, StateCell) else StateCell(key, codec)

    def counts(self, key: str) -> Counts:
        """Return the copy of the counters at `key`, an empty one if it is not held."""
        held = self._cells.get(key)
        return held if isinstance(held, Counts) else Counts(key)

    def keep(self, cells: Iterable[Held]) -> None:
        """Hold `cells` as the most recently used, and drop the oldest beyond the limit."""
        held, to_end = self._cells, self._cells.move_to_end
        for cell in cells:
            size = _OVERHEAD_BYTES + 3 * cell.size
            key, before = cell.key, held.get(cell.key)
            if before is None:
                self._bytes += size
                held[key] = cell
            else:
                self._bytes += size - before.held_bytes
                to_end(key)
                held[key] = cell
            cell.held_bytes = size
        while self._bytes > self._limit and held:
            _, oldest = held.popitem(last=False)
            self._bytes -= oldest.held_bytes

    def discard(self, cells: Iterable[Held]) -> None:
        """Forget `cells`, whose stored values are in doubt."""
        for cell in cells:
            held = self._cells.pop(cell.key, None)
            if held is not None:
                self._bytes -= held.held_bytes

    def clear(self) -> None:
        """Forget everything, after the store turned out to be an older one."""
        self._cells.clear()
        self._bytes = 0
