"""The benchmark of long streams, for a minute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "endurance.py"


def test_a_minute_with_every_fault() -> None:
    words = ["--minutes", "1.2", "0.05", "--live-seconds", "0"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("counted exactly") == done.stdout.count("all as offline") == 2
    assert "'gap': 2, 'duplicate': 1, 'late': 1, 'nan': 1" in done.stdout
