"""Features against LibEMG 2.0.3's, on the same windows of 10 × 151, one thread.

python benchmarks/features.py LIBEMG_PYTHON LIBEMG_SOURCE
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import libemg, machine, seconds

from myodistill.signals.features import hudgins, log_covariance, power_descriptors, time_domain

COUNT = 4000


def main(python: str, source: str) -> None:
    rng = np.random.default_rng(0)
    windows = (100 * rng.standard_normal((COUNT, 10, 151))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "windows.npy", Path(folder) / "features.npz"
        np.save(path, windows.astype(np.float64))
        times = json.loads(libemg(python, source, "features", str(path), str(out)))
        with np.load(out) as theirs:
            found = {name: theirs[name] for name in theirs.files}
    print(machine())
    for name, function in (("HTD", hudgins), ("TDPSD", power_descriptors)):
        mine = seconds(lambda f=function: f(windows))
        difference = np.abs(function(windows) - found[name]) / np.maximum(np.abs(found[name]), 1e-9)
        print(
            f"{name}: ours {COUNT / mine:,.0f} windows/s, LibEMG {COUNT / times[name]:,.0f}, "
            f"ratio {times[name] / mine:.1f}, largest relative difference {difference.max():.1e}"
        )
    for name, function in (("time_domain", time_domain), ("log_covariance", log_covariance)):
        mine = seconds(lambda f=function: f(windows))
        print(f"{name}: {COUNT / mine:,.0f} windows/s")


if __name__ == "__main__":
    main(*sys.argv[1:])
