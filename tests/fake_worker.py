"""A worker process for tests of the supervisor: does nothing, and ends as files say.

Usage: fake_worker.py FOLDER [--set KEY=VALUE ...]. In FOLDER it reads `die` or `die-<number>` (end
at once with that code), `stubborn` (do not drain) and `exit` (the code after draining); it appends
to `started` and `drained`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from streamproc.parent_watch import exit_when_parent_dies


def main() -> None:
    folder = Path(sys.argv[1])
    settings = dict(text.split("=", 1) for text in sys.argv[2:] if text != "--set")
    number = Path(settings["http.socket"]).stem

    def note(what: str) -> None:
        # One short append is one write: lines of several processes do not mix.
        with (folder / what).open("a") as file:
            file.write(f"{number} {os.getpid()} {' '.join(sys.argv[3:])}\n")

    def on_sigterm(_number: int, _frame: object) -> None:
        if not (folder / "stubborn").exists():
            note("drained")
            code = folder / "exit"
            os._exit(int(code.read_text()) if code.exists() else 0)

    signal.signal(signal.SIGTERM, on_sigterm)
    exit_when_parent_dies(drain_timeout=0.2, grace=0.1)
    note("started")
    for name in ("die", f"die-{number}"):
        if (folder / name).exists():
            os._exit(int((folder / name).read_text()))
    while True:
        signal.pause()


main()
