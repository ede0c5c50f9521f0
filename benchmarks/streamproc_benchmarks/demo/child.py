"""`streamproc` as a child of the demonstration: it ends when its parent does, even by a kill -9.

The parent holds the other end of stdin and never writes. Unlike prctl(PR_SET_PDEATHSIG) that works
on every POSIX system.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

_GRACE_S: Final = 5.0


def _end_with_parent() -> None:
    # Not sys.stdin: at its end the interpreter needs the lock that a waiting reader holds.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)  # nobody is left who could wait for it to drain


if __name__ == "__main__":
    from streamproc.cli.main import main

    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    main()
