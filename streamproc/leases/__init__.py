"""Who owns which shard: leases, their stores' protocol, assignment, shard sync, coordination."""
