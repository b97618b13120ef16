"""Folds are deterministic artefacts, and what was seen is not scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import write_myo, write_threedc

from myodistill.datasets.recording import Repetition
from myodistill.datasets.registry import open_dataset
from myodistill.errors import LeakageError, SettingsError
from myodistill.splits import Split, make_split, require_unseen


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MYODISTILL_DATA", str(tmp_path))
    return tmp_path


def test_every_subject_is_held_out_once(data: Path) -> None:
    write_threedc(data, subjects=7, samples=5)
    dataset = open_dataset("3dc")
    splits = [make_split(dataset, fold) for fold in range(1, 6)]
    heldout = [subject for split in splits for subject in split.heldout]
    assert sorted(heldout) == sorted(dataset.subjects())
    for split in splits:
        assert not set(split.heldout) & set(split.pretraining)
        assert set(split.heldout) | set(split.pretraining) == set(dataset.subjects())


def test_a_reserved_set_makes_one_fold(data: Path) -> None:
    write_myo(data)
    split = make_split(open_dataset("myo"), 1)
    assert split.pretraining == ("pretraining-Female0", "pretraining-Male0")
    assert split.heldout == ("evaluation-Female0", "evaluation-Male0")
    assert {r.session for r in split.test("evaluation-Male0")} == {"Test0", "Test1"}
    with pytest.raises(SettingsError, match="fold: expected 1 to 1 for myo, got 2"):
        make_split(open_dataset("myo"), 2)


def test_hash_is_the_contents_and_survives_a_file(data: Path) -> None:
    write_threedc(data, subjects=5, samples=5)
    one, two = (make_split(open_dataset("3dc"), fold) for fold in (1, 2))
    assert one.hash != two.hash
    assert one.hash == make_split(open_dataset("3dc"), 1).hash
    path = data / "fold-1.json"
    path.write_text(one.to_json())
    assert Split.load(path) == one
    assert Split.load(path).hash == one.hash


def test_calibration_and_test_do_not_meet(data: Path) -> None:
    write_threedc(data, subjects=5, samples=5)
    split = make_split(open_dataset("3dc"), 1)
    subject = split.heldout[0]
    for k in (1, 2, 3, 4):
        assert len(split.calibration(subject, k)) == k
        assert not split.calibration(subject, k) & split.test(subject)
    assert split.unlabelled(subject, 0) == split.calibration(subject, 1)
    with pytest.raises(SettingsError, match="k: expected 1 to 4"):
        split.calibration(subject, 5)


def test_one_subject_has_nobody_to_learn_from(data: Path) -> None:
    write_threedc(data, subjects=1, samples=5)
    with pytest.raises(SettingsError, match="at least 2 subjects"):
        make_split(open_dataset("3dc"), 1)


def test_the_guard_names_what_was_seen() -> None:
    seen = {Repetition("Anna", "test", 2), Repetition("Ben", "train", 0)}
    require_unseen({Repetition("Anna", "test", 1)}, seen, what="teacher")
    with pytest.raises(LeakageError, match=r"the teacher never saw.*Anna/test/repetition 2"):
        require_unseen({Repetition("Anna", "test", 2)}, seen, what="teacher")


def test_a_narrowed_split_is_blind_to_others_who_are_held_out(data: Path) -> None:
    write_threedc(data, subjects=7, samples=5)
    split = make_split(open_dataset("3dc"), 1)
    anna, ben = split.heldout
    without = replace(split, heldout=(anna,))
    assert without.hash != split.hash
    assert without.narrowed(anna).hash == split.narrowed(anna).hash
    assert split.narrowed(anna).hash != split.narrowed(ben).hash
    assert split.narrowed().heldout == ()
    assert replace(split, fold=2).narrowed().hash != split.narrowed().hash
