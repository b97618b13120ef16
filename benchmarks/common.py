"""Shared by the benchmarks: clocks, the machine's name, and its memory-copy rate."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def seconds(work: Callable[[], object], least: float = 0.5, most: int = 50) -> float:
    """Return the best of several runs, which other jobs on the machine disturb least."""
    best, spent, runs = float("inf"), 0.0, 0
    while (spent < least or runs < 3) and runs < most:
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
        spent += time.perf_counter() - begin
        runs += 1
    return best


def copy_rate() -> float:
    """Bytes a second of a plain copy of 64 MiB to memory that is mapped already."""
    source = np.ones(2**24, dtype=np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    return source.nbytes / seconds(lambda: np.copyto(target, source))


def processor() -> str:
    """Name the processor, as the system does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def machine() -> str:
    """Name the processor, its cores, and how busy they were."""
    return f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def libemg(python: str, source: str, *arguments: str) -> str:
    """Run the LibEMG half of a benchmark in LibEMG's own environment; return what it prints."""
    import subprocess

    half = Path(__file__).with_name("libemg_half.py")
    environment = {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [python, str(half), *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout
