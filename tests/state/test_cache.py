"""What a worker keeps of its states between batches is bounded in bytes."""

from __future__ import annotations

from streamproc.state.cache import CellCache
from streamproc.state.cell import Codec, StateCell

CODEC = Codec("p", int, None)


def held(cache: CellCache, key: str, size: int) -> StateCell:
    cell = StateCell(key, CODEC)
    cell.load(1, b"1" * size)
    cache.keep([cell])
    return cell


def test_the_least_recently_used_go_first_and_the_bound_holds() -> None:
    cache = CellCache(10_000)
    cells = [held(cache, str(n), 500) for n in range(20)]
    assert 0 < cache.size_bytes <= 10_000
    assert cache.get("19", CODEC) is cells[19]
    assert cache.get("0", CODEC) is not cells[0], "dropped: a new cell is loaded again"


def test_a_cell_that_grows_is_counted_once_and_a_discarded_one_not_at_all() -> None:
    cache = CellCache(1_000_000)
    cell = held(cache, "a", 10)
    before = cache.size_bytes
    cell.load(2, b"1" * 110)
    cache.keep([cell])
    assert cache.size_bytes == before + 300
    cache.discard([cell])
    assert cache.size_bytes == 0
    assert cache.get("a", CODEC) is not cell


def test_nothing_is_kept_without_room() -> None:
    cache = CellCache(0)
    cell = held(cache, "a", 10)
    assert cache.size_bytes == 0
    assert cache.get("a", CODEC) is not cell
