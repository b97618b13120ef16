"""What a person without a population reaches, from one session, or from days before one.

    python benchmarks/alone.py --people Participant1,Participant2 --k 1,4
    python benchmarks/alone.py --dataset long-term --people sub1,sub2 --k 1,0 --day 16

The student of `myodistill calibrate none`. Of a day its trials 2 and later are scored, otherwise
the test sessions. Where there are no earlier days, its teachers and its control, which has no
teacher, are beside it.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from common import machine

from myodistill import Bundle, load_dataset
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording
from myodistill.distillation.alone import own_population
from myodistill.distillation.calibration import (
    Calibration,
    calibration_settings,
    person_sessions,
    student_of,
)
from myodistill.distillation.method import StudentSpec
from myodistill.signals.preprocessing import filtered
from myodistill.splits import require_unseen
from myodistill.training.loop import NO_PATHS


def accuracy(bundle: Bundle, scored: list[Recording], step: int) -> float:
    """Return the share of windows that a bundle decides right, in %."""
    assert bundle.preprocessing is not None
    sections = bundle.preprocessing.sections()
    windows = filtered(scored, sections, samples=bundle.spec.samples, step=step)
    require_unseen(windows.seen(), bundle.seen, what="bundle")
    return 100 * float((bundle.logits(windows).argmax(axis=1) == windows.labels).mean())


def parts(
    dataset: Dataset, person: str, day: int, history: int
) -> tuple[list[Recording], list[Recording]]:
    """Return what a person calibrates on, and what is scored."""
    every = dataset.recordings(person)
    if not day:
        tests = dataset.facts.test_sessions
        mine = [one for one in every if one.session not in tests]
        return mine, [one for one in every if one.session in tests]
    names = [f"day{number}" for number in range(day - history, day + 1)]
    today = [one for one in every if one.session == names[-1]]
    first = [one for one in today if one.annotations[0].repetition == 0]
    before = [one for name in names[:-1] for one in every if one.session == name]
    return [*before, *first], [one for one in today if one.annotations[0].repetition > 0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="3dc")
    parser.add_argument("--people", required=True)
    parser.add_argument("--k", default="1,4")
    parser.add_argument("--day", type=int, default=0)
    parser.add_argument("--history", type=int, default=10)
    parser.add_argument("--student-model")
    asked = parser.parse_args()
    print(machine(), flush=True)
    dataset = load_dataset(asked.dataset)
    names = student_of(None, asked.student_model, None)
    settings = calibration_settings(None, {}, names)
    for k in map(int, asked.k.split(",")):
        found: dict[str, list[float]] = {}
        for person in asked.people.split(","):
            mine, scored = parts(dataset, person, asked.day, asked.history)
            sessions = person_sessions(None, mine, dataset.facts, k)
            people = own_population(dataset.facts, sessions, settings)
            calibration = Calibration.of(people, sessions, settings)
            made = {"distilled": calibration.bundle(names)}
            if not people.students:
                fold = calibration.fold
                known = [fold.untrained(model) for model in settings.teacher_model]
                taught = [fold.finetune(one, person, k, NO_PATHS) for one in known]
                made |= {one.model: one for one in taught}
                spec = StudentSpec(names[0], None, [], person, k)
                made["no teacher"] = fold.distill(spec, NO_PATHS)
            for name, bundle in made.items():
                found.setdefault(name, []).append(accuracy(bundle, scored, dataset.facts.step))
            told = ", ".join(f"{name} {values[-1]:.1f}" for name, values in found.items())
            print(f"{person}, K={k}: {told}", flush=True)
        for name, values in found.items():
            print(f"K={k}, {name}: {np.mean(values):.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
