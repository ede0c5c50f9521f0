"""One batch's way: decode, check, dispatch, commit; and what becomes of events that fail."""
