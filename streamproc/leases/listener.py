"""What the engine hears from the lease coordinator."""

from __future__ import annotations

from typing import Protocol

from streamproc.leases.lease import Lease

__all__ = ["Listener"]


class Listener(Protocol):
    """The engine's side of a coordinator; called from the coordinator's loop, must not block."""

    def lease_acquired(self, lease: Lease) -> None:
        """Start the shard; `lease.counter` is the epoch, greater than every earlier owner's."""
        ...

    def lease_lost(self, key: str) -> None:
        """Stop at once; nothing may be committed any more."""
        ...

    def handover_requested(self, key: str) -> None:
        """Drain, commit, then call `release`; the lease stays valid meanwhile."""
        ...
