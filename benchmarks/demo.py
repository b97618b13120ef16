"""A stopwatch on `make demo`'s main job: seconds, and what it reached.

python benchmarks/demo.py
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from pathlib import Path

from myodistill.config import Settings, read_settings
from myodistill.evaluation.results import markdown
from myodistill.studies.experiment import run_experiment


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        values = read_settings(Path(__file__).parents[1] / "examples" / "demo.yaml")
        begin = time.perf_counter()
        table = run_experiment(Settings.load({**values, "out": folder}))
        seconds = time.perf_counter() - begin
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{seconds:.0f} s\n")
    print(markdown(table))


if __name__ == "__main__":
    main()
