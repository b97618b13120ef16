"""On real people: whoever is calibrated from a population gets the student of their study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from myodistill import Population, calibrate, pretrain
from myodistill.config import Settings
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.splits import make_split
from myodistill.training.loop import NO_PATHS

BRIEF: dict[str, Any] = {
    stage: {"num_epochs": 1} for stage in ("pretrain", "pretrain_student", "finetune", "distill")
}
STUDENT = "log-power-30k"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.usefixtures("real_data")
def test_a_population_makes_the_students_of_the_study(tmp_path: Path) -> None:
    dataset = open_dataset("3dc")
    split = make_split(dataset, 1)
    settings = Settings.load({**BRIEF, "dataset": "3dc"})
    fold = DistillationPipeline(FoldData(dataset, split, settings), settings, 0)
    teachers = [fold.pretrain(model, NO_PATHS) for model in settings.teacher_model]
    student = fold.pretrain_student(STUDENT, teachers, NO_PATHS)
    pretrain("3dc", exclude=split.heldout, out=tmp_path / "people", **BRIEF)
    people = Population.load(tmp_path / "people")
    assert people.subjects == split.pretraining
    assert len(split.heldout) >= 3
    for who in split.heldout:
        mine = [r for r in dataset.recordings(who) if r.session == split.calibration_session]
        tuned = [fold.finetune(teacher, who, 2, NO_PATHS) for teacher in teachers]
        theirs = fold.distill(StudentSpec(STUDENT, student, tuned, who, 2), NO_PATHS)
        assert calibrate(people, mine, k=2).fingerprint == theirs.fingerprint
