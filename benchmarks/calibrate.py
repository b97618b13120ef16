"""Seconds and memory from a population at hand to a new person's bundle, and to C in 8 bits.

    python benchmarks/calibrate.py --population populations/3dc --person 3dc --subject Participant1

Each command is a process of its own, as a user starts it, with one thread; imports count. The
population must not hold the person: myodistill pretrain --dataset 3dc --fold none --exclude NAME.
Fails where a float bundle takes 20 s or more, C in 8 bits 30 s or more, or either 1 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine

LIMITS = {"float bundle": 20.0, "c-int8": 30.0}
MOST = 1e9


def measure(words: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds, and the most bytes that one so far held."""
    code = "from myodistill.cli.main import main; main()"
    begin = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, *words], check=True, env=environment)
    seconds = time.perf_counter() - begin
    return seconds, 1024.0 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=Path, required=True)
    parser.add_argument("--person", required=True, help="as for myodistill calibrate")
    parser.add_argument("--subject", help="whose, where PERSON holds several people")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    print(machine())
    fast = True
    with tempfile.TemporaryDirectory() as folder:
        common = ["calibrate", str(asked.population), asked.person, "--no-estimate"]
        common += ["--subject", asked.subject] if asked.subject else []
        for what, extra in (("float bundle", []), ("c-int8", ["--to", "c-int8"])):
            out = str(Path(folder) / what.replace(" ", "-"))
            runs = [measure([*common, "--out", out, *extra]) for _ in range(asked.runs)]
            seconds, peak = min(s for s, _ in runs), max(p for _, p in runs)
            good = seconds < LIMITS[what] and peak < MOST
            fast = fast and good
            print(
                f"{what}: best of {asked.runs} {seconds:.1f} s (limit {LIMITS[what]:.0f}), "
                f"{peak / 1e6:.0f} MB (limit {MOST / 1e6:.0f}), {'pass' if good else 'FAIL'}"
            )
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
