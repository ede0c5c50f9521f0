"""Whether what was consumed is what was published: each record once, each shard in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from streamproc.errors import StreamprocError

__all__ = ["CountsWrong", "Verdict", "verify"]

_SHOWN = 3


class CountsWrong(StreamprocError):
    """A run lost, doubled or reordered records, so its speed means nothing."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How published and consumed records compare.

    Attributes:
        published: records in the stream.
        consumed: records done, repetitions included.
        lost: published and never done.
        duplicated: done again after the first time.
        reordered: done, the first time, after a record of their shard that follows them.
        unknown: done, but never published.
        examples: where it went wrong, ``shard/sequence``.
    """

    published: int
    consumed: int
    lost: int
    duplicated: int
    reordered: int
    unknown: int
    examples: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether every record was done exactly once and in order."""
        return not (self.lost or self.duplicated or self.reordered or self.unknown)

    def require_clean(self, what: str) -> None:
        """Let only a clean run pass.

        Raises:
            CountsWrong: it is not.
        """
        if not self.is_clean:
            raise CountsWrong(
                f"{what}: {self.published} records published, {self.consumed} consumed; "
                f"{self.lost} lost, {self.duplicated} duplicated, {self.reordered} reordered, "
                f"{self.unknown} unknown ({', '.join(self.examples)}); no figure is shown"
            )


def verify(
    published: Mapping[str, Sequence[str]], consumed: Mapping[str, Sequence[str]]
) -> Verdict:
    """Compare sequence numbers by shard, in the order of publishing and of being done."""
    lost = duplicated = reordered = unknown = 0
    examples: list[str] = []
    for shard in sorted({*published, *consumed}):
        places = {sequence: at for at, sequence in enumerate(published.get(shard, ()))}
        seen: set[str] = set()
        furthest = -1
        for sequence in consumed.get(shard, ()):
            at = places.get(sequence)
            wrong = True
            if at is None:
                unknown += 1
            elif sequence in seen:
                duplicated += 1
            elif at < furthest:
                reordered += 1
            else:
                furthest = at
                wrong = False
            seen.add(sequence)
            if wrong and len(examples) < _SHOWN:
                examples.append(f"{shard}/{sequence}")
        missing = [sequence for sequence in places if sequence not in seen]
        lost += len(missing)
        examples += [f"{shard}/{sequence}" for sequence in missing[: _SHOWN - len(examples)]]
    return Verdict(
        published=sum(len(sequences) for sequences in published.values()),
        consumed=sum(len(sequences) for sequences in consumed.values()),
        lost=lost,
        duplicated=duplicated,
        reordered=reordered,
        unknown=unknown,
        examples=tuple(examples[:_SHOWN]),
    )
