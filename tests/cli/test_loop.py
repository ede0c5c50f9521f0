"""The loop of the commands: SIGTERM ends what runs in it in order."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from streamproc.cli.loop import run_loop
from tests.waiting import until


async def forever(done: list[str]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        done.append("cleared away")


def test_sigterm_cancels_it_and_the_exit_code_tells() -> None:
    done: list[str] = []
    with pytest.raises(SystemExit) as ended:
        run_loop(forever(done))
    assert done == ["cleared away"]
    assert ended.value.code == 143


def test_what_handles_the_signal_itself_is_let_do_so() -> None:
    async def main() -> int:
        told: list[int] = []
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.append, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: told)
        return 7

    assert run_loop(main()) == 7


def test_a_cancellation_of_its_own_is_none_by_a_signal() -> None:
    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_loop(main())


def test_afterwards_the_signal_ends_the_process_as_before() -> None:
    run_loop(asyncio.sleep(0))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
