"""What a person's own earlier days are worth beside a population, and how to weigh the newest.

    python benchmarks/own_days.py [--days 11,16,21,26,30] [--history 10] [--shares 0,0.5,0.8]

Dataset `long-term`. For each person a population is made of the days of all others (each day is a
subject of its own, as the band was put on again); then a day is decoded that was calibrated by
`calibrate`, as a user calibrates: from the labelled days before it and with nothing, the unlabelled
first trial, or the labelled first trial of the day itself. Its other trials are scored.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import machine

from myodistill import Bundle, Population, calibrate, load_dataset, pretrain
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording, Repetition
from myodistill.splits import require_unseen

MODELS = ["covariance", "log-power"]


class EveryDay(Dataset):
    """The days of some people, each as a subject."""

    def __init__(self, dataset: Dataset, people: list[str]) -> None:
        self._days = {
            f"{person}-{session}": (person, session)
            for person in people
            for session in dict.fromkeys(r.session for r in dataset.recordings(person))
        }
        self._dataset = dataset
        self._person: tuple[str, list[Recording]] = ("", [])
        self.facts = replace(dataset.facts, calibration_session="day", test_sessions=())

    def subjects(self) -> tuple[str, ...]:
        """Return the days' names."""
        return tuple(self._days)

    def recordings(self, subject: str) -> list[Recording]:
        """Return one day."""
        person, session = self._days[subject]
        if self._person[0] != person:
            self._person = (person, self._dataset.recordings(person))
        return [
            replace(r, subject=subject, session="day")
            for r in self._person[1]
            if r.session == session
        ]


def accuracy(bundle: Bundle, scored: list[Recording], person: str, day: str) -> float:
    """Return the share of windows of trials 2 and later that a bundle decides right, in %."""
    left = {Repetition(person, day, r.annotations[0].repetition) for r in scored}
    require_unseen(left, bundle.seen, what="bundle")
    right: list[np.ndarray] = []
    for one in scored:
        (note,) = one.annotations
        right.append(bundle.predict(one.signal[note.start : note.stop]) == note.gesture)
    return 100 * float(np.concatenate(right).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", default="11,16,21,26,30")
    parser.add_argument("--history", type=int, default=10)
    parser.add_argument("--shares", default="0,0.5,0.8")
    parser.add_argument("--populations", type=Path, help="folder that keeps the populations")
    asked = parser.parse_args()
    print(machine(), flush=True)
    dataset = load_dataset("long-term")
    everybody = list(dataset.subjects())
    with tempfile.TemporaryDirectory() as scratch:
        kept = asked.populations or Path(scratch)
        rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for person in everybody:
            folder = kept / f"without-{person}"
            if not (folder / "population.json").exists():
                others = [one for one in everybody if one != person]
                pretrain(EveryDay(dataset, others), out=folder, teacher_model=MODELS)
            people = Population.load(folder)
            mine = dataset.recordings(person)
            for number in map(int, asked.days.split(",")):
                day = f"day{number}"
                earlier = {f"day{i}" for i in range(number - asked.history, number)}
                past = [r for r in mine if r.session in earlier]
                past.sort(key=lambda r: int(r.session.removeprefix("day")))
                today = [r for r in mine if r.session == day]
                first = [r for r in today if r.annotations[0].repetition == 0]
                scored = [r for r in today if r.annotations[0].repetition > 0]
                made = {
                    "day alone, unlabelled": calibrate(people, first, k=0),
                    "day alone, first trial": calibrate(people, first, k=1),
                    "days before, unlabelled": calibrate(people, [*past, *first], k=0),
                }
                for share in map(float, asked.shares.split(",")):
                    name = f"days before, first trial, share {share:g}"
                    made[name] = calibrate(people, [*past, *first], k=1, newest_share=share)
                for name, bundle in made.items():
                    rows[name][person].append(accuracy(bundle, scored, person, day))
                print(
                    person, day, {n: round(v[person][-1], 1) for n, v in rows.items()}, flush=True
                )
    for name, scores in rows.items():
        means = [float(np.mean(values)) for values in scores.values()]
        each = ", ".join(f"{mean:.1f}" for mean in means)
        print(f"{name}: {np.mean(means):.2f} ({each})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
