"""A Python module as a child that ends when its parent does, even by a kill -9 of the parent.

Usage: ``python -m streamproc_benchmarks.child MODULE ARGUMENTS...``; `start_module` starts one.
"""

from __future__ import annotations

import asyncio
import functools
import os
import runpy
import sys
from collections.abc import Mapping
from typing import Any, Final

from streamproc.parent_watch import PARENT_PIPE, exit_when_parent_dies

__all__ = ["start_module"]

# Nobody is left who could wait for a long drain.
_PATIENCE_S: Final = 10.0


async def start_module(
    module: str, *arguments: str, env: Mapping[str, str], **streams: Any
) -> asyncio.subprocess.Process:
    """Run a module as ``python -m`` does, in a process that does not outlive this one.

    It is in a session of its own: Ctrl-C is for the command, which then ends its processes.

    Args:
        module: its full name.
        arguments: what it finds in `sys.argv`.
        env: its environment.
        streams: stdin, stdout and stderr, as `asyncio.create_subprocess_exec` takes them.
    """
    lifeline = _lifeline()
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamproc_benchmarks.child", module, *arguments),
        env={**env, PARENT_PIPE: str(lifeline)},
        pass_fds=(lifeline,),
        start_new_session=True,
        **streams,
    )


@functools.cache
def _lifeline() -> int:
    """Return the reading end of a pipe whose other end closes when this process ends."""
    reading, _ = os.pipe()
    return reading


if __name__ == "__main__":
    exit_when_parent_dies(_PATIENCE_S)
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
