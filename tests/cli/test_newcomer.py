"""From many people to the decoder of one who is in no dataset, by the command line."""

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
from myodistill.distillation.population import Population
from myodistill.errors import LeakageError
from myodistill.realtime.decoder import Decoder

QUICK = [
    *("--student-model", "log-power-10k", "--num-epochs", "2"),
    *("--pretrain-student.num-epochs", "2"),
]
BRIEF = ("finetune", "distill")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of four people, of a fifth with one session, and a population of the four."""
    folder = tmp_path_factory.mktemp("people")
    takes = people.record(subjects=5, repetitions=3)
    people.write(folder / "four", {key: take for key, take in takes.items() if key[0] != "P5"})
    mine = {("P5", "day1"): takes["P5", "day1"]}
    people.write(folder / "fifth", mine, test_sessions=[])
    later = {("P5", "day2"): takes["P5", "day2"]}
    people.write(folder / "again", later, test_sessions=[], calibration_session="day2")
    with pytest.MonkeyPatch.context() as patch:
        from myodistill.cli import main as cli

        words = ["pretrain", "--dataset", str(folder / "four" / "people.yaml"), "--fold", "none"]
        words += ["--out", str(folder / "population"), *QUICK]
        settings = folder / "brief.yaml"
        settings.write_text(json.dumps({stage: {"num_epochs": 5} for stage in BRIEF}))
        patch.setattr("sys.argv", ["myodistill", *words, "--config", str(settings)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
    return folder


def test_from_recordings_to_c(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    population, person = recorded / "population", recorded / "fifth" / "people.yaml"
    code, out, _ = call(capsys, monkeypatch, "population", "show", str(population))
    assert code == 0
    assert "4 people of people" in out
    words = ["calibrate", str(population), str(person), "--out", "anna", "--k", "2"]
    words += ["--to", "c-int8", "--false-activations", "0.1"]
    code, out, err = call(capsys, monkeypatch, *words)
    assert code == 0, err
    assert "bundle of P5: anna (2 repetitions of session day1" in out
    assert "each of 2 repetitions decided after calibration on the other 1" in out
    assert "of the rest in repetitions that were left out becomes a gesture" in out
    assert (tmp_path / "anna" / "c-int8" / "md_model.h").is_file()
    expected = json.loads((tmp_path / "anna" / "expected.json").read_text())
    assert len(expected["accuracies"]) == 2
    bundle = Bundle.load(tmp_path / "anna")
    take = open_dataset(str(person)).recordings("P5")[0]
    labels = Decoder(bundle).push(take.signal)
    assert len(labels) > 50
    mine = SubjectData.of(bundle)
    assert mine.unseen
    assert {(r.session, a.repetition) for r in mine.tests for a in r.annotations} == {("day1", 2)}
    assert not {r for r in mine.ranges.seen() if r.index == 2}

    code, out, err = call(capsys, monkeypatch, "deploy-report", "anna")
    assert code == 0, err
    assert ParityTable.read(tmp_path / "anna" / "parity.json").cautions == ()

    again = recorded / "again" / "people.yaml"
    words = ["recalibrate", str(population), "anna", str(again), "--out", "today"]
    code, out, err = call(capsys, monkeypatch, *words)
    assert code == 0, err
    assert "bundle for session day2: today" in out
    today = Bundle.load(tmp_path / "today")
    assert today.rule == bundle.rule
    people.require_another_frame(today, bundle)


def test_a_bundle_that_follows_the_band_is_exported_and_measured_where_it_is_worn(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    population, person = str(recorded / "population"), str(recorded / "fifth" / "people.yaml")
    again = str(recorded / "again" / "people.yaml")
    for words in (
        ["record", "store", person],
        ["calibrate", population, "store", "--out", "anna", "--no-estimate"],
        ["record", "store", again],
        ["recalibrate", population, "anna", "store", "--out", "today"],
        ["export", "today", "--to", "c-int8"],
        ["deploy-report", "today"],
        ["record", "blind", person],
        ["record", "blind", again, "--unlabelled"],
        ["recalibrate", population, "anna", "blind", "--out", "unlabelled"],
        ["export", "unlabelled", "--to", "c-int8", "--dataset", "blind"],
    ):
        code, _, err = call(capsys, monkeypatch, *words)
        assert code == 0, (words, err)
    mine = SubjectData.of(Bundle.load(tmp_path / "today"))
    assert {(r.session, a.repetition) for r in mine.tests for a in r.annotations} == {
        ("day2", 1), ("day2", 2),
    }  # fmt: skip
    assert {(r.session, r.index) for r in mine.ranges.seen()} == {("day2", 0)}
    line = refused(capsys, monkeypatch, "deploy-report", "unlabelled", "--dataset", "blind")
    assert "expected a labelled repetition of session 'day2'" in line
    bundle = Bundle.load(tmp_path / "anna")
    forged = replace(bundle, seen=bundle.seen - {Repetition("P5", "day1", 2)})
    with pytest.raises(LeakageError, match="owns to P5/day1/repetition 2"):
        SubjectData.of(forged)


@pytest.mark.slow
def test_where_nothing_is_left_to_score_the_report_says_so(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    population, person = str(recorded / "population"), str(recorded / "fifth" / "people.yaml")
    words = ["calibrate", population, person, "--out", "anna", "--no-estimate"]
    assert call(capsys, monkeypatch, *words)[0] == 0
    code, out, err = call(capsys, monkeypatch, "deploy-report", "anna")
    assert code == 0, err
    (caution,) = ParityTable.read(tmp_path / "anna" / "parity.json").cautions
    assert "windows that the student calibrated on" in caution
    assert "windows that the student calibrated on" in " ".join(out.split())
    words = ["export", "anna", "--to", "onnx", "--dataset", str(recorded / "four" / "people.yaml")]
    assert "expected one of 4 subjects" in refused(capsys, monkeypatch, *words)


@pytest.mark.slow
def test_one_repetition_is_judged_by_what_others_reached(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    population, person = recorded / "population", str(recorded / "fifth" / "people.yaml")
    words = ["calibrate", str(population), person, "--out", "anna", "--k", "1"]
    code, out, _ = call(capsys, monkeypatch, *words)
    assert code == 0
    assert "expected accuracy: unknown. With K=1 nothing can be left out" in out
    run = ["run", "--dataset", str(recorded / "four" / "people.yaml"), "--k", "1", *QUICK[:2]]
    run += ["--pretrain.num-epochs", "2", "--pretrain-student.num-epochs", "2", "--out", "run"]
    run += ["--config", str(recorded / "brief.yaml")]
    assert call(capsys, monkeypatch, *run)[0] == 0
    words = ["pretrain", "--dataset", str(recorded / "four" / "people.yaml"), "--fold", "none"]
    words += [*QUICK, "--config", str(recorded / "brief.yaml")]
    made = [*words, "--out", "knowing", "--expected", "run"]
    assert call(capsys, monkeypatch, *made)[0] == 0
    (one,) = Population.load(Path("knowing")).expected
    assert (one.k, one.people) == (1, 4)
    code, out, _ = call(
        capsys, monkeypatch, "calibrate", "knowing", person, "--out", "anna", "--k", "1"
    )
    assert "what 4 other people reached with K=1, not measured on this person" in out
    other = [*words, "--out", "other", "--expected", "run", "--temperature", "7"]
    line = refused(capsys, monkeypatch, *other)
    assert "expected a run with the temperature '7.0'" in line
    assert not Path("other").exists()


def test_what_cannot_be_calibrated_is_one_line(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    population, person = str(recorded / "population"), str(recorded / "fifth" / "people.yaml")
    base = ["calibrate", population, person, "--out", "anna"]
    cases = {
        "k from 0 to the 3 repetitions": [*base, "--k", "4"],
        "unknown student of the population": [*base, "--student-model", "log-power-30k"],
        "recordings of one person, got those of 4": [
            *base[:2], str(recorded / "four" / "people.yaml"), *base[3:]
        ],
        "not in the population, 'P1' is": [
            *base[:2], str(recorded / "four" / "people.yaml"), *base[3:], "--subject", "P1"
        ],
        "expected a population": ["calibrate", str(tmp_path), *base[2:]],
        "unknown target": [*base, "--to", "toaster"],
        "a share from 0 up to 1, got 2": [*base, "--false-activations", "2", "--no-estimate"],
    }  # fmt: skip
    for match, words in cases.items():
        assert match in refused(capsys, monkeypatch, *words)
    assert "with --fold none only" in refused(
        capsys, monkeypatch, "pretrain", "--exclude", "P1", "--dataset", "synthetic"
    )
    takes = people.record(subjects=1, repetitions=2)
    changes: dict[str, dict[str, object]] = {
        "the sampling rate 500": {"sampling_rate": 250},
        "the unit": {"unit": "mV"},
        "the electrodes": {"electrodes": {"layout": "grid", "rows": 2, "columns": 2}},
    }
    for number, (match, change) in enumerate(changes.items()):
        path = people.write(tmp_path / str(number), {("N", "day1"): takes["P1", "day1"]},
                            test_sessions=[], **change)  # fmt: skip
        line = refused(capsys, monkeypatch, "calibrate", population, str(path), "--out", "anna")
        assert match in line
    take = takes["P1", "day1"]
    flat = {**take, "emg": np.clip(take["emg"], -0.4, 0.4)}
    path = people.write(tmp_path / "clipped", {("N", "day1"): flat}, test_sessions=[])
    line = refused(capsys, monkeypatch, "calibrate", population, str(path), "--out", "anna")
    assert "electrode 0" in line
    assert "saturated" in line
    assert not Path("anna").exists()


def test_populations_are_merged(
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takes = people.record(subjects=2, repetitions=3, seed=7)
    named = {(f"Q{who[1:]}", session): take for (who, session), take in takes.items()}
    path = people.write(tmp_path / "two", named)
    words = ["pretrain", "--dataset", str(path), "--fold", "none", "--out", "two-people", *QUICK]
    assert call(capsys, monkeypatch, *words)[0] == 0
    both = [str(recorded / "population"), "two-people"]
    code, _, err = call(capsys, monkeypatch, "population", "merge", *both, "--out", "all")
    assert code == 0, err
    merged = Population.load(Path("all"))
    assert merged.subjects == ("P1", "P2", "P3", "P4", "Q1", "Q2")
    assert merged.settings.finetune.num_epochs == 5
    renamed = {(f"R{who[1:]}", session): take for (who, session), take in takes.items()}
    other = people.write(tmp_path / "other", renamed, sampling_rate=400)
    words = ["pretrain", "--dataset", str(other), "--fold", "none", "--out", "slow", *QUICK]
    assert call(capsys, monkeypatch, *words)[0] == 0
    line = refused(capsys, monkeypatch, "population", "merge", both[0], "slow", "--out", "none")
    assert "expected recordings at 500 Hz" in line
    assert "got at 400 Hz" in line
    assert not Path("none").exists()


def test_a_bundle_finds_its_own_recordings_only(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    population, person = str(recorded / "population"), str(recorded / "fifth" / "people.yaml")
    words = ["calibrate", population, person, "--out", "anna", "--k", "1", "--no-estimate"]
    assert call(capsys, monkeypatch, *words)[0] == 0
    take = people.record(subjects=5, repetitions=3)["P5", "day1"]
    take["emg"][100] += 1
    changed = people.write(Path("changed").absolute(), {("P5", "day1"): take}, test_sessions=[])
    words = ["deploy-report", "anna", "--dataset", str(changed)]
    assert "recordings that it was calibrated on" in refused(capsys, monkeypatch, *words)
