"""The search for settings: nested, resumable, the same budget with and without a teacher."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from myodistill.config import Settings, read_settings
from myodistill.datasets import registry as registry
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import OutputError, SettingsError
from myodistill.splits import make_split, nested
from myodistill.studies import tune as tuning
from myodistill.studies.tune import tune

BRIEF = {stage: {"num_epochs": 2} for stage in ("pretrain", "pretrain_student", "finetune")}


def tiny() -> Synthetic:
    return Synthetic(subjects=5, seconds=0.6, repetitions=2)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setitem(registry.DATASETS, "tiny", tiny)
    return Settings.load(
        {
            "dataset": "tiny",
            "out": tmp_path / "tune",
            "fold": 1,
            "k": 1,
            "trials": 3,
            "teacher_model": "population",
            "student_model": "log-power-10k",
            "loss": ["soft-target", "dist"],
            "distill": {"num_epochs": 3},
            **BRIEF,
        }
    )


def test_who_is_scored_is_not_there_when_settings_are_chosen() -> None:
    split = make_split(tiny(), 1)
    inner = nested(split)
    assert set(inner.heldout) | set(inner.pretraining) == set(split.pretraining)
    assert not set(inner.heldout) & set(inner.pretraining)
    assert inner.heldout
    assert inner.hash != split.hash


@pytest.mark.slow
def test_both_get_the_same_budget_and_a_search_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    found = tune(settings, log=said.append)
    assert [one.trials for one in found] == [3, 3]
    assert [one.distilled for one in found] == [True, False]
    assert all(one.accuracy >= one.initial_accuracy > 0 for one in found)
    assert len(said) == 6
    again = Settings.load(read_settings(found[0].path))
    assert again == found[0].settings.model_copy(update={"out": again.out, "trials": again.trials})
    with sqlite3.connect(settings.out / "tune.db") as file:
        assert file.execute("select count(*) from trials").fetchone() == (6,)

    def never(*_: object) -> float:
        raise AssertionError("a trial was done again")

    monkeypatch.setattr(tuning._Bench, "accuracy", never)
    assert tune(settings) == found


@pytest.mark.slow
@pytest.mark.parametrize("place", [1, 2])
def test_a_killed_search_goes_on_to_the_same_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    calls: list[dict[str, float]] = []
    kills = [place]

    def scored(self: tuning._Bench, tried: Settings, taught: bool) -> float:
        calls.append(tried.distill.model_dump(include={"learning_rate", "label_smoothing"}))
        if kills == [len(calls)]:
            raise KeyboardInterrupt
        return 1 - tried.distill.learning_rate

    monkeypatch.setattr(tuning._Bench, "accuracy", scored)
    with pytest.raises(KeyboardInterrupt):
        tune(settings)
    kills.clear()
    killed = calls.pop()
    found = tune(settings)
    assert [one.trials for one in found] == [3, 3]
    assert found[0].initial_accuracy == 1 - settings.distill.learning_rate
    assert calls[place - 1] == killed  # it is tried anew
    whole = tune(settings.model_copy(update={"out": settings.out.parent / "whole"}))
    assert calls[6:] == calls[:6]
    assert [one.accuracy for one in whole] == [one.accuracy for one in found]


def constant(*_: object) -> float:
    return 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"junk" * 1000, "expected the trials of a search, got: .*not a database.*; remove it"),
        ("torn", "expected the trials of a search, got: .*malformed"),
        ("folder", "expected the trials of a search, got: .*unable to open"),
        ("others", "expected the trials of a search, got: those of other settings or data; rem"),
    ],
)
def test_trials_that_are_no_help_are_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, content: bytes | str, message: str
) -> None:
    monkeypatch.setattr(tuning._Bench, "accuracy", constant)
    path = settings.out / "tune.db"
    settings.out.mkdir()
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        tune(settings.model_copy(update={"trials": 1}))
        before = path.read_bytes()
        if content == "torn":
            path.write_bytes(before[: len(before) // 2])
    other = settings.model_copy(update={"temperature": 4.0}) if content == "others" else settings
    with pytest.raises(SettingsError, match=message) as caught:
        tune(other)
    assert str(caught.value).isprintable()
    if content == "others":
        assert path.read_bytes() == before


@pytest.mark.parametrize("pages", [5, 15])
def test_a_disk_that_fills_while_the_search_is_set_up_is_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    def full(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        connection.execute(f"pragma max_page_count = {pages}")
        return connection

    monkeypatch.setattr(tuning, "_connect", full)
    with pytest.raises(OutputError, match=r"tune\.db: .* got: database or disk is full; free"):
        tune(settings)


def test_a_full_disk_is_one_line_and_keeps_the_trials(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[int] = []

    def scored(*_: object) -> float:
        with sqlite3.connect(settings.out / "tune.db") as file:
            pages[:] = [file.execute("pragma page_count").fetchone()[0]]
        return 0.5

    def full(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        if pages:
            connection.execute(f"pragma max_page_count = {pages[0]}")
        return connection

    monkeypatch.setattr(tuning._Bench, "accuracy", scored)
    monkeypatch.setattr(tuning, "_connect", full)
    tune(settings)
    with pytest.raises(
        OutputError, match=r"tune\.db: expected to keep the trials there, got: .*full"
    ):
        tune(settings.model_copy(update={"trials": 300}))
    pages.clear()
    monkeypatch.setattr(tuning._Bench, "accuracy", constant)
    found = tune(settings.model_copy(update={"trials": 5}))
    assert found[0].trials >= 5


def test_usual_settings_beyond_the_range_are_tried(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(tuning._Bench, "accuracy", constant)
    distill = settings.distill.model_copy(update={"learning_rate": 0.1, "label_smoothing": 0.5})
    found = tune(
        settings.model_copy(update={"alpha": 1.0, "temperature": 50.0, "distill": distill})
    )
    assert found[0].initial_accuracy == 0.5
    assert not [one for one in recwarn if "out of range" in str(one.message)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": ()}, "fold: expected one to tune for, got 0"),
        ({"student_model": ("cnn", "lstm")}, "student_model: expected one to tune for, got 2"),
        ({"k": (0, 1)}, "k: expected 1 or more"),
    ],
)
def test_what_cannot_be_tuned(settings: Settings, change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        tune(settings.model_copy(update=change))


def test_trials_on_other_recordings_are_not_mixed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"trials": 1})
    calls = []

    def accuracy(*_: object) -> float:
        calls.append(1)
        return 0.5

    monkeypatch.setattr(tuning._Bench, "accuracy", accuracy)
    tune(settings)
    tune(settings)
    assert len(calls) == 2
    other = lambda: Synthetic(subjects=5, seconds=0.6, repetitions=2, seed=9)  # noqa: E731
    monkeypatch.setitem(registry.DATASETS, "tiny", other)
    with pytest.raises(SettingsError, match="those of other settings or data"):
        tune(settings)
    assert len(calls) == 2
