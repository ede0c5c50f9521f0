"""How a process notices that the one it belongs to is gone, as a worker its supervisor.

The parent holds the writing end of a pipe, its children the reading end. Nothing is ever
written: the end of the pipe means that the parent died, however it did. Unlike
prctl(PR_SET_PDEATHSIG) this works on every Unix, and when the thread that started the child ends.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

__all__ = ["PARENT_PIPE", "exit_when_parent_dies"]

# Not a STREAMPROC_ variable: those are settings.
PARENT_PIPE: Final = "_STREAMPROC_PARENT_PIPE"
_EXIT_CODE: Final = 70  # EX_SOFTWARE of sysexits.h


def exit_when_parent_dies(drain_timeout: float, grace: float = 2.0) -> bool:
    """Have this process drain, and then end, once its parent is gone; False without a pipe to it.

    It is sent SIGTERM as the parent would have done, and ends for certain when it has not
    ended `drain_timeout` plus `grace` seconds later. Call it once; until a handler of SIGTERM is in
    place, the signal ends it at once.
    """
    text = os.environ.pop(PARENT_PIPE, None)
    if text is None:
        return False
    pipe = int(text)
    # A process that a plugin starts is not the parent's.
    os.set_inheritable(pipe, False)
    threading.Thread(
        target=_watch, args=(pipe, drain_timeout + grace), name="parent watch", daemon=True
    ).start()
    return True


def _watch(pipe: int, patience: float) -> None:
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os._exit(_EXIT_CODE)
