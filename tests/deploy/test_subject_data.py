"""The person whom a bundle decodes is found in the fold that it was trained in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from decoding import bundle

from myodistill.datasets.registry import open_dataset
from myodistill.deploy.subject_data import SubjectData
from myodistill.provenance import implied_seen
from myodistill.splits import make_split

PEOPLE = "synthetic"


@pytest.mark.parametrize("cross_validation", ["5-fold", "leave-one-subject-out"])
def test_everybody_whom_a_fold_held_out_is_found(cross_validation: str) -> None:
    """Also where the fold of that number under the other cross-validation holds another out."""
    people = open_dataset(PEOPLE)
    split = make_split(people, 1, cross_validation)  # type: ignore[arg-type]
    assert len(split.heldout) == (3 if cross_validation == "5-fold" else 1)
    spec = people.facts.spec(100)
    network = bundle(channels=spec.channels, gestures=spec.classes, epochs=0)
    for subject in split.heldout:
        origin = {
            "stage": "pretrained_distilled",
            "opened": PEOPLE,
            "identity": people.identity(),
            "fold": 1,
            "split": split.narrowed(subject).hash,
            "k": 1,
            "subject": subject,
        }
        student = replace(network, spec=spec, unit=people.facts.unit, origin=origin)
        seen = implied_seen(student, split)
        assert student.preprocessing is not None
        fitted = replace(student.preprocessing, seen=split.unlabelled(subject, 1))
        found = SubjectData.of(replace(student, seen=seen, preprocessing=fitted))
        assert (found.subject, found.split) == (subject, split)
