"""A baseline joins a run under the run's own protocol, as further rows of the same table."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from myodistill.cli import main as cli
from myodistill.datasets import registry as registry
from myodistill.datasets.synthetic import Synthetic
from myodistill.evaluation import results
from myodistill.evaluation.event_metrics import not_counted

QUICK = [
    *("--dataset", "tiny", "--fold", "1", "--k", "0,1", "--student-model", "log-power-10k"),
    *("--pretrain.num-epochs", "1", "--pretrain-student.num-epochs", "1", "--temperature", "7"),
    *("--finetune.num-epochs", "1", "--distill.num_epochs", "1"),
]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, subjects in (("tiny", 5), ("other", 4)):
        monkeypatch.setitem(
            registry.DATASETS,
            name,
            partial(Synthetic, subjects=subjects, seconds=0.5, repetitions=1),
        )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            registry.DATASETS, "tiny", lambda: Synthetic(subjects=5, seconds=0.5, repetitions=1)
        )
        assert called(patch, "evaluate", "student", "--out", str(folder), *QUICK) == 0
    return folder


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["myodistill", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture
def run(ran: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran, tmp_path / "run"))


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report out where it is not looked at: it takes seconds."""
    monkeypatch.setattr(cli, "report", lambda folder: folder / "report.html")


def rows(folder: Path) -> pd.DataFrame:
    return results.read(folder / "results.parquet")


@pytest.mark.slow
@pytest.mark.usefixtures("unreported")
def test_rows_are_added_to_a_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, counts = rows(run), json.loads((run / "confusion.json").read_text())
    names = "mdm-covariance,gru-10k"
    assert called(monkeypatch, "baseline", names, "--out", str(run)) == 0
    after = rows(run)
    added = after[~after["model"].isin(before["model"])]
    assert after[after["model"].isin(before["model"])].reset_index(drop=True).equals(before)
    assert set(added[["stage", "model", "k"]].itertuples(index=False, name=None)) == {
        ("baseline", "mdm-covariance", 1),
        ("supervised", "gru-10k", 1),
        ("pretrained", "gru-10k", 0),
        ("pretrained", "gru-10k", 1),
    }
    settings = json.loads((run / "settings.json").read_text())
    assert settings["temperature"] == 7, "the run's own settings stay"
    assert settings["baseline"] == ["mdm-covariance", "gru-10k"]
    assert {"log-power-10k", "gru-10k"} <= set(json.loads((run / "models.json").read_text()))
    kept = json.loads((run / "confusion.json").read_text())
    assert all(one in kept["counts"] for one in counts["counts"])
    later = [one for one in kept["counts"] if one not in counts["counts"]]
    new = {(one["stage"], one["model"], one["k"]) for one in later}
    assert new == set(added[["stage", "model", "k"]].itertuples(index=False, name=None))
    command = json.loads((run / "environment.json").read_text())["command"].splitlines()
    assert [line.split()[1] for line in command] == ["evaluate", "baseline"]


def test_every_score_has_its_events_and_answers(run: Path) -> None:
    table, events = rows(run), pd.read_parquet(run / "events.parquet")
    assert len(events) == 4 * len(table)
    sessions = pd.read_parquet(run / "sessions.parquet")
    assert set(sessions["session"]) == {"test"}
    assert sorted(sessions["accuracy"]) == sorted(table["accuracy"])
    assert not_counted(events) == []
    plain = events[(events["votes"] == 1) & (events["threshold"] == 0)]
    assert (plain["rejected"] == 0).all()
    assert (plain["gestures"] == 6).all()
    assert plain["false_activations"].notna().all()
    assert len(list(run.rglob("scores/*.npz"))) == len(table)


@pytest.mark.usefixtures("unreported")
def test_without_probabilities_nothing_is_withheld(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert called(monkeypatch, "baseline", "svm-hudgins", "--out", str(run)) == 0
    events = pd.read_parquet(run / "events.parquet")
    mine = events[events["model"] == "svm-hudgins"]
    assert set(mine["threshold"]) == {0.0}
    assert len(mine) == 2 * (rows(run)["model"] == "svm-hudgins").sum()


@pytest.mark.usefixtures("unreported")
def test_a_baseline_needs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "alone"
    words = ("lda-td-psd", "--dataset", "tiny", "--fold", "1", "--k", "1", "--out", str(out))
    assert called(monkeypatch, "baseline", *words) == 0
    assert set(rows(out)["stage"]) == {"baseline"}
    assert not list(out.rglob("weights.safetensors")), "no network takes part"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("svm-tim-domain",), "unknown baseline 'svm-tim-domain': did you mean svm-"),
        (("gru-10k", "--dataset", "other"), "expected a run on other in"),
        (("lda-td-psd", "--k", "9"), "k: expected 0 to 1 calibration repetitions"),
    ],
)
def test_bad_baselines_are_one_line(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    before = (run / "results.parquet").read_bytes()
    assert called(monkeypatch, "baseline", *words, "--out", str(run)) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
    assert (run / "results.parquet").read_bytes() == before


def test_a_bad_study_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "study", str(tmp_path / "none.yaml")) == 2
    assert "none.yaml: expected a settings file, got: No such file" in capsys.readouterr().err
    (tmp_path / "s.yaml").write_text("out: x\nrun: {}\n")
    assert called(monkeypatch, "study", str(tmp_path / "s.yaml")) == 2
    assert "unknown key 'run': did you mean runs" in capsys.readouterr().err


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "empty": (lambda f: f.iloc[:0], "table is empty"),
    "two datasets": (lambda f: pd.concat([f, f.assign(dataset="b")]), "expected one dataset"),
    "other windows": (
        lambda f: f.assign(windows=range(len(f))),
        "scored on different test sets",
    ),
    "no number": (lambda f: f.assign(accuracy=float("nan")), "score (accuracy) in every row"),
    "twice": (lambda f: pd.concat([f, f.iloc[:1]]), "expected each score once"),
    "old table": (lambda f: f.drop(columns="loss"), "no column loss"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_tables_are_one_line_in_every_command(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    change, message = BAD[kind]
    change(rows(run)).to_parquet(run / "results.parquet")
    figures = ["hypothesis-heatmap", "calibration-curve", "accuracy-cost", "paired-slopes"]
    figures += ["critical-difference"]
    commands = [("report",), ("table",), *(("figure", name) for name in figures)]
    for command in commands:
        assert called(monkeypatch, *command, str(run)) == 2, command
        said = capsys.readouterr().err.strip()
        assert message in said, command
        assert "\n" not in said
    assert not (run / "figures").exists()


def test_one_subject_and_a_missing_method_say_what_cannot_be_drawn(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("hypothesis-heatmap", "critical-difference", "paired-slopes"):
        assert called(monkeypatch, "figure", name, str(run)) == 2
        assert "at least 2 subjects" in capsys.readouterr().err
    for path in run.rglob("scores/*.npz"):
        path.unlink()
    for name in ("confidence", "abstention"):
        assert called(monkeypatch, "figure", name, str(run)) == 2
        assert "got: No such file or directory; a report over" in capsys.readouterr().err


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("confusion.json", '{"counts": [1]}'),
        ("confusion.json", "[[[["),
        ("models.json", "[]"),
        ("environment.json", "\x00"),
        ("settings.json", ""),
        ("settings.json", '{"baseline": 5}'),
        ("settings.json", '{"dataset": "tiny", "baseline": {"a": 1}}'),
        ("events.parquet", "PAR1"),
        ("results.parquet", ""),
    ],
)
def test_a_damaged_run_is_not_added_to(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
) -> None:
    (run / name).write_text(content)
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    words = ["--config", str(run / "own.yaml")] if name == "settings.json" else []
    if words:  # else the settings of the run itself are what is refused
        (run / "own.yaml").write_text(f"dataset: tiny\nfold: 1\nk: 1\nout: {run}\n")
        before[run / "own.yaml"] = (run / "own.yaml").read_bytes()
    else:
        words = ["--out", str(run)]
    assert called(monkeypatch, "baseline", "svm-time-domain", *words) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
