"""The `streamproc bench` command: load, consumers side by side, and a report that is checked."""
