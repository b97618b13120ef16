"""Shared by all tests: files in the datasets' own layout, and where the real ones are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest_plugins = ["page_fixtures"]  # of tests/live
torch.set_num_threads(1)  # before any fixture: sums, and so weights, depend on it
DATA = Path(os.environ.get("MYODISTILL_DATA") or Path(__file__).parents[2] / "shared" / "data")


LACKING = {
    "real": None if DATA.is_dir() else f"no recordings in {DATA} (set MYODISTILL_DATA)",
    "browser": None if shutil.which("chromium") else "chromium is not installed",
}
"""What a machine lacks for the tests with a mark; None if nothing."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs real recordings, or a browser, where there are none."""
    for mark, reason in LACKING.items():
        if reason and item.get_closest_marker(mark):
            pytest.skip(reason)


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test finds recordings, or leaves files, that it did not ask for."""
    monkeypatch.setenv("MYODISTILL_DATA", "")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MYODISTILL_DATA", str(DATA))
    return DATA


def write_threedc(folder: Path, subjects: int = 2, samples: int = 400, seed: int = 0) -> Path:
    """Write noise in the layout of the 3DC dataset; gestures differ in which channel is loud."""
    rng = np.random.default_rng(seed)
    root = folder / "3DCDataset-test"
    for subject in range(1, subjects + 1):
        for session in ("train", "test"):
            emg = root / f"Participant{subject}" / session / "EMG"
            emg.mkdir(parents=True)
            for repetition in range(4):
                for gesture in range(11):
                    scale = np.full(10, 20.0)
                    scale[gesture % 10] = 100 if gesture < 10 else 5
                    signal = (rng.standard_normal((samples, 10)) * scale).astype(int)
                    path = emg / f"3dc_EMG_gesture_{repetition}_{gesture}.txt"
                    path.write_text("\n".join(",".join(map(str, row)) for row in signal) + "\n")
    return root


def write_myo(folder: Path, samples: int = 60, seed: int = 0) -> Path:
    """Write noise in the layout of the Myo dataset: two people in each set."""
    rng = np.random.default_rng(seed)
    root = folder / "MyoArmbandDataset-test"
    for part, sessions in (
        ("PreTraining", ("training0",)),
        ("Evaluation", ("training0", "Test0", "Test1")),
    ):
        for person in ("Female0", "Male0"):
            for session in sessions:
                where = root / f"{part}Dataset" / person / session
                where.mkdir(parents=True)
                for index in range(28):
                    signal = rng.integers(-100, 100, (samples, 8)).astype("<i2")
                    (where / f"classe_{index}.dat").write_bytes(signal.tobytes())
    return root
