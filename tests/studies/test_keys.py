"""What decides a result is in its key, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from altered import QUICK, Altered, in_session

from myodistill.bundle import Bundle
from myodistill.config import Settings
from myodistill.datasets import registry as registry
from myodistill.datasets.recording import Recording, grid
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import ModelError, SettingsError
from myodistill.files import sha256_of
from myodistill.studies.experiment import run_experiment

HELD_OUT = "Person1"
Do = Callable[..., pd.DataFrame]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({**QUICK, "out": tmp_path / "run", "subjects": [HELD_OUT]})


@pytest.fixture
def do(monkeypatch: pytest.MonkeyPatch) -> Do:
    """Run with some dataset in the place of another of the same name."""

    def run(settings: Settings, dataset: Altered) -> pd.DataFrame:
        monkeypatch.setitem(registry.DATASETS, "altered", lambda: dataset)
        return run_experiment(settings).drop(columns="seconds")

    return run


def times(folder: Path, *names: str) -> dict[str, int]:
    """When the bundles or scores whose path holds one of some names were last written."""
    files = [*folder.rglob("bundle.json"), *folder.rglob("scores/*.json")]
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in files
        if not names or any(name in str(path) for name in names)
    }


def one_sample(recording: Recording) -> Recording:
    """Change a sample in the last annotation."""
    signal = recording.signal.copy()
    signal[recording.annotations[-1].stop - 5, 0] += 40
    return replace(recording, signal=signal)


def swapped(recording: Recording) -> Recording:
    first, second, *others = recording.annotations
    notes = replace(first, gesture=second.gesture), replace(second, gesture=first.gesture)
    return replace(recording, annotations=(*notes, *others))


GESTURES = Altered().facts.gestures
EVERYBODY = [f"Person{i}" for i in range(1, 6)]
CHANGES = {
    "step": lambda: Altered(step=70),
    "samples": lambda: Altered(samples=120),
    "electrodes": lambda: Altered(electrodes=grid(2, 4)),
    "gestures": lambda: Altered(gestures=(*GESTURES[:-1], "point")),
    "labels": lambda: Altered(changes=dict.fromkeys(EVERYBODY, in_session("train", swapped))),
    "passband": lambda: Altered(passband=(30.0, 300.0)),
    "repetitions": lambda: Altered(
        changes={
            "Person2": lambda rs: [
                replace(r, annotations=r.annotations[:7]) if r.session == "test" else r for r in rs
            ]
        }
    ),
}


QUICKLY = ("labels", "step")
"""The others run in the slow tests."""


@pytest.mark.parametrize(
    "change",
    [pytest.param(c, marks=() if c in QUICKLY else pytest.mark.slow) for c in CHANGES],
)
def test_no_stale_result_is_reused(settings: Settings, tmp_path: Path, do: Do, change: str) -> None:
    do(settings, Altered())
    before = times(settings.out)
    again = do(settings, CHANGES[change]())
    fresh = do(settings.model_copy(update={"out": tmp_path / "fresh"}), CHANGES[change]())
    assert again.equals(fresh)
    after = times(settings.out, "pretrain-", "finetune-", "pretrained_distilled-", "pretrained-")
    assert after
    assert all(after[name] > before[name] for name in after)


@pytest.mark.slow
def test_how_many_averages_many_electrodes_become_is_in_the_keys(
    settings: Settings, do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = Synthetic(subjects=5, electrodes=grid(3, 6), seconds=0.6, repetitions=2)
    few = settings.model_copy(update={"k": (1,), "student_model": ("log-covariance-10k",)})
    do(few, wide)
    before = times(few.out, "pretrained_distilled-")
    do(few, wide)
    assert before
    assert times(few.out, "pretrained_distilled-") == before
    monkeypatch.setattr("myodistill.models.log_covariance.MOST_CHANNELS", 9)
    do(few, wide)
    after = times(few.out, "pretrained_distilled-")
    assert all(after[name] > before[name] for name in before)


def test_a_test_sample_concerns_nothing_but_its_scores(settings: Settings, do: Do) -> None:
    do(settings, Altered())
    before = times(settings.out)
    do(settings, Altered(changes={HELD_OUT: in_session("test", one_sample)}))
    after = times(settings.out)
    redone = {name for name in before if after[name] > before[name]}
    assert redone == {name for name in before if "scores/" in name}


def test_what_a_teacher_reads_is_in_the_keys(settings: Settings, do: Do) -> None:
    students = ("pretrained_distilled-", "pretrain-pretrained_distilled-")
    first = settings.model_copy(update={"teacher_model": ("cnn@band-power",), "k": (1,)})
    do(first, Altered())
    before = times(settings.out, *students)
    assert before
    do(first, Altered())
    assert times(settings.out, *students) == before
    table = do(first.model_copy(update={"teacher_model": ("cnn@spectrogram",)}), Altered())
    after = times(settings.out, *students)
    assert all(after[name] > before[name] for name in before)
    assert "cnn@spectrogram" in set(table["model"])
    assert (settings.out / "fold-1/seed-0/pretrain-cnn@band-power/bundle.json").is_file()


def test_a_window_too_short_is_refused_before_anything_is_trained(
    settings: Settings, do: Do
) -> None:
    short = settings.model_copy(update={"teacher_model": ("population", "cnn@spectrogram")})
    with pytest.raises(ModelError, match=r"spectrogram: expected windows of at least \d+ samples"):
        do(short, Altered(samples=50))
    assert not list(settings.out.rglob("bundle.json"))


@pytest.mark.slow
def test_a_test_label_concerns_nothing_but_its_scores(
    settings: Settings, tmp_path: Path, do: Do
) -> None:
    do(settings, Altered())
    before = times(settings.out, "bundle.json")
    other = Altered(changes={HELD_OUT: in_session("test", swapped)})
    again = do(settings, other)
    assert again.equals(do(settings.model_copy(update={"out": tmp_path / "fresh"}), other))
    assert times(settings.out, "bundle.json") == before


def test_a_calibration_sample_concerns_one_person(settings: Settings, do: Do) -> None:
    do(settings, Altered())
    before = times(settings.out)

    def early(recording: Recording) -> Recording:
        signal = recording.signal.copy()
        signal[recording.annotations[0].start + 5, 0] += 40
        return replace(recording, signal=signal)

    do(settings, Altered(changes={HELD_OUT: in_session("train", early)}))
    after = times(settings.out)
    redone = {name for name in before if after[name] > before[name]}
    assert redone == {name for name in before if HELD_OUT in name}


@pytest.mark.slow
def test_the_labels_of_the_first_repetition_are_nothing_to_k_0(settings: Settings, do: Do) -> None:
    do(settings, Altered())
    before = times(settings.out)
    do(settings, Altered(changes={HELD_OUT: in_session("train", swapped)}))
    after = times(settings.out)
    redone = {name for name in before if after[name] > before[name]}
    assert redone == {name for name in before if "k-1/" in name}


def test_a_new_person_leaves_everybody_else_alone(settings: Settings, do: Do) -> None:
    settings = settings.model_copy(update={"subjects": ()})
    do(settings, Altered(5, reserved=4))
    before = times(settings.out)
    assert before
    table = do(settings, Altered(6, reserved=4))
    assert set(table.subject) == {"Person5", "Person6"}
    after = times(settings.out)
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_settings_are_in_no_key_of_what_they_have_no_part_in(settings: Settings, do: Do) -> None:
    do(settings, Altered())
    longer = {"num_epochs": 2}
    for change, kept in (
        ({"adapt_batch_norm": True}, ("pretrain-",)),
        ({"pretrain": settings.pretrain.model_copy(update=longer)}, ("pretrain-pop",)),
        ({"distill": settings.distill.model_copy(update=longer)}, ("pretrain-", "fine", "k-0/")),
        ({"feature_weight": 7.0, "views": 2}, ("",)),
    ):
        before = times(settings.out)
        settings = settings.model_copy(update=change)
        do(settings, Altered())
        after = times(settings.out)
        same = {name for name in before if after[name] == before[name]}
        wanted = {n for n in before if any(name in n for name in kept) and "scores/" not in n}
        assert wanted
        assert wanted <= same, change
    floors = [name for name in before if "baseline" in name]
    assert floors
    assert set(floors) <= same


def test_a_bundle_says_where_it_is_from_now(settings: Settings, do: Do) -> None:
    do(settings, Altered())
    do(settings, Altered(licence="other terms"))
    bundles = list(settings.out.rglob("bundle.json"))
    assert bundles
    for path in bundles:
        assert Bundle.load(path.parent).origin["licence"] == "other terms"
    better: list[dict[str, Any]] = [{"title": "better"}, {"citation": "better"}, {"home": "better"}]
    for prose in better:
        before = times(settings.out)
        do(settings, Altered(licence="other terms", **prose))
        assert times(settings.out) == before


def test_no_baseline_joins_scores_of_other_recordings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, do: Do
) -> None:
    do(settings, Altered())
    beside = settings.model_copy(update={"baseline": ("lda-td-psd",)})
    for dataset in (
        Altered(changes={"Person2": in_session("test", one_sample)}),
        Altered(passband=(30.0, 300.0)),
    ):
        monkeypatch.setitem(registry.DATASETS, "altered", partial(copy, dataset))
        with pytest.raises(SettingsError, match="those of Person2 have changed; do that run again"):
            run_experiment(beside, until="baseline")
    monkeypatch.setitem(registry.DATASETS, "altered", Altered)
    assert "baseline" in set(run_experiment(beside, until="baseline").stage)


@pytest.mark.slow
def test_an_edited_score_is_computed_again(settings: Settings, do: Do) -> None:
    first = do(settings, Altered())
    for row in first.to_dict("records"):
        assert len(row["scores_sha256"]) == 64
    paths = sorted(settings.out.rglob("scores/*.json"))
    honest = json.loads(paths[0].read_text())
    assert sha256_of(paths[0].with_suffix(".npz")) == honest["value"]["scores_sha256"]
    forged = json.loads(paths[0].read_text())
    forged["value"]["result"]["accuracy"] = 0.999
    texts = [json.dumps(forged), "[" * 100_000, "{", '{"key": 1}', "", "\0", '{"value": []}']
    texts += [json.dumps({**honest, "value": None}), json.dumps({"key": honest["key"]})]
    for text in texts:
        paths[0].write_text(text)
        assert do(settings, Altered()).equals(first), text[:40]
        assert json.loads(paths[0].read_text())["value"]["result"]["accuracy"] != 0.999


def test_answers_that_do_not_belong_to_a_score_are_computed_again(
    settings: Settings, do: Do
) -> None:
    first = do(settings, Altered())
    one, other = sorted(settings.out.rglob("scores/*.npz"))[:2]
    before = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.unlink()
    assert do(settings, Altered()).equals(first)
    assert one.read_bytes() == before
    assert other.is_file()


def test_hashes_do_not_depend_on_how_a_signal_lies_in_memory(settings: Settings, do: Do) -> None:
    do(settings, Altered())
    before = times(settings.out)
    turned = in_session("test", lambda r: replace(r, signal=np.asfortranarray(r.signal)))
    do(settings, Altered(changes=dict.fromkeys(EVERYBODY, turned)))
    assert times(settings.out) == before
