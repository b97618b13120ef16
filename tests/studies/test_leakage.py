"""Attempts to let what is scored reach what is trained: each is refused, or has no effect.

All go through the command line, on recordings in files. An attempt that is refused ends with exit
code 2 and one line. One without effect leaves the bundles and scores of an honest run.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import people
import pytest
import yaml
from people import CALIBRATION, TEST, DecisionStream, Takes

from myodistill.bundle import Bundle
from myodistill.cli import main as cli
from myodistill.realtime.decoder import Decoder

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


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("original")
    takes = people.record(subjects=6, repetitions=3)
    return Trained(takes, folder / "data" / "people.yaml", honest(takes, folder))


@pytest.fixture
def tampered(original: Trained, tmp_path: Path) -> Path:
    """A copy of the run to be tampered with."""
    return Path(shutil.copytree(original.out, tmp_path / "tampered"))


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


# What is recorded: parts of it change that nothing may have learned from


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


def test_relabelled_recordings_are_not_taken_for_the_old_ones(
    original: Trained, tampered: Path, tmp_path: Path
) -> None:
    other = changed(original.takes, CALIBRATION, relabel, (*HELD_OUT, *TRAINING))
    fresh = honest(other, tmp_path / "fresh")
    said = train(tmp_path / "fresh" / "data" / "people.yaml", tampered)
    refused_or_harmless(said, tampered, fresh)


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


# What a run has left: files that are edited, exchanged or brought from elsewhere


FOLD = Path("fold-1/seed-0")
TEACHER = FOLD / "pretrain-population"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1))


def sealed(card: dict[str, Any]) -> str:
    """What a forger who has read the source writes as the hash of an edited card."""
    content = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def forget(card: dict[str, Any], *, seal: str = "kept") -> None:
    """Strike all but one repetition from what a bundle has seen."""
    assert card["card_sha256"] == sealed(card)
    del card["seen"][1:]
    if seal == "dropped":
        del card["card_sha256"]
    elif seal == "recomputed":
        card["card_sha256"] = sealed(card)


@pytest.mark.parametrize("seal", ["kept", "dropped", "recomputed"])
@pytest.mark.parametrize("remade", [False, True])
def test_a_bundle_whose_seen_was_edited(
    original: Trained, tampered: Path, seal: str, remade: bool
) -> None:
    edit(tampered / TEACHER / "bundle.json", lambda card: forget(card, seal=seal))
    if remade:
        shutil.rmtree(tampered / FOLD / "P1")
    said = train(original.data, tampered)
    refused_or_harmless(said, tampered, original.out)


@pytest.mark.parametrize("seal", ["kept", "dropped"])
def test_an_edited_bundle_does_not_leave(original: Trained, tampered: Path, seal: str) -> None:
    bundle = next(tampered.glob("fold-1/seed-0/P1/k-2/pretrained_distilled-*"))
    edit(bundle / "bundle.json", lambda card: forget(card, seal=seal))
    refused(call("export", bundle, "--to", "onnx", "--dataset", original.data))
    assert not (bundle / "decoder.onnx").exists()


@pytest.mark.parametrize("forgery", ["has seen the test", "of a training person"])
def test_no_report_of_a_bundle_that_has_seen_the_test(
    original: Trained, tampered: Path, monkeypatch: pytest.MonkeyPatch, forgery: str
) -> None:
    monkeypatch.setenv("PATH", "")  # no compiler: what is not refused is soon done
    bundle = next(tampered.glob("fold-1/seed-0/P1/k-2/pretrained_distilled-*"))

    def change(card: dict[str, Any]) -> None:
        if forgery == "has seen the test":
            card["seen"].append(["P1", TEST, 0])
        else:
            card["origin"]["subject"] = "P2"
        card["card_sha256"] = sealed(card)

    edit(bundle / "bundle.json", change)
    refused(call("deploy-report", bundle, "--dataset", original.data))
    assert not (bundle / "ladder.json").exists()


def test_an_edited_score(original: Trained, tampered: Path) -> None:
    for path in tampered.rglob("scores/*.json"):
        edit(path, lambda kept: kept["value"]["result"].update(accuracy=1.0))
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


def test_edited_probabilities(original: Trained, tampered: Path) -> None:
    for path in tampered.rglob("scores/*.npz"):
        kept = dict(np.load(path))
        kept["probabilities"] = np.eye(len(people.GESTURES), dtype=np.float16)[kept["labels"]]
        np.savez_compressed(path, **kept)
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


def test_an_edited_split(original: Trained, tampered: Path) -> None:
    path = tampered / "splits" / "fold-1.json"
    edit(path, lambda split: split.update(heldout=["P1"], pretraining=["P2", "P3", "P4"]))
    refused_or_harmless(train(original.data, tampered), tampered, original.out)
    assert path.read_bytes() == (original.out / "splits" / "fold-1.json").read_bytes()


@pytest.mark.parametrize("record", ["its own", "the one that is wanted"])
def test_a_teacher_of_another_fold(
    original: Trained, tampered: Path, tmp_path: Path, record: str
) -> None:
    other = honest(original.takes, tmp_path, "pretrain", fold=[2]) / "fold-2/seed-0"
    wanted = (tampered / TEACHER / "record.json").read_bytes()
    shutil.copytree(other / TEACHER.name, tampered / TEACHER, dirs_exist_ok=True)
    if record != "its own":
        (tampered / TEACHER / "record.json").write_bytes(wanted)
    for place in ("P1", "P6", "pretrain-pretrained_distilled-log-power-10k"):
        shutil.rmtree(tampered / FOLD / place)
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


@pytest.mark.parametrize("stage", ["pretrained_distilled-log-power-10k", "finetune-covariance"])
def test_a_bundle_of_another_person(original: Trained, tampered: Path, stage: str) -> None:
    mine, other = (tampered / FOLD / who / "k-2" for who in HELD_OUT)
    for name in ("bundle.json", "weights.safetensors"):
        shutil.copy(other / stage / name, mine / stage / name)
    shutil.rmtree(mine / "scores")
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


def test_teacher_outputs_of_another_run(original: Trained, tampered: Path, tmp_path: Path) -> None:
    other = honest(changed(original.takes, TEST, replace, TRAINING), tmp_path)
    mine, theirs = (
        sorted((out / "fold-1/teacher-outputs").iterdir(), key=lambda p: p.stat().st_size)
        for out in (tampered, other)
    )
    assert [path.stat().st_size for path in mine] == [path.stat().st_size for path in theirs]
    for here, there in zip(mine, theirs, strict=True):
        here.write_bytes(there.read_bytes())
    for place in ("P1", "P6", "pretrain-pretrained_distilled-log-power-10k"):
        shutil.rmtree(tampered / FOLD / place)
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


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
    whole = {"fold": [1, 2, 3], "k": [0, 1, 4], "baseline": list(METHODS)}
    said = train(data, folder / "run", **whole)
    assert said.code == 0, said.err
    rows = pd.read_parquet(folder / "run" / "results.parquet")
    rows["right"] = rows["accuracy"] * rows["windows"]
    pooled = rows.groupby(["stage", "model", "loss", "k"])[["right", "windows"]].sum()
    return request.param, pooled


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
