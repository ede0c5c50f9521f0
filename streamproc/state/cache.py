"""The states and counters a worker keeps between batches, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from streamproc.state.cell import Codec, StateCell
from streamproc.state.counters import Counts

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
        self._cells: OrderedDict[str, tuple[Held, int]] = OrderedDict()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """The estimated bytes held."""
        return self._bytes

    def get(self, key: str, codec: Codec) -> StateCell:
        """Return the state cell of `key`, a new one if it is not held."""
        held, _ = self._cells.get(key, (None, 0))
        return held if isinstance(held, StateCell) else StateCell(key, codec)

    def counts(self, key: str) -> Counts:
        """Return the copy of the counters at `key`, an empty one if it is not held."""
        held, _ = self._cells.get(key, (None, 0))
        return held if isinstance(held, Counts) else Counts(key)

    def keep(self, cells: Iterable[Held]) -> None:
        """Hold `cells` as the most recently used, and drop the oldest beyond the limit."""
        for cell in cells:
            size = _OVERHEAD_BYTES + 3 * cell.size
            held = self._cells.pop(cell.key, None)
            self._bytes += size - (0 if held is None else held[1])
            self._cells[cell.key] = (cell, size)
        while self._bytes > self._limit and self._cells:
            _, (_, size) = self._cells.popitem(last=False)
            self._bytes -= size

    def discard(self, cells: Iterable[Held]) -> None:
        """Forget `cells`, whose stored values are in doubt."""
        for cell in cells:
            held = self._cells.pop(cell.key, None)
            if held is not None:
                self._bytes -= held[1]

    def clear(self) -> None:
        """Forget everything, after the store turned out to be an older one."""
        self._cells.clear()
        self._bytes = 0
