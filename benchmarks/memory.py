"""Peak resident memory of a run of one fold, against the recordings that the fold trains on.

    python benchmarks/memory.py [--people 12 48] [--processes 1] [--option views=4 ...]

People are noise in the shape of 3DC: 10 channels at 1000 Hz, 11 gestures held for 5 s, 4
repetitions, 2 sessions, which is 17.6 MB of float32 a person. Each run is a process of its own that
calibrates one held-out subject, or one for each of its processes. Fails where a process takes more
than 1.3 times the float32 bytes of the training people plus 500 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import machine
from scipy.signal import butter, sosfilt

from myodistill.datasets.registry import open_dataset
from myodistill.splits import make_split

MB = 1e6
RATE, CHANNELS, GESTURES, REPETITIONS, SECONDS = 1000, 10, 11, 4, 5
SESSIONS = ("train", "test")
QUICK = ("pretrain", "pretrain_student", "finetune", "distill")

CHILD = """
import json, resource, sys
from myodistill.config import Settings
from myodistill.studies.experiment import run_experiment
if __name__ == "__main__":
    run_experiment(Settings.load(json.loads(sys.argv[1])))
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps([1024 * peak, 1024 * worker, 1024 * int(lines["VmHWM"].split()[0])]))
"""


def record(folder: Path, people: int) -> Path:
    """Write people's recordings, gestures one after another in a file a session; describe them."""
    rng = np.random.default_rng(0)
    band = butter(2, (20, 450), "bandpass", fs=RATE, output="sos")
    length = REPETITIONS * GESTURES * SECONDS * RATE
    order = np.repeat(np.arange(REPETITIONS * GESTURES), SECONDS * RATE)
    labels, turns = order % GESTURES, order // GESTURES
    for person in range(people):
        loud = rng.uniform(5, 100, (GESTURES, CHANNELS))
        for session in SESSIONS:
            signal = sosfilt(band, rng.standard_normal((length, CHANNELS)), axis=0) * loud[labels]
            path = folder / f"p{person}" / f"{session}.npz"
            path.parent.mkdir(exist_ok=True)
            np.savez(path, signal=signal.astype(np.float32), labels=labels, turns=turns)
    about = {
        "files": "{subject}/{session}.npz",
        "signal": "signal",
        "labels": "labels",
        "repetitions_of": "turns",
        "repetitions": REPETITIONS,
        "sampling_rate": RATE,
        "electrodes": {"layout": "ring", "columns": CHANNELS},
        "gestures": {code: f"gesture {code}" for code in range(GESTURES)},
        "calibration_session": SESSIONS[0],
        "test_sessions": list(SESSIONS[1:]),
        "samples": 151,
        "step": 51,
        "passband": [20.0, 450.0],
    }
    (folder / "people.yaml").write_text(yaml.safe_dump(about, sort_keys=False))
    return folder / "people.yaml"


def measure(folder: Path, path: Path, options: dict[str, Any]) -> bool:
    """Run one fold; print the line of it and return whether it kept within the limit."""
    split = make_split(open_dataset(str(path)), 1)
    settings = {
        "dataset": str(path),
        "out": str(folder / "run"),
        "fold": [1],
        "subjects": list(split.heldout[: options["processes"]]),
        "k": [1],
        "resume": False,
        **{stage: {"num_epochs": 1} for stage in QUICK},
        **options,
    }
    begin = time.perf_counter()
    child = [sys.executable, "-c", CHILD, json.dumps(settings)]
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - begin
    peak, worker, high = json.loads(done.stdout.splitlines()[-1])
    raw = len(split.pretraining) * 2 * REPETITIONS * GESTURES * SECONDS * RATE * CHANNELS * 4
    limit, most = 1.3 * raw + 500 * MB, max(peak, worker, high)
    left = sum(one.stat().st_size for one in (folder / "run").rglob("*") if one.is_file())
    print(
        f"{len(split.pretraining) + len(split.heldout):>6} {len(split.pretraining):>9} "
        f"{raw / MB:>8.0f} {peak / MB:>9.0f} {worker / MB:>10.0f} {high / MB:>10.0f} "
        f"{limit / MB:>9.0f} {left / MB:>10.1f} {seconds:>8.0f}  "
        f"{'pass' if most <= limit else 'FAIL'}",
        flush=True,
    )
    return most <= limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, nargs="+", default=[12, 48])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--option", nargs="*", default=[], help="of the run, as YAML: views=4")
    asked = parser.parse_args()
    options: dict[str, Any] = {"processes": asked.processes}
    for option in asked.option:
        name, _, value = option.partition("=")
        options[name] = yaml.safe_load(value)
    print(f"{machine()}; {asked.processes} processes, {options}; in MB")
    print(
        f"{'people':>6} {'training':>9} {'raw':>8} {'ru_maxrss':>9} {'of workers':>10} "
        f"{'VmHWM':>10} {'limit':>9} {'run folder':>10} {'seconds':>8}"
    )
    within = []
    for people in asked.people:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
            folder = Path(name)
            (folder / "recordings").mkdir()
            within.append(measure(folder, record(folder / "recordings", people), options))
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
