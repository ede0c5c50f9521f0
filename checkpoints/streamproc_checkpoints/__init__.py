"""Lease and checkpoint stores, found by the entry-point group `streamproc.checkpoints`.

Each module offers `async def open_store(group, options) -> LeaseStore`. What every store must do
is written down, and tested, in `tests/checkpoints/test_contract.py`.
"""
