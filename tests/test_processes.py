"""Whoever kills a command is left with no process of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from myodistill.processes import worker_pool


def lonely(seconds: float) -> None:
    """Start a process that works on for so long, or waits for work; and be killed."""
    with worker_pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        if seconds:
            pool.submit(time.sleep, seconds)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_killed_parent_leaves_nobody_behind(seconds: float) -> None:
    code = f"from test_processes import lonely\nif __name__ == '__main__': lonely({seconds})"
    killed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    worker = Path(f"/proc/{int(killed.stdout)}")
    until = time.monotonic() + 20
    while worker.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not worker.exists()
