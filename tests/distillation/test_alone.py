"""Without a population everything is learned from the person: teachers, student and their days."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from people import require_the_same_but_centred

from myodistill import Bundle, calibrate, recalibrate
from myodistill.config import Settings
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording
from myodistill.datasets.synthetic import Synthetic
from myodistill.distillation.alone import own_population
from myodistill.distillation.calibration import Calibration, person_sessions
from myodistill.errors import DataError, MyoDistillError, SettingsError
from myodistill.models.closed_form import ClosedFormNetwork
from myodistill.training.loop import NO_PATHS

SOURCE = Synthetic(subjects=3, seconds=0.6, repetitions=2)
WHO = SOURCE.subjects()[0]
QUICK: dict[str, Any] = {
    "student_model": "log-power-10k",
    "finetune": {"num_epochs": 3},
    "distill": {"num_epochs": 3},
    "pretrain": {"num_epochs": 1},
    "pretrain_student": {"num_epochs": 1},
}


class Mine(Dataset):
    """One person's recordings, in sessions that are named anew."""

    def __init__(self, *sessions: str) -> None:
        self.facts = replace(SOURCE.facts, test_sessions=())
        every = SOURCE.recordings(WHO)
        there = list(dict.fromkeys(one.session for one in every))
        names = dict(zip(there, sessions, strict=False))
        self._recordings = [
            replace(one, session=names[one.session]) for one in every if one.session in names
        ]

    def subjects(self) -> tuple[str, ...]:
        return (WHO,)

    def recordings(self, subject: str) -> list[Recording]:
        return self._recordings


def labelled(bundle: Bundle) -> set[tuple[str, int]]:
    assert {one.subject for one in bundle.seen} == {WHO}
    return {(one.session, one.index) for one in bundle.seen}


def test_everything_is_learned_from_the_person() -> None:
    made = calibrate(None, Mine("monday"), **QUICK)
    assert labelled(made) == {("monday", 0), ("monday", 1)}
    assert made.origin["population"] == "none"
    assert made.origin["stage"] == "distilled"
    assert made.adaptation is None
    again = calibrate(None, Mine("monday"), **QUICK)
    assert again.fingerprint == made.fingerprint
    other = calibrate(None, Mine("monday"), **QUICK, teacher_model=["covariance"])
    assert other.fingerprint != made.fingerprint


def test_it_tells_gestures_apart_in_a_session_that_it_never_saw() -> None:
    made = calibrate(None, Mine("monday"), student_model="log-power-10k")
    later = Mine("monday", "tuesday").recordings(WHO)
    decided = [
        (made.predict(one.signal[note.start : note.stop]) == note.gesture).mean()
        for one in later
        for note in one.annotations
        if one.session == "tuesday"
    ]
    assert np.mean(decided) > 0.7


def test_earlier_days_calibrate_too() -> None:
    both = Mine("monday", "tuesday")
    made = calibrate(None, both, k=1, **QUICK)
    assert labelled(made) == {("monday", 0), ("monday", 1), ("tuesday", 0)}
    assert made.preprocessing is not None
    assert made.preprocessing.seen <= made.seen
    assert made.origin["stage"] == "pretrained_distilled"
    assert made.origin["population"] == "none"
    assert made.adaptation is not None
    today = calibrate(None, Mine("earlier", "tuesday"), k=1, **QUICK)
    assert today.seen != made.seen
    # Without a label of the day, the days before it are what is learned from.
    blind = calibrate(None, both, k=0, **QUICK)
    assert blind.origin["k"] == 0
    relabelled = Mine("monday", "tuesday")
    relabelled._recordings = [
        replace(one, annotations=tuple(replace(n, gesture=1) for n in one.annotations))
        if one.session == "tuesday"
        else one
        for one in relabelled._recordings
    ]
    assert calibrate(None, relabelled, k=0, **QUICK).fingerprint == blind.fingerprint


def test_a_closed_form_teacher_takes_its_scatter_from_the_person() -> None:
    mine = Mine("monday")
    sessions = person_sessions(None, mine.recordings(WHO), mine.facts, 2)
    people = own_population(mine.facts, sessions, Settings())
    fold = Calibration.of(people, sessions, people.settings).fold
    network = fold.finetune(fold.untrained("population"), WHO, 2, NO_PATHS).network
    assert isinstance(network, ClosedFormNetwork)
    own = fold.data.calibration_set(network, fold.data.subject(WHO, 2), 2)
    features, labels = own.inputs[torch.arange(len(own.labels))], own.labels
    means = torch.stack(
        [features[labels == one].mean(dim=0) for one in range(len(labels.unique()))]
    )
    deviations = (features - means[labels]).double()
    scatter = deviations.T @ deviations / len(deviations)
    assert torch.allclose(network.head.means.double(), means.double(), atol=1e-4)
    assert torch.allclose(network.head.scatter.double(), scatter, rtol=0.02, atol=1e-4)


def test_a_gesture_that_was_never_performed_is_left_out() -> None:
    mine = Mine("monday")
    gestures = mine.facts.gestures
    mine._recordings = [
        replace(one, annotations=tuple(n for n in one.annotations if n.gesture != 1))
        for one in mine._recordings
    ]
    made = calibrate(None, mine, **QUICK)
    assert made.spec.gestures == (gestures[0], *gestures[2:])


def test_donned_again_nothing_but_the_frame_changes() -> None:
    worn = calibrate(None, Mine("monday"), **QUICK)
    both = Mine("monday", "tuesday").recordings(WHO)
    again = [replace(r, annotations=()) if r.session == "tuesday" else r for r in both]
    made = recalibrate(worn, None, again)
    assert made.origin["recentred"] == "tuesday"
    assert labelled(made) == {("monday", 0), ("monday", 1), ("tuesday", 0)}
    require_the_same_but_centred(made, worn)
    with pytest.raises(DataError, match="expected session 'monday' beside the new one"):
        recalibrate(worn, None, [one for one in again if one.session == "tuesday"])


def test_what_is_not_enough_is_refused() -> None:
    mine = Mine("monday")

    def refused(kind: type[MyoDistillError], match: str, what: object = mine, **more: Any) -> None:
        with pytest.raises(kind, match=match) as caught:
            calibrate(None, what, **QUICK | more)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    refused(SettingsError, "dataset or the path of one", mine.recordings(WHO))
    refused(SettingsError, "'recentre': expected an option of calibration", recentre=False)
    refused(SettingsError, "'fold': expected an option", fold=[1])
    refused(SettingsError, "unknown student 'covariance'", student_model="covariance")
    refused(DataError, "at least one repetition with labels", k=0)
    two = Mine("monday", "tuesday")
    two._recordings[-1] = replace(two._recordings[0], session="tuesday")
    refused(MyoDistillError, "are the same signal", two)
