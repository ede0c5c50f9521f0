"""The wire: client and fast codec, records and positions, shard lineage, readers."""
