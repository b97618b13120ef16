"""The protocol over days: what decides a day's score, and what must not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from few_days import QUICK, FewDays, relabelled

from myodistill.cli import main as cli
from myodistill.config import Settings
from myodistill.datasets import registry as registry
from myodistill.datasets.days import Days
from myodistill.distillation.data import FoldData
from myodistill.errors import LeakageError, SettingsError
from myodistill.evaluation import day_results
from myodistill.splits import BlindSplit, Split
from myodistill.studies.long_term import DayProtocol, day_split, day_tasks, run_long_term

PROTOCOL = DayProtocol(days=(3,), history=(0, 2), first_day=False)
Evaluate = Callable[..., pd.DataFrame]


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Evaluate:
    """Evaluate some dataset in the place of another of the same name."""

    def run(dataset: FewDays, out: str = "run", protocol: DayProtocol = PROTOCOL) -> pd.DataFrame:
        monkeypatch.setitem(registry.DATASETS, "few-days", lambda: dataset)
        settings = Settings.load({**QUICK, "out": tmp_path / out, "subjects": ["P1"]})
        return run_long_term(settings, protocol).drop(columns="seconds")

    return run


def bundles(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("bundle.json")
    }


def test_a_history_that_holds_the_day_is_refused_by_name() -> None:
    days = Days(FewDays(), "P1")
    with pytest.raises(LeakageError, match="before day3, it holds that day itself"):
        day_split(days, ("day2", "day3"), ("day3",))
    with pytest.raises(LeakageError, match="before day2, it holds the later day4"):
        day_split(days, ("day1", "day4"), ("day2",))
    with pytest.raises(SettingsError, match="unknown day 'day7'"):
        day_split(days, ("day1",), ("day7",))


def test_history_is_the_latest_days_and_day_1_alone() -> None:
    days = Days(FewDays(days=4), "P1")
    tasks = day_tasks(days, DayProtocol(days=(4, 2), history=(0, 1, 2, 5)))
    assert [(t.split.pretraining, t.split.heldout) for t in tasks] == [
        ((), ("day2",)),
        (("day1",), ("day2",)),
        ((), ("day4",)),
        (("day3",), ("day4",)),
        (("day2", "day3"), ("day4",)),
        (("day1",), ("day2", "day3", "day4")),
    ]
    with pytest.raises(SettingsError, match="fewer days than come before day 3, got 7"):
        day_tasks(days, DayProtocol(days=(3,), history=(7,), first_day=False))
    with pytest.raises(SettingsError, match="expected 2 to 4 for Few days, P1, got 9"):
        day_tasks(days, DayProtocol(days=(9,)))


def test_every_method_is_scored_under_every_condition(evaluate: Evaluate, tmp_path: Path) -> None:
    frame = evaluate(FewDays(), protocol=DayProtocol((3, 4), (0, 2)))
    found = {
        (protocol, condition, history): set(group["stage"])
        for (protocol, condition, history), group in frame.groupby(
            ["protocol", "condition", "history"]
        )
    }
    students = {"baseline", "pretrained", "pretrained_distilled"}
    assert found == {
        ("latest days", "no label", 2): {*students, "pretrain"},
        ("latest days", "re-centred", 2): {*students, "pretrain"},
        ("latest days", "re-centred, adapting", 2): {"pretrained_distilled"},
        ("latest days", "first trial", 0): {"baseline", "supervised"},
        ("latest days", "first trial", 2): {*students, "finetune"},
        ("latest days", "first trial, adapting", 2): {"pretrained_distilled"},
        ("day 1", "no label", 1): {*students, "pretrain"},
        ("day 1", "re-centred", 1): {*students, "pretrain"},
        ("day 1", "re-centred, adapting", 1): {"pretrained_distilled"},
    }
    first_day = frame[frame["protocol"] == "day 1"]
    assert set(first_day["day"]) == {2, 3, 4}
    assert set(frame["subject"]) == {"P1"}
    assert set(frame["windows"]) == {2 * 3 * 9}  # trials 2 and 3 of three gestures, nine windows
    stored = day_results.read(tmp_path / "run/results.parquet")
    assert stored.drop(columns="seconds").equals(frame)
    assert "P1" in (tmp_path / "run/table.md").read_text()
    assert (tmp_path / "run/figures/accuracy-over-days.png").stat().st_size > 10_000
    assert not (tmp_path / "run/.scratch").exists()


def test_a_killed_evaluation_goes_on(evaluate: Evaluate, tmp_path: Path) -> None:
    frame = evaluate(FewDays())
    before = bundles(tmp_path)
    assert evaluate(FewDays()).equals(frame)
    assert bundles(tmp_path) == before


def test_labels_of_scored_trials_concern_scores_alone(evaluate: Evaluate, tmp_path: Path) -> None:
    frame = evaluate(FewDays())
    before = bundles(tmp_path)
    other = evaluate(FewDays(changes={(3, 2): relabelled, (3, 3): relabelled}))
    assert bundles(tmp_path) == before
    assert not other["accuracy"].equals(frame["accuracy"])


def test_labels_of_the_first_trial_concern_k_1_alone(evaluate: Evaluate) -> None:
    frame = evaluate(FewDays())
    for again in ("run", "fresh"):
        other = evaluate(FewDays(changes={(3, 1): relabelled}), again)
        for k in (0, 1):
            assert other[other["k"] == k].equals(frame[frame["k"] == k]) == (k == 0)


def test_later_days_concern_nothing(evaluate: Evaluate, tmp_path: Path) -> None:
    frame = evaluate(FewDays())
    before = bundles(tmp_path)
    changes = {(4, trial): relabelled for trial in (1, 2, 3)}
    assert evaluate(FewDays(changes=changes)).equals(frame)
    assert bundles(tmp_path) == before


def test_labels_of_the_history_concern_every_method(evaluate: Evaluate) -> None:
    frame = evaluate(FewDays())
    other = evaluate(FewDays(changes={(1, 2): relabelled}))
    learned = frame["history"] > 0
    same = other["calibration_error"] == frame["calibration_error"]
    assert same[~learned].all()
    assert not same[learned].any()


def louder(trial: int) -> FewDays:
    gains = np.array([9, 1, 1, 5], dtype=np.float32)
    return FewDays(changes={(3, trial): lambda one: replace(one, signal=one.signal * gains)})


@pytest.mark.parametrize("kind", [Split, BlindSplit])
def test_nothing_of_a_day_enters_its_blind_frame(kind: type[Split]) -> None:
    def frame(dataset: FewDays) -> list[float]:
        days = Days(dataset, "P1")
        open_split = day_split(days, ("day1", "day2"), ("day3",))
        split = kind(**vars(open_split))
        data = FoldData(days, split, Settings.load({**QUICK, "recentre": kind is Split}))
        subject = data.subject("day3", 0)
        assert bool(subject.preprocessing.seen & split.calibration("day3", 1)) == (kind is Split)
        assert subject.preprocessing.seen >= split.calibration("day1", 1)
        matrix: list[float] = subject.preprocessing.matrix.ravel().tolist()
        return matrix

    same = frame(FewDays()) == frame(louder(1))
    assert same == (kind is BlindSplit)
    assert frame(FewDays()) == frame(louder(2))


def test_a_blind_split_is_another_split() -> None:
    split = day_split(Days(FewDays(), "P1"), ("day1",), ("day3",))
    blind = BlindSplit(**vars(split))
    assert blind.hash != split.hash
    assert blind.narrowed().hash != split.narrowed().hash
    assert type(blind.narrowed("day3")) is BlindSplit
    assert blind.unlabelled("day3", 0) == frozenset()
    assert blind.unlabelled("day3", 1) == split.calibration("day3", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--days", "3,x"], "days: expected whole numbers like 1,2,5, got 'x'"),
        (["--days", "1"], "days: expected 2 to 10000, got 1"),
        (["--days", "30"], "days: expected 2 to 4 for Few days, P1, got 30"),
        (["--days", "3,3"], "days: expected one or more numbers, each named once"),
        (["--history", "7", "--days", "3", "--no-first-day"], "history: expected fewer days"),
        (
            ["--k", "0", "--history", "0", "--no-first-day", "--days", "3"],
            "history: expected a day",
        ),
        (["--k", "2"], "k: expected 0, 1 or both"),
        (["--subjects", "P9"], "unknown subject 'P9'"),
        (["--fold", "1"], "fold: expected nothing of it"),
        (["--no-recentre"], "recentre: expected nothing of it"),
        (["--student-model", "nothing"], "unknown model 'nothing'"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(registry.DATASETS, "few-days", FewDays)
    command = ["evaluate", "long-term", "--dataset", "few-days", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["myodistill", *command, *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    told = capsys.readouterr().err.strip()
    assert message in told
    assert "\n" not in told
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_run_is_left_alone(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/results.parquet").write_bytes(b"another run")
    with pytest.raises(SettingsError, match="expected a folder for results over days"):
        evaluate(FewDays())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["results.parquet"]
