"""The drivers that kill commands and fill their disk see what they are to see."""

from __future__ import annotations

import json
from pathlib import Path

import chaos
import numpy as np
import pandas as pd
import pytest
import remains


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle.json").write_text(json.dumps({"origin": {"seconds": 1.0, "k": 1}}))
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    frame = pd.DataFrame({"accuracy": [0.5], "seconds": [1.0]})
    frame.to_parquet(tmp_path / "results.parquet")
    return tmp_path


def test_times_are_no_difference(folder: Path) -> None:
    before = remains.snapshot(folder)
    (folder / "bundle.json").write_text(json.dumps({"origin": {"k": 1, "seconds": 2.0}}))
    pd.DataFrame({"accuracy": [0.5], "seconds": [2.0]}).to_parquet(folder / "results.parquet")
    assert remains.differences(before, remains.snapshot(folder)) == []


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors", "results.parquet", "new"])
def test_everything_else_is(folder: Path, name: str) -> None:
    before = remains.snapshot(folder)
    if name == "results.parquet":
        pd.DataFrame({"accuracy": [np.nextafter(0.5, 1)]}).to_parquet(folder / name)
    else:
        (folder / name).write_text('{"origin": {"k": 2}}')
    assert remains.differences(before, remains.snapshot(folder)) == [name]


def test_half_files_and_hidden_ones_are_found(folder: Path) -> None:
    (folder / "bundle.json").write_text('{"origin"')
    (folder / ".bundle.abc" / "deeper").mkdir(parents=True)
    (folder / ".bundle.abc" / "deeper" / ".weights.xyz").write_text("half")
    assert [name.split()[0] for name in remains.unreadable(folder)] == [
        "bundle.json",
        "weights.safetensors",
    ]
    assert remains.hidden(folder) == 1


def test_a_worker_that_outlives_its_parent_is_an_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos, "PYTHON", ["sh", "-c"])
    monkeypatch.setattr(chaos, "PATIENCE", 0.5)
    program = ["sleep 60 & sleep 60"]
    assert chaos.finish(program, tmp_path, after=1.0, alone=True).orphans == 2
    assert chaos.finish(program, tmp_path, after=1.0, alone=False).orphans == 0


@pytest.mark.parametrize(
    ("done", "wrong"),
    [
        (chaos.Done(2, "fold 1, seed 0: 50%\nmyodistill: out: the disk is full\n"), ""),
        (chaos.Done(2, "myodistill: out: expected to write there, got: None\n"), "exit code 2"),
        (chaos.Done(1, "Traceback\nOSError: the disk is full\n"), "exit code 1, 2 lines"),
        (chaos.Done(-7), "exit code -7, 0 lines"),
    ],
)
def test_a_full_disk_is_said_in_one_line(done: chaos.Done, wrong: str) -> None:
    assert chaos.one_line(done).startswith(wrong)
    assert bool(chaos.one_line(done)) == bool(wrong)


@pytest.mark.slow
def test_commands_survive_kills(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaos.main(["kill", "--times", "18", "--seed", "1"]) == 0, capsys.readouterr().out


@pytest.mark.slow
def test_commands_survive_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaos.main(["disk", "--levels", "3"]) == 0, capsys.readouterr().out
