"""The command line: one module a command; plugins add theirs under `streamproc.commands`."""
