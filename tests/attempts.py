"""Runs through the command line on recordings in files, honest ones and attempts to cheat.

An attempt that is refused ends with exit code 2 and one line. One without effect leaves the bundles
and scores of an honest run.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import people
import yaml
from people import DecisionStream, Takes

from myodistill.cli import main as cli

SETTINGS = {
    "fold": [1],  # holds out P1 and P6
    "k": [0, 2],
    "student_model": ["log-power-10k"],
    "adapt_batch_norm": True,
    "calibrate_teachers": True,
    "augmentation": {"gain_db": 1.0},
    "pretrain": {"num_epochs": 2},
    "pretrain_student": {"num_epochs": 2},
    "finetune": {"num_epochs": 3, "patience": 2},
    "distill": {"num_epochs": 3, "patience": 2},
}
HELD_OUT, TRAINING = ("P1", "P6"), ("P2", "P3", "P4", "P5")
LATE = 2
"""The first repetition beyond the two that calibrate."""


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Trained(NamedTuple):
    takes: Takes
    data: Path
    out: Path


def call(*words: object) -> Said:
    """Run a command in this process."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["myodistill", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        return Said(int(stop.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("a command ends with an exit code")


def train(data: Path, out: Path, command: str = "distill", **changes: object) -> Said:
    config = data.with_name(f"{out.name}.settings.yaml")
    config.write_text(yaml.safe_dump(SETTINGS | changes))
    return call(command, "--config", config, "--dataset", data, "--out", out)


def refused(said: Said, *names: str) -> None:
    """Require exit code 2 and, beside lines of progress, one line that has some names."""
    assert said.code == 2, said.out + said.err
    lines = [line for line in said.err.splitlines() if line.startswith("myodistill: ")]
    assert len(lines) == 1, said.err
    for name in names:
        assert name in lines[0]


def honest(takes: Takes, folder: Path, command: str = "distill", **changes: object) -> Path:
    said = train(people.write(folder / "data", takes), folder / "run", command, **changes)
    assert said.code == 0, said.err
    return folder / "run"


def train_original(folder: Path) -> Trained:
    """Train honestly on six people."""
    takes = people.record(subjects=6, repetitions=3)
    return Trained(takes, folder / "data" / "people.yaml", honest(takes, folder))


def bundles(out: Path) -> dict[str, tuple[bytes, Any, Any]]:
    """Weights, pre-processing and what was seen, of every bundle of a run."""
    found = {}
    for path in sorted(out.rglob("bundle.json")):
        card = json.loads(path.read_text())
        weights = path.with_name("weights.safetensors").read_bytes()
        found[str(path.parent.relative_to(out))] = (weights, card["preprocessing"], card["seen"])
    return found


def scores(out: Path) -> dict[str, dict[str, np.ndarray]]:
    paths = sorted(out.rglob("scores/*.npz"))
    return {str(path.relative_to(out)): dict(np.load(path)) for path in paths}


def table(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "results.parquet").drop(columns="seconds")


def refused_or_harmless(said: Said, out: Path, original: Path) -> None:
    """Require that an attempt was refused, or that everything is as in the honest run."""
    if said.code == 2:
        refused(said)
        return
    assert said.code == 0, said.err
    assert bundles(out) == bundles(original)
    assert table(out).equals(table(original))
    for name, arrays in scores(original).items():
        for key, array in arrays.items():
            assert np.array_equal(scores(out)[name][key], array), name


Change = Callable[[DecisionStream], None]


def changed(takes: Takes, session: str, change: Change, who: tuple[str, ...] = HELD_OUT) -> Takes:
    new = copy.deepcopy(takes)
    for subject in who:
        change(new[subject, session])
    return new


def relabel(take: DecisionStream, first: int = 0) -> None:
    """Let every gesture from a repetition on be called another."""
    here = (take["turn"] >= first) & (take["label"] != people.IGNORED)
    take["label"][here] = (take["label"][here] + 1) % len(people.GESTURES)


def replace(take: DecisionStream, first: int = 0) -> None:
    """Put other noise in the place of every sample from a repetition on."""
    here = take["turn"] >= first
    own = zlib.crc32(take["emg"].tobytes())  # the same noise in two takes would be a copy
    noise = np.random.default_rng(own).standard_normal(take["emg"].shape)
    take["emg"][here] = 5 * noise[here]
