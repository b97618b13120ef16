"""A person without a population: from their own recordings to C, by the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import people
import pytest
from commands import call, refused

from myodistill.bundle import Bundle
from myodistill.datasets.recording import Repetition
from myodistill.datasets.registry import open_dataset
from myodistill.deploy.parity_table import ParityTable
from myodistill.deploy.subject_data import SubjectData
from myodistill.distillation.population import Population, pretrain
from myodistill.errors import LeakageError
from myodistill.realtime.decoder import Decoder

BASE = ["calibrate", "none"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of one person: a folder of three repetitions each day, and one of both days."""
    folder = tmp_path_factory.mktemp("one")
    takes = people.record(subjects=1, repetitions=3)
    for name, days in (("first", ["day1"]), ("second", ["day2"])):
        mine = {("P1", day): takes["P1", day] for day in days}
        people.write(folder / name, mine, test_sessions=[], calibration_session=days[0])
    return folder


def person(recorded: Path, name: str = "first") -> str:
    return str(recorded / name / "people.yaml")


def test_from_ones_own_recordings_to_c(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert call(capsys, monkeypatch, "record", "store", person(recorded))[0] == 0
    words = [*BASE, "store", "--out", "anna", "--k", "2", "--to", "c-int8"]
    code, out, err = call(capsys, monkeypatch, *words, "--false-activations", "0.1")
    assert code == 0, err
    assert "bundle of P1: anna (2 repetitions of session day1" in out
    assert "each of 2 repetitions decided after calibration on the other 1" in out
    assert "of the rest in repetitions that were left out becomes a gesture" in out
    assert (tmp_path / "anna" / "c-int8" / "md_model.h").is_file()
    expected = json.loads((tmp_path / "anna" / "expected.json").read_text())
    assert len(expected["accuracies"]) == 2
    assert expected["mean"] > 0.9
    bundle = Bundle.load(tmp_path / "anna")
    assert bundle.spec.gestures == people.GESTURES
    take = open_dataset(person(recorded)).recordings("P1")[0]
    assert len(Decoder(bundle).push(take.signal)) > 50
    mine = SubjectData.of(bundle)
    assert {(r.session, a.repetition) for r in mine.tests for a in r.annotations} == {("day1", 2)}
    scored = [(bundle.predict(r.signal) == r.annotations[0].gesture).mean() for r in mine.tests]
    assert np.mean(scored) > 0.9

    code, out, err = call(capsys, monkeypatch, "deploy-report", "anna")
    assert code == 0, err
    assert ParityTable.read(tmp_path / "anna" / "parity.json").cautions == ()

    second = person(recorded, "second")
    line = refused(capsys, monkeypatch, "recalibrate", "none", "anna", second, "--out", "today")
    assert "expected session 'day1' beside the new one" in line
    assert not Path("today").exists()
    assert call(capsys, monkeypatch, "record", "store", second, "--unlabelled")[0] == 0
    words = ["recalibrate", "none", "anna", "store", "--out", "today"]
    code, out, err = call(capsys, monkeypatch, *words)
    assert code == 0, err
    assert "bundle for session day2: today" in out
    assert call(capsys, monkeypatch, "export", "today", "--to", "c-int8")[0] == 0
    today = Bundle.load(tmp_path / "today")
    assert today.rule == bundle.rule
    people.require_another_frame(today, bundle)


def test_the_bundle_owns_to_ones_own_recordings_and_no_others(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for words in (
        ["record", "store", person(recorded)],
        ["record", "store", person(recorded, "second")],
        [*BASE, "store", "--out", "anna", "--k", "1"],
    ):
        code, out, err = call(capsys, monkeypatch, *words)
        assert code == 0, (words, err)
    assert "1 repetition of session day2 and 1 earlier session" in out
    assert "expected accuracy: cannot be told from one repetition" in out
    expected = json.loads((tmp_path / "anna" / "expected.json").read_text())
    assert expected == {"from": "nothing", "k": 1}
    bundle = Bundle.load(tmp_path / "anna")
    assert bundle.seen == {
        *(Repetition("P1", "day1", i) for i in range(3)), Repetition("P1", "day2", 0),
    }  # fmt: skip
    told = {name: bundle.origin[name] for name in ("population", "session", "k")}
    assert told == {"population": "none", "session": "day2", "k": 1}
    assert bundle.adaptation is not None
    mine = SubjectData.of(bundle)
    assert {(r.session, a.repetition) for r in mine.tests for a in r.annotations} == {
        ("day2", 1), ("day2", 2),
    }  # fmt: skip
    forged = replace(bundle, seen=bundle.seen - {Repetition("P1", "day2", 0)})
    with pytest.raises(LeakageError, match="owns to P1/day2/repetition 0"):
        SubjectData.of(forged)
    others = replace(bundle, seen=bundle.seen | {Repetition("P2", "day2", 0)})
    with pytest.raises(LeakageError, match="P2/day2/repetition 0"):
        SubjectData.of(others)


def test_what_cannot_be_learned_from_is_one_line(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = ["--out", "anna"]
    silent = people.record(subjects=1, repetitions=2, seed=4)
    silent["P1", "day1"]["label"][:] = people.IGNORED
    mine = {("P1", "day1"): silent["P1", "day1"]}
    unlabelled = str(people.write(tmp_path / "silent", mine, test_sessions=[]))
    late = people.record(subjects=1, repetitions=2, seed=5)["P1", "day1"]
    late["label"][(late["label"] == 2) & (late["turn"] == 0)] = people.IGNORED
    mine = {("P1", "day1"): late}
    lacking = str(people.write(tmp_path / "late", mine, test_sessions=[]))
    both = str(people.write(tmp_path / "both", people.record(subjects=2), test_sessions=[]))
    cases = {
        "at least one repetition with labels, got none (k = 0)": [
            *BASE, person(recorded), *out, "--k", "0"
        ],
        "repetitions of at least 2 gestures, got 0": [*BASE, unlabelled, *out],
        "a repetition of 'open' in what is learned from": [*BASE, lacking, *out, "--k", "1"],
        "k from 0 to the 3 repetitions": [*BASE, person(recorded), *out, "--k", "4"],
        "unknown student 'population'": [
            *BASE, person(recorded), *out, "--student-model", "population"
        ],
        "unknown loss 'hinton'": [*BASE, person(recorded), *out, "--loss", "hinton"],
        "recordings of one person, got those of 2": [*BASE, both, *out],
        "expected a population": ["calibrate", "./none", person(recorded), *out],
    }  # fmt: skip
    for match, words in cases.items():
        assert match in refused(capsys, monkeypatch, *words)
        assert not Path("anna").exists()


def test_a_bundle_is_recalibrated_with_what_it_came_from(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*BASE, person(recorded), "--out", "anna", "--k", "1", "--no-estimate"]
    assert call(capsys, monkeypatch, *words)[0] == 0
    others = {(f"Q{who[1:]}", day): take for (who, day), take in people.record(seed=9).items()}
    path = people.write(tmp_path / "others", others)
    quick = {"num_epochs": 1}
    made = pretrain(
        path,
        out="others-pop",
        student_model="log-power-10k",
        pretrain=quick,
        pretrain_student=quick,
    )
    assert isinstance(made, Population)
    again = person(recorded, "second")
    words = ["recalibrate", "others-pop", "anna", again, "--out", "today"]
    assert "got one of 'none'; give that population" in refused(capsys, monkeypatch, *words)
    words = ["calibrate", "others-pop", person(recorded), "--out", "bea", "--k", "1"]
    assert call(capsys, monkeypatch, *words, "--no-estimate")[0] == 0
    words = ["recalibrate", "none", "bea", again, "--out", "today"]
    assert f"got one of '{made.hash}'" in refused(capsys, monkeypatch, *words)
    assert not Path("today").exists()
