"""The search for settings: nested, resumable, the same budget with and without a teacher."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from myodistill.config import Settings, make_settings, read_yaml
from myodistill.datasets import catalogue
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import SettingsError
from myodistill.splits import make_split, nested
from myodistill.training import tuning
from myodistill.training.tuning import tune

BRIEF = {stage: {"num_epochs": 2} for stage in ("pretrain", "pretrain_student", "finetune")}


def tiny() -> Synthetic:
    return Synthetic(subjects=5, seconds=0.6, repetitions=2)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setitem(catalogue.DATASETS, "tiny", tiny)
    return make_settings(
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


def test_both_get_the_same_budget_and_a_search_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    found = tune(settings, say=said.append)
    assert [one.trials for one in found] == [3, 3]
    assert [one.taught for one in found] == [True, False]
    assert all(one.accuracy >= one.usual > 0 for one in found)
    assert len(said) == 6
    again = make_settings(read_yaml(found[0].path))
    assert again == found[0].settings.model_copy(update={"out": again.out, "trials": again.trials})
    with sqlite3.connect(settings.out / "tune.db") as file:
        assert file.execute("select count(*) from trials").fetchone() == (6,)

    def never(*_: object) -> float:
        raise AssertionError("a trial was done again")

    monkeypatch.setattr(tuning._Bench, "accuracy", never)
    assert tune(settings) == found


def test_a_killed_search_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = tuning._Bench.accuracy
    calls = []

    def killed(self: tuning._Bench, tried: Settings, taught: bool) -> float:
        calls.append(taught)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(self, tried, taught)

    monkeypatch.setattr(tuning._Bench, "accuracy", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(settings)
    found = tune(settings)
    assert [one.trials for one in found] == [3, 3]
    assert len(calls) == 7  # the one that was killed is tried anew


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


def test_other_recordings_begin_another_search(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"trials": 1})
    calls = []
    monkeypatch.setattr(tuning._Bench, "accuracy", lambda *_: calls.append(1) or 0.5)
    tune(settings)
    tune(settings)
    assert len(calls) == 2
    other = lambda: Synthetic(subjects=5, seconds=0.6, repetitions=2, seed=9)  # noqa: E731
    monkeypatch.setitem(catalogue.DATASETS, "tiny", other)
    tune(settings)
    assert len(calls) == 4
