"""How well a person's decoder knows a gesture that nobody in its population performed.

    python benchmarks/new_gesture.py [--gesture "power grip"] [--people Participant1,...]

3DC: a population of everybody but some, once without a gesture and once with all. Those left out
calibrate by K = 1 and 4 repetitions of all gestures, and their test session is decided.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from common import machine

from myodistill import Bundle, calibrate, load_dataset, pretrain
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording


class Without(Dataset):
    """Some people of a dataset, without their recordings of a gesture."""

    def __init__(self, dataset: Dataset, people: Sequence[str], gesture: str) -> None:
        kept = tuple(name for name in dataset.facts.gestures if name != gesture)
        self.facts = replace(dataset.facts, gestures=kept)
        self._dataset, self._people = dataset, tuple(people)

    def subjects(self) -> tuple[str, ...]:
        """Return the people."""
        return self._people

    def recordings(self, subject: str) -> list[Recording]:
        """Return one person's recordings of the gestures that are left."""
        made = []
        for one in self._dataset.recordings(subject):
            (note,) = one.annotations
            name = one.gestures[note.gesture]
            if name in self.facts.gestures:
                note = replace(note, gesture=self.facts.gestures.index(name))
                made.append(replace(one, gestures=self.facts.gestures, annotations=(note,)))
        return made


def by_gesture(bundle: Bundle, scored: Sequence[Recording]) -> dict[str, float]:
    """Return the share of each gesture's windows that are decided right, in %."""
    right: dict[str, list[bool]] = defaultdict(list)
    for one in scored:
        name = one.gestures[one.annotations[0].gesture]
        label = bundle.spec.gestures.index(name)
        right[name].extend(bundle.predict(one.signal) == label)
    return {name: 100 * float(np.mean(values)) for name, values in right.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gesture", default="power grip")
    parser.add_argument("--people", default="Participant1,Participant6,Participant11")
    asked = parser.parse_args()
    left_out = asked.people.split(",")
    print(machine(), flush=True)
    dataset = load_dataset("3dc")
    others = [name for name in dataset.subjects() if name not in left_out]
    for title, gesture in (("never saw it", asked.gesture), ("saw it", "")):
        people = pretrain(Without(dataset, others, gesture))
        for person in left_out:
            recordings = dataset.recordings(person)
            mine = [r for r in recordings if r.session == dataset.facts.calibration_session]
            scored = [r for r in recordings if r.session in dataset.facts.test_sessions]
            for k in (1, 4):
                found = by_gesture(calibrate(people, mine, k=k), scored)
                it = found.pop(asked.gesture)
                print(
                    f"population {title}, {person}, K={k}: {asked.gesture} {it:.1f}, "
                    f"others {np.mean(list(found.values())):.1f}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
