"""Attempts to let what is scored reach what is trained: each is refused, or has no effect.

All go through the command line, on recordings in files. An attempt that is refused ends with exit
code 2 and one line. One without effect leaves the bundles and scores of an honest run.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import people
import pytest
import yaml
from attempts import (
    LATE,
    Change,
    Trained,
    bundles,
    call,
    changed,
    honest,
    refused,
    relabel,
    replace,
    scores,
    train,
    train_original,
)
from people import CALIBRATION, TEST, DecisionStream, Takes

from myodistill.bundle import Bundle
from myodistill.realtime.decoder import Decoder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_original(tmp_path_factory.mktemp("original"))


# What is recorded: parts of it change that nothing may have learned from


@pytest.mark.parametrize(
    ("session", "change", "spared"),
    [
        pytest.param(TEST, relabel, "", id="test labels"),
        pytest.param(TEST, replace, "", id="test samples"),
        pytest.param(CALIBRATION, lambda t: relabel(t, LATE), "", id="labels beyond K"),
        pytest.param(CALIBRATION, lambda t: replace(t, LATE), "", id="samples beyond K"),
        pytest.param(CALIBRATION, relabel, "k-0", id="labels at K=0"),
        pytest.param(CALIBRATION, lambda t: replace(t, 1), "k-0", id="later samples at K=0"),
    ],
)
def test_nothing_learns_from_what_is_not_its_own(
    original: Trained, tmp_path: Path, session: str, change: Change, spared: str
) -> None:
    out = honest(changed(original.takes, session, change), tmp_path)
    before, after = bundles(original.out), bundles(out)
    assert before.keys() == after.keys()
    mine = [name for name in before if spared in name or "pretrain-" in name]
    assert len(mine) > 4
    for name in mine:
        assert before[name] == after[name], name


def test_what_trains_does_have_an_effect(original: Trained, tmp_path: Path) -> None:
    """The tests above can fail: one training person's test session reaches the teachers."""
    out = honest(changed(original.takes, TEST, relabel, ("P3",)), tmp_path, "pretrain")
    for name, bundle in bundles(out).items():
        assert bundle[0] != bundles(original.out)[name][0], name


def test_a_search_does_not_look_at_the_folds_held_out_people(
    original: Trained, tmp_path: Path
) -> None:
    other = changed(changed(original.takes, TEST, replace), CALIBRATION, relabel)
    found = []
    for name, takes in (("a", original.takes), ("b", other)):
        out = honest(takes, tmp_path / name, "tune", k=[1], trials=2, loss=["soft-target"])
        tuned = [yaml.safe_load(path.read_text()) for path in sorted(out.glob("*.yaml"))]
        said = train(tmp_path / name / "data" / "people.yaml", out, "tune", k=[1], trials=2)
        found.append(([{**one, "dataset": ""} for one in tuned], said.out.replace(str(out), "")))
    assert len(found[0][0]) == 2
    assert found[0] == found[1]


# Time: what comes later changes nothing of what was decided before


CUT = 150
"""So many last samples are changed."""


def later(take: DecisionStream) -> None:
    take["emg"][-CUT:] *= 50


def test_offline_windows_do_not_look_ahead(original: Trained, tmp_path: Path) -> None:
    out = honest(changed(original.takes, TEST, later), tmp_path)
    length = len(original.takes["P1", TEST]["emg"])
    compared = 0
    for name, before in scores(original.out).items():
        after = scores(out)[name]
        # Starts count from the first sample of the calibration session, which lies before.
        early = before["starts"] + 50 <= 2 * length - CUT
        assert not early.all()
        for key, array in before.items():
            assert np.array_equal(array[early], after[key][early]), (name, key)
        compared += int(early.sum())
    assert compared > 100


def test_the_decoder_does_not_look_ahead(original: Trained) -> None:
    before = original.takes["P1", TEST]["emg"]
    after = changed(original.takes, TEST, later)["P1", TEST]["emg"]
    path = next(original.out.glob("fold-1/seed-0/P1/k-2/pretrained_distilled-*"))
    one, two = (Decoder(Bundle.load(path), step=10).push(signal) for signal in (before, after))
    early = [place for place, made in enumerate(one) if made.sample <= len(before) - CUT]
    assert 0 < len(early) < len(one)
    assert [one[place] for place in early] == [two[place] for place in early]
    assert one != two


@pytest.mark.parametrize("flags", [["--raw", "--sampling-rate", "300"], ["--notch"], []])
def test_preparing_does_not_look_ahead(tmp_path: Path, flags: list[str]) -> None:
    takes = people.record(subjects=2, repetitions=1)
    stored = []
    for name, some in (("a", takes), ("b", changed(takes, TEST, later, ("P1",)))):
        data = people.write(tmp_path / name, some, mains=50)
        said = call("data", "prepare", data, "--out", tmp_path / f"{name}-stores", *flags)
        assert said.code == 0, said.err
        folder = next((tmp_path / f"{name}-stores").glob("people-*"))
        rows = pd.read_parquet(folder / "recordings.parquet")
        row = rows[(rows["subject"] == "P1") & (rows["session"] == TEST)].iloc[0]
        stored.append(np.load(folder / "signal.npy")[row["begin"] : row["end"]])
    before, after = stored
    length = len(takes["P1", TEST]["emg"])
    early = (length - CUT - 1) * len(before) // length
    assert np.array_equal(before[:early], after[:early])
    assert not np.array_equal(before, after)


# How it is described: sessions, people and repetitions that are not what they are called


@pytest.mark.parametrize("command", ["distill", "baseline"])
def test_scoring_the_calibration_session_is_refused(tmp_path: Path, command: str) -> None:
    takes = people.record(subjects=3)
    data = people.write(tmp_path / "data", takes, test_sessions=[CALIBRATION, TEST])
    words = ["lda-hudgins"] if command == "baseline" else ["--fold", 1]
    said = call(command, *words, "--k", 1, "--dataset", data, "--out", tmp_path / "run")
    refused(said, "session")
    assert not (tmp_path / "run" / "results.parquet").exists()


def test_people_who_share_a_file_do_not_share_their_samples(tmp_path: Path) -> None:
    """Held-out people's samples are in the files that the training people are read from."""
    takes = people.record(subjects=4)
    weights = []
    for name, some in (("a", takes), ("b", changed(takes, TEST, replace, ("P1",)))):
        shared: Takes = {}
        for session in (CALIBRATION, TEST):
            parts = [some[f"P{n}", session] for n in range(1, 5)]
            shared["all", session] = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
            who = np.repeat(["P1", "P2", "P3", "P4"], len(parts[0]["emg"]))
            shared["all", session]["who"] = who
        data = people.write(tmp_path / name, shared, files="*_{session}.npz", subjects_of="who")
        said = train(data, tmp_path / f"run-{name}", "pretrain")
        if said.code == 2:
            refused(said, "subjects_of")
            return
        assert said.code == 0, said.err
        weights.append({key: one[0] for key, one in bundles(tmp_path / f"run-{name}").items()})
    assert weights[0]
    assert weights[0] == weights[1]


COPIES = {
    "a held-out person's recording under a training person's name": (("P1", TEST), ("P2", TEST)),
    "the calibration session under the name of the test session": (
        ("P1", CALIBRATION),
        ("P1", TEST),
    ),
}


@pytest.mark.parametrize("part", ["the whole take", "one repetition"])
@pytest.mark.parametrize("way", COPIES)
def test_what_is_recorded_once_is_not_used_twice(tmp_path: Path, way: str, part: str) -> None:
    source, target = COPIES[way]
    takes = people.record(subjects=4)
    if part == "the whole take":
        takes[target] = copy.deepcopy(takes[source])
    else:
        # Repetition 0 of the one, exactly, is repetition 1 of the other.
        first, second = takes[source]["turn"] == 0, takes[target]["turn"] == 1
        for name in ("emg", "label"):
            takes[target][name][second] = takes[source][name][first]
    said = train(people.write(tmp_path / "data", takes), tmp_path / "run", k=[1])
    refused(said, *{source[0], target[0]}, *{source[1], target[1]})
    assert not (tmp_path / "run" / "results.parquet").exists()


# From end to end: where there is nothing to learn, nothing is learned

METHODS = ("svm-log-covariance", "forest-time-domain")


@pytest.fixture(scope="module", params=[1.0, 3.0], ids=["noise", "gestures"])
def measured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[float, pd.DataFrame]:
    """Every method's share of right decisions, pooled over people, with and without gestures."""
    takes = people.record(subjects=5, repetitions=4, hold=500, contrast=request.param)
    folder = tmp_path_factory.mktemp("measured")
    data = people.write(folder / "data", takes, step=50)  # windows do not overlap
    said = train(data, folder / "run", fold=[1, 2, 3], k=[0, 1, 4], baseline=[*METHODS])
    assert said.code == 0, said.err
    rows = pd.read_parquet(folder / "run" / "results.parquet")
    rows["right"] = rows["accuracy"] * rows["windows"]
    pooled = rows.groupby(["stage", "model", "loss", "k"])[["right", "windows"]].sum()
    return request.param, pooled


@pytest.mark.slow
def test_every_method_is_at_chance_on_noise_and_only_there(
    measured: tuple[float, pd.DataFrame],
) -> None:
    contrast, pooled = measured
    chance = 1 / len(people.GESTURES)
    spread = np.sqrt(pooled["windows"] * chance * (1 - chance))
    away = (pooled["right"] - chance * pooled["windows"]) / spread
    assert len(away) > 20
    assert pooled["windows"].min() == 360
    if contrast == 1:
        assert away.abs().max() < 4, away.sort_values().to_string()
    else:
        assert away.min() > 4, away.sort_values().to_string()
