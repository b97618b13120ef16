"""What leaks, diverges or does not fit is refused before it can be stored or scored."""

from __future__ import annotations

import json
import logging
import os
import signal as signals
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from altered import QUICK, Altered, in_session

from myodistill.config import Settings
from myodistill.datasets import registry as registry
from myodistill.datasets.recording import Annotation, Recording
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline
from myodistill.errors import DataError, LeakageError, OutputError, SettingsError, TrainingError
from myodistill.lock import locked_folder
from myodistill.signals.duplicates import DuplicateFinder
from myodistill.signals.windows import cut
from myodistill.splits import make_split, unseen_windows
from myodistill.studies import experiment as run
from myodistill.studies.experiment import run_experiment
from myodistill.studies.scorer import Scorer
from myodistill.studies.tune import tune
from myodistill.training.batches import TensorInputs
from myodistill.training.loop import NO_PATHS
from myodistill.training.tasks import Task

HELD_OUT = "Person1"
Use = Callable[[Altered], None]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    values = {**QUICK, "k": 1, "teacher_model": "population", "subjects": [HELD_OUT]}
    return Settings.load({**values, "out": tmp_path / "run"})


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    return lambda dataset: monkeypatch.setitem(registry.DATASETS, "altered", lambda: dataset)


# The calibration session is never scored


def test_a_split_that_scores_what_calibrates_is_refused() -> None:
    with pytest.raises(DataError, match="scored once each and never calibrate, got \\['train'\\]"):
        make_split(Altered(test_sessions=("train",)), 1)
    split = make_split(Altered(), 1)
    with pytest.raises(LeakageError, match="test sessions without the calibration session") as told:
        replace(split, test_sessions=("train",))
    assert "\n" not in str(told.value)
    with pytest.raises(SettingsError, match="each of test_sessions once, 'test' is named twice"):
        replace(split, test_sessions=("test", "test"))
    with pytest.raises(SettingsError, match="at least one session to score"):
        make_split(Altered(test_sessions=()), 1)
    nothing = replace(split, test_sessions=())
    recordings = Altered().recordings(split.heldout[0])
    windows = cut(recordings, [r.signal for r in recordings], samples=100, step=50)
    with pytest.raises(SettingsError, match="a session to score, the split has none"):
        unseen_windows(nothing, windows, split.heldout[0], [])
    with pytest.raises(LeakageError, match="Person1 of synthetic is in both groups"):
        replace(split, pretraining=(*split.pretraining, "Person1"))


def test_classical_methods_pass_the_same_guard(settings: Settings) -> None:
    dataset = Altered()
    split = make_split(dataset, 1)
    object.__setattr__(split, "test_sessions", ("train",))  # no split can be made so
    scorer = Scorer(DistillationPipeline(FoldData(dataset, split, settings), settings, 0))
    for name in ("lda-time-domain", "forest-hudgins", "svm-hudgins"):
        with pytest.raises(LeakageError, match=f"{name} never saw.*Person1/train/repetition 0"):
            scorer.classical(name, HELD_OUT, 1)


# The same signal under two names


def copied(of: str, to: str, shift: int = 0) -> Altered:
    """One person's recordings under another's name, of which the beginning may be cut off."""

    def stolen(own: list[Recording]) -> list[Recording]:
        return [
            replace(
                theirs,
                subject=to,
                signal=theirs.signal[shift:] if shift else theirs.signal,
                source="",
                annotations=tuple(
                    replace(n, start=max(n.start - shift, 0) + shift // 2, stop=n.stop - shift)
                    for n in theirs.annotations
                ),
            )
            for theirs in Altered().recordings(of)
        ]

    return Altered(changes={to: stolen})


def calibration_scored(recordings: list[Recording]) -> list[Recording]:
    train, test = recordings
    return [train, replace(test, signal=train.signal, annotations=train.annotations)]


def repetition_twice(recordings: list[Recording]) -> list[Recording]:
    """One gesture of the last calibration repetition is one of the test, within longer signals."""
    train, test = recordings
    mine, theirs = train.annotations[-1], test.annotations[3]
    signal = test.signal.copy()
    length = mine.stop - mine.start
    signal[theirs.start : theirs.start + length] = train.signal[mine.start : mine.stop]
    return [train, replace(test, signal=signal)]


COPIES = {
    "a person under another name": (
        copied(HELD_OUT, "Person4"),
        ("Person1/", "Person4/"),
    ),
    "cut elsewhere": (copied(HELD_OUT, "Person4", shift=37), ("Person1/", "Person4/")),
    "two of those who train": (copied("Person2", "Person3"), ("Person2/", "Person3/")),
    "the test is the calibration": (
        Altered(changes={HELD_OUT: calibration_scored}),
        ("Person1/test/", "Person1/train/"),
    ),
    "one gesture within another recording": (
        Altered(changes={HELD_OUT: repetition_twice}),
        ("Person1/test/repetition 0", "Person1/train/repetition 1"),
    ),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("work", [run_experiment, tune])
def test_copies_are_refused_before_any_work(
    settings: Settings, use: Use, way: str, work: Callable[[Settings], object]
) -> None:
    dataset, names = COPIES[way]
    if work is tune:  # there the held-out subjects of the fold take no part
        settings = settings.model_copy(update={"fold": (5,)})
    use(dataset)
    with pytest.raises(LeakageError, match="are the same signal") as told:
        work(settings)
    assert all(name in str(told.value) for name in names), told.value
    assert "\n" not in str(told.value)
    assert not settings.out.exists()


def test_signals_that_stand_still_or_are_short_are_no_copies() -> None:
    facts = Altered().facts
    rng = np.random.default_rng(0)
    still = np.zeros((2000, 8), dtype=np.float32)
    still[:400] = rng.standard_normal((400, 8))
    note = Annotation(500, 1900, 0, 0)
    copies = DuplicateFinder(facts.samples)
    for name in ("Anna", "Ben"):
        signal = still.copy()
        signal[:400] = rng.standard_normal((400, 8))
        copies.add([Recording(name, "train", signal, 1000.0, facts.electrodes, facts.gestures,
                              (Annotation(0, 400, 1, 0), note))])  # fmt: skip
    copies.require_none()


@pytest.mark.parametrize("length", [150, 151, 200, 1000])
def test_a_window_that_is_shared_is_found_wherever_it_lies(length: int) -> None:
    """The shortest annotation is one window; it lies anywhere in a longer one."""
    facts = Altered().facts
    rng = np.random.default_rng(length)
    for _ in range(20):
        short = rng.integers(-5, 5, (length, 8)).astype(np.float32)
        long = rng.integers(-5, 5, (2000, 8)).astype(np.float32)
        at = int(rng.integers(0, 2000 - length))
        long[at : at + length] = short
        copies = DuplicateFinder(150)
        for name, signal in (("Anna", short), ("Ben", long)):
            note = Annotation(0, len(signal), 0, 0)
            copies.add([Recording(name, "s", signal, 1e3, facts.electrodes, facts.gestures,
                                  (note,))])  # fmt: skip
        with pytest.raises(LeakageError, match="Anna/s/repetition 0 and gesture 0 of Ben/s"):
            copies.require_none()


@pytest.mark.real
@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(("name", "people"), [("3dc", 6), ("myo", 40), ("flexemg", 2)])
def test_real_recordings_are_no_copies(name: str, people: int) -> None:
    dataset = open_dataset(name)
    copies = DuplicateFinder(dataset.facts.samples)
    for subject in dataset.subjects()[:people]:
        copies.add(dataset.recordings(subject))
    copies.require_none()


# Training that does not converge


def test_what_diverges_is_not_stored(
    settings: Settings, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Altered())
    run_experiment(settings)
    kept = {path: path.read_bytes() for path in settings.out.rglob("*") if path.is_file()}
    hot = settings.distill.model_copy(update={"learning_rate": 10, "num_epochs": 3})
    targets = Task.targets
    monkeypatch.setattr(Task, "targets", lambda *given: targets(*given) * torch.inf)
    with pytest.raises(
        TrainingError, match=r"supervised-log-power-10k: .*learning rate 10"
    ) as told:
        run_experiment(settings.model_copy(update={"distill": hot, "stacked": False}))
    assert "\n" not in str(told.value)
    with pytest.raises(TrainingError, match=r"log-power-10k of 1 subjects at K=1: .*epoch . of 3"):
        run_experiment(settings.model_copy(update={"distill": hot, "stacked": True}))
    for path, content in kept.items():
        assert path.read_bytes() == content, path
    assert not list(settings.out.rglob("unfinished/*"))


def test_a_teacher_in_closed_form_is_checked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Altered()
    fold = DistillationPipeline(FoldData(dataset, make_split(dataset, 1), settings), settings, 0)
    training_set = fold.data.training_set("population")
    broken = torch.full((len(training_set.labels), 8 * 9 // 2 * 6), torch.nan)
    monkeypatch.setattr(
        fold.data, "training_set", lambda model: replace(training_set, inputs=TensorInputs(broken))
    )
    with pytest.raises(TrainingError, match="population: expected finite weights, some are not"):
        fold.pretrain("population", NO_PATHS)


def test_who_is_at_chance_is_told(
    settings: Settings, use: Use, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(Altered())
    lost = {"stage": "supervised", "model": "log-power-10k", "loss": "", "k": 1}
    row = lost | {"balanced_accuracy": 0.15, "chance": 1 / 7}
    monkeypatch.setattr(run, "at_chance", lambda frame, gestures: pd.DataFrame([row]))
    with caplog.at_level(logging.WARNING):
        run_experiment(settings)
    (line,) = [r.getMessage() for r in caplog.records if "chance" in r.getMessage()]
    assert "log-power-10k at K=1 is no better than chance" in line
    assert "(balanced accuracy 15.0 %, guessing 14.3 %)" in line
    assert "\n" not in line


# Two runs in one folder

HOLD = """
import sys, time
from pathlib import Path
from myodistill.lock import locked_folder
sys.argv = ["myodistill", "run", "--temp", "9"]
with locked_folder(Path(sys.stdin.readline().strip())):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_is_gone(settings: Settings, use: Use) -> None:
    use(Altered())
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdin is not None
    assert first.stdout is not None
    try:
        first.stdin.write(f"{settings.out}\n")
        first.stdin.flush()
        assert first.stdout.readline() == "held\n"
        for work in (run_experiment, tune):
            with pytest.raises(OutputError, match="expected to be alone in this folder") as told:
                work(settings)
            assert f"process {first.pid} on " in str(told.value)
            assert "(myodistill run --temp 9, since 20" in str(told.value)
            assert "\n" not in str(told.value)
        assert not (settings.out / "fold-1").exists()
    finally:
        os.kill(first.pid, signals.SIGKILL)
        first.communicate()
    assert len(run_experiment(settings))
    assert not (settings.out / "running.json").exists()


def test_a_folder_can_be_used_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path):
        raise ZeroDivisionError
    with locked_folder(tmp_path):
        (tmp_path / "running.json").write_text("{")
        with (
            pytest.raises(OutputError, match="another process is at work"),
            locked_folder(tmp_path),
        ):
            pass


def test_a_refused_or_failed_run_describes_nothing(
    settings: Settings, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Altered())
    run_experiment(settings)
    names = ("settings.json", "splits/fold-1.json", "environment.json", "results.parquet")
    before = {name: (settings.out / name).read_bytes() for name in names}
    other = settings.model_copy(update={"temperature": 9.0, "fold": (1, 2), "subjects": ()})

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(other)
    assert {name: (settings.out / name).read_bytes() for name in names} == before
    assert not (settings.out / "splits/fold-2.json").exists()
    run_experiment(settings, until="pretrain")
    assert {name: (settings.out / name).read_bytes() for name in names} == before
    run_experiment(other.model_copy(update={"fold": (2,)}))
    assert json.loads((settings.out / "settings.json").read_text())["temperature"] == 9
    assert [path.name for path in (settings.out / "splits").iterdir()] == ["fold-2.json"]


# Recordings that lack something


def unannotated(recordings: list[Recording]) -> list[Recording]:
    train, test = recordings
    return [train, test, replace(test, signal=test.signal[:3000][::-1].copy(), annotations=())]


@pytest.mark.parametrize("rest", [True, False])
def test_a_recording_without_annotations_is_rest_or_left_out(
    settings: Settings, use: Use, rest: bool
) -> None:
    names = Altered().facts.gestures if rest else tuple("abcdefg")
    use(Altered(gestures=names))
    run_experiment(settings)
    before = pd.read_parquet(settings.out / "events.parquet")
    use(Altered(gestures=names, changes={HELD_OUT: unannotated}))
    table = run_experiment(settings)
    assert len(table)
    after = pd.read_parquet(settings.out / "events.parquet")
    added = (after.rest_minutes - before.rest_minutes).to_numpy()
    assert added == pytest.approx(3 / 60 if rest else 0)
    assert (after.gestures == before.gestures).all()
    if not rest:
        assert after.equals(before)


LACKING: dict[str, tuple[Callable[[Recording], Recording], str, str]] = {
    "a test repetition": (
        lambda r: replace(r, annotations=r.annotations[:7]),
        "test",
        "expected windows of Person1/test/repetition 1",
    ),
    "every test annotation": (
        lambda r: replace(r, annotations=()),
        "test",
        "expected windows of Person1/test/repetition 0",
    ),
    "the calibration": (
        lambda r: replace(r, annotations=r.annotations[7:]),
        "train",
        "expected windows of Person1/train/repetition 0",
    ),
    "a second gesture to calibrate with": (
        lambda r: replace(r, annotations=(r.annotations[0], *r.annotations[7:])),
        "train",
        "at least 2 gestures to calibrate with .* got 1",
    ),
    "a second gesture to score": (
        lambda r: replace(r, annotations=tuple(replace(n, gesture=2) for n in r.annotations)),
        "test",
        "at least 2 gestures to score .* got 1",
    ),
    "a whole window": (
        lambda r: replace(
            r, annotations=(replace(r.annotations[0], stop=r.annotations[0].start + 9),)
        ),
        "test",
        "expected at least 150 samples of gesture 0 for one window, got 9",
    ),
    "order": (
        lambda r: replace(
            r,
            annotations=(
                replace(r.annotations[0], stop=r.annotations[1].start + 1),
                *r.annotations[1:],
            ),
        ),
        "test",
        "annotations that do not overlap",
    ),
}


@pytest.mark.parametrize("what", LACKING)
def test_what_is_lacking_is_said_before_any_work(settings: Settings, use: Use, what: str) -> None:
    change, session, message = LACKING[what]
    use(Altered(changes={HELD_OUT: in_session(session, change)}))
    with pytest.raises(DataError, match=message) as told:
        run_experiment(settings)
    assert "\n" not in str(told.value)
    assert not settings.out.exists()
