"""A population is made once; whoever comes later gets the student that a study would make."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import require_the_same_but_centred
from torch import Tensor

from myodistill import Population, calibrate, pretrain, recalibrate
from myodistill.config import Settings, digest
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording, grid
from myodistill.datasets.synthetic import Synthetic
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.errors import BundleError, DataError, LeakageError, PopulationError, SettingsError
from myodistill.signals.prepared import prepare
from myodistill.splits import make_split
from myodistill.training.checkpoint import TrainingState
from myodistill.training.loop import NO_PATHS

QUICK: dict[str, Any] = {
    "student_model": ["log-power-10k"],
    "pretrain": {"num_epochs": 2},
    "pretrain_student": {"num_epochs": 2},
    "finetune": {"num_epochs": 2},
    "distill": {"num_epochs": 2},
}
EVERYBODY = Synthetic(subjects=5, seconds=0.6, repetitions=2)
FOLD = make_split(EVERYBODY, 1)
WHO = FOLD.heldout[0]


class Some(Dataset):
    """Some people of a dataset."""

    def __init__(self, subjects: tuple[str, ...]) -> None:
        self.facts = EVERYBODY.facts
        self._subjects = subjects

    def subjects(self) -> tuple[str, ...]:
        return self._subjects

    def recordings(self, subject: str) -> list[Recording]:
        return EVERYBODY.recordings(subject)


@pytest.fixture(scope="module")
def people() -> Population:
    return pretrain(Some(FOLD.pretraining), **QUICK)


@pytest.fixture(scope="module")
def folder(people: Population, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people.save(tmp_path_factory.mktemp("populations") / "five")


@pytest.fixture
def mine() -> list[Recording]:
    return [r for r in EVERYBODY.recordings(WHO) if r.session == FOLD.calibration_session]


def test_training_that_was_killed_goes_on(
    people: Population, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("myodistill.training.checkpoint._SECONDS_BETWEEN", 0.0)
    begun: list[int] = []
    save, resume = TrainingState.save, TrainingState.resume

    def killed(self: TrainingState, epoch: int, best: dict[str, Tensor]) -> None:
        save(self, epoch, best)
        raise KeyboardInterrupt

    def counted(self: TrainingState, best: dict[str, Tensor]) -> int:
        begun.append(resume(self, best))
        return begun[-1]

    out = tmp_path / "people"
    monkeypatch.setattr(TrainingState, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(Some(FOLD.pretraining), out=out, **QUICK)
    monkeypatch.setattr(TrainingState, "save", save)
    assert not out.exists()
    monkeypatch.setattr(TrainingState, "resume", counted)
    made = pretrain(Some(FOLD.pretraining), out=out, **QUICK)
    assert begun == [1, 0]  # the teacher's second epoch, then the student
    assert [path.name for path in tmp_path.iterdir()] == ["people"]
    for mine, theirs in zip(made.teachers, people.teachers, strict=True):
        assert mine.fingerprint == theirs.fingerprint


def test_a_population_holds_what_representations_give(
    mine: list[Recording], tmp_path: Path
) -> None:
    models = {"teacher_model": ["cnn@log-covariance"], "student_model": ["cnn@band-power"]}
    people = pretrain(Some(FOLD.pretraining), **{**QUICK, **models})
    made, later = (calibrate(one, mine, k=1) for one in (people, people.save(tmp_path / "people")))
    assert made.model == "cnn@band-power"
    assert made.fingerprint == later.fingerprint


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_newcomer_gets_the_student_of_the_fold_that_held_them_out(
    people: Population, folder: Path, mine: list[Recording], k: int
) -> None:
    settings = Settings.load({**QUICK, "dataset": "synthetic"})
    fold = DistillationPipeline(FoldData(EVERYBODY, FOLD, settings), settings, 0)
    teachers = [fold.pretrain(model, NO_PATHS) for model in settings.teacher_model]
    student = fold.pretrain_student("log-power-10k", teachers, NO_PATHS)
    tuned = [fold.finetune(teacher, WHO, k, NO_PATHS) for teacher in teachers]
    theirs = fold.distill(StudentSpec("log-power-10k", student, tuned, WHO, k), NO_PATHS)
    for population in (people, folder):
        made = calibrate(population, mine, k=k)
        assert made.fingerprint == theirs.fingerprint
        assert made.preprocessing is not None
        assert theirs.preprocessing is not None
        assert np.array_equal(made.preprocessing.matrix, theirs.preprocessing.matrix)
        assert made.seen == theirs.seen
        assert made.origin["stage"] == "pretrained_distilled"


def test_all_repetitions_calibrate_unless_k_is_given(
    people: Population, mine: list[Recording]
) -> None:
    assert calibrate(people, mine).origin["k"] == 2
    another_day = [replace(r, session="tuesday") for r in mine]
    assert calibrate(people, another_day, k=2).fingerprint == calibrate(people, mine).fingerprint
    longer = calibrate(people, mine, distill={"num_epochs": 4})
    assert longer.fingerprint != calibrate(people, mine).fingerprint


def test_recordings_come_from_a_path_too(
    people: Population, mine: list[Recording], tmp_path: Path
) -> None:
    store = prepare("", tmp_path, dataset=Some((WHO,)))
    assert calibrate(people, store.folder).fingerprint == calibrate(people, mine).fingerprint
    both = prepare("", tmp_path, dataset=Some(FOLD.pretraining[:2]))
    with pytest.raises(DataError, match="recordings of one person, got those of 2"):
        calibrate(people, both.folder)


def test_a_population_is_everybody_and_says_so(people: Population, folder: Path) -> None:
    back = Population.load(folder)
    for one in (people, back):
        assert one.subjects == FOLD.pretraining
        assert one.split.heldout == ()
        assert [teacher.model for teacher in one.teachers] == ["population", "covariance"]
        assert set(one.students) == {("log-power-10k", "soft-target")}
        assert {r.subject for r in one.teachers[0].seen} == set(FOLD.pretraining)
    assert back.facts == people.facts
    assert back.settings == people.settings
    assert all(path.suffix in (".json", ".safetensors", ".npy", ".md")
               for path in folder.rglob("*") if path.is_file())  # fmt: skip


def refused(people: Population, recordings: list[Recording], match: str, **how: Any) -> None:
    with pytest.raises((DataError, LeakageError), match=match) as caught:
        calibrate(people, recordings, **how)
    assert "\n" not in str(caught.value)


def test_a_newcomer_must_be_recorded_alike(people: Population, mine: list[Recording]) -> None:
    one = mine[0]
    changes: dict[str, dict[str, Any]] = {
        "the sampling rate 1000": {"sampling_rate": 500.0},
        "the unit 'µV', got 'counts'": {"unit": "counts"},
        "the electrodes .*ring": {"electrodes": grid(2, 4)},
    }
    for match, change in changes.items():
        refused(people, [replace(one, **change)], match)


def test_a_newcomer_must_be_new_and_one(people: Population, mine: list[Recording]) -> None:
    known = people.subjects[0]
    theirs = [r for r in EVERYBODY.recordings(known) if r.session == mine[0].session]
    refused(people, theirs, f"not in the population, '{known}' is")
    refused(people, [replace(r, subject="new") for r in theirs], "are the same signal")
    late = theirs[0].annotations[5].start
    part = replace(
        theirs[0],
        subject="new",
        signal=theirs[0].signal[late:],
        annotations=tuple(
            replace(n, start=n.start - late, stop=n.stop - late)
            for n in theirs[0].annotations if n.start >= late
        ),
    )  # fmt: skip
    refused(people, [part], "are the same signal", k=0)
    refused(people, [*mine, replace(mine[0], subject="another")], "recordings of one subject")
    refused(people, [*mine, replace(mine[0], session="later")], "are the same signal")
    refused(people, [], "recordings of one subject, got 0")


def test_a_newcomer_must_have_repetitions_of_several_gestures(
    people: Population, mine: list[Recording]
) -> None:
    one = mine[0]
    notes = one.annotations
    refused(people, [replace(one, annotations=())], "k from 0 to the 0 repetitions", k=1)
    refused(people, mine, "k from 0 to the 2 repetitions .* got 3", k=3)
    refused(people, mine, "got True", k=True)
    only = tuple(note for note in notes if note.gesture == 1)
    refused(people, [replace(one, annotations=only)], "at least 2 gestures .* got 1", k=1)


def test_settings_that_a_population_fixes_are_refused(
    people: Population, mine: list[Recording]
) -> None:
    with pytest.raises(SettingsError, match="'recentre': expected an option of calibration"):
        calibrate(people, mine, recentre=False)
    with pytest.raises(SettingsError, match="unknown student of the population"):
        calibrate(people, mine, student_model="log-power-30k")
    with pytest.raises(SettingsError, match="fold: expected settings of training"):
        pretrain(Some(FOLD.pretraining), fold=[1])
    with pytest.raises(SettingsError, match="seed: expected one"):
        pretrain(Some(FOLD.pretraining), seed=[0, 1])


def test_people_who_are_copies_make_no_population() -> None:
    class Twins(Some):
        def recordings(self, subject: str) -> list[Recording]:
            return [replace(r, subject=subject) for r in EVERYBODY.recordings("Person1")]

    with pytest.raises(LeakageError, match="are the same signal"):
        pretrain(Twins(("A", "B")), **QUICK)


def day(mine: list[Recording], name: str, seed: int) -> list[Recording]:
    """Return another day: electrodes of other gains."""
    gains = np.random.default_rng(seed).uniform(0.6, 1.6, mine[0].signal.shape[1])
    return [
        replace(r, session=name, signal=(r.signal * gains).astype(np.float32)[:, :]) for r in mine
    ]


def test_earlier_days_calibrate_too(people: Population, mine: list[Recording]) -> None:
    days = [*day(mine, "monday", 1), *day(mine, "tuesday", 2)]
    made = calibrate(people, days)
    own = {(r.session, r.index) for r in made.seen if r.subject == WHO}
    assert own == {("monday", 0), ("monday", 1), ("tuesday", 0), ("tuesday", 1)}
    assert made.origin["k"] == 2
    assert made.preprocessing is not None
    assert {r.session for r in made.preprocessing.seen if r.subject == WHO} == {"tuesday"}
    alone = calibrate(people, day(mine, "tuesday", 2))
    assert made.fingerprint != alone.fingerprint
    assert np.array_equal(made.preprocessing.matrix, alone.preprocessing.matrix)  # type: ignore[union-attr]
    # With no label of the newest day it still learns from the day before.
    blind = calibrate(people, days, k=0)
    assert {(r.session, r.index) for r in blind.seen if r.subject == WHO} == {
        ("monday", 0), ("monday", 1), ("tuesday", 0),
    }  # fmt: skip
    relabelled = [
        replace(r, annotations=tuple(replace(n, gesture=1) for n in r.annotations))
        if r.session == "tuesday" else r for r in days
    ]  # fmt: skip
    assert calibrate(people, relabelled, k=0).fingerprint == blind.fingerprint
    silent = [replace(r, annotations=()) if r.session == "tuesday" else r for r in days]
    assert calibrate(people, silent).origin["k"] == 0


def test_donned_again_nothing_but_the_frame_changes(
    people: Population, mine: list[Recording]
) -> None:
    worn = calibrate(people, day(mine, "monday", 1))
    again = [replace(r, annotations=()) for r in day(mine, "tuesday", 2)]
    made = recalibrate(worn, people, again)
    require_the_same_but_centred(made, worn)
    assert made.seen > worn.seen
    with pytest.raises(BundleError, match="whose bundle it is"):
        recalibrate(worn, people, [replace(r, subject="another") for r in again])
    with pytest.raises(BundleError, match="calibrated from population"):
        recalibrate(replace(worn, origin={**worn.origin, "population": "other"}), people, again)


def test_a_gesture_that_nobody_performed_is_learned_from_the_person(
    people: Population, mine: list[Recording], caplog: pytest.LogCaptureFixture
) -> None:
    known = people.facts.gestures
    gestures = (*known[:-1], "snap")
    new = [replace(r, gestures=gestures) for r in mine]
    made = calibrate(people, new, distill={"num_epochs": 100}, finetune={"num_epochs": 30})
    assert made.spec.gestures == (*known, "snap")
    assert f"no repetition of '{known[-1]}'" in caplog.text
    last = len(known) - 1
    snaps = [r.signal[n.start : n.stop] for r in new for n in r.annotations if n.gesture == last]
    decided = np.concatenate([made.predict(one) for one in snaps])
    assert (decided == len(known)).mean() > 0.8
    with pytest.raises(DataError, match="a repetition of 'snap', which the population does not"):
        calibrate(people, new, k=0)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def not_loaded(folder: Path, match: str) -> None:
    with pytest.raises(PopulationError, match=match) as caught:
        Population.load(folder)
    assert "\n" not in str(caught.value)


def test_every_file_is_under_the_hash(copy: Path) -> None:
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert len(files) == 2 + 2 * 3 + 3
    for path in files:
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        not_loaded(copy, "expected")
        path.unlink()
        not_loaded(copy, "expected")
        path.write_bytes(before)
    Population.load(copy)
    (copy / "teachers" / "extra.json").write_text("{}")
    not_loaded(copy, "extra.json', which is missing, new or altered")


def test_other_formats_and_newer_versions_are_refused(copy: Path) -> None:
    card = json.loads((copy / "population.json").read_text())
    del card["card_sha256"]
    changes: tuple[dict[str, Any], ...] = (
        {"format": 99}, {"format": None}, {"version": "99.0.0"}, {"version": "new"}, {"files": []},
        {"settings": {"temp": "hot"}}, {"split": {}},
        {"settings": card["settings"] | {"student_model": ["log-power-30k"]}},
    )  # fmt: skip
    for change in changes:
        changed = card | change
        text = json.dumps(changed | {"card_sha256": digest(changed)})
        (copy / "population.json").write_text(text)
        not_loaded(copy, "expected")
    not_loaded(copy / "nothing", "expected a population")
