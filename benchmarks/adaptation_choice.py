"""What adapting gains where its constants are chosen on other people than those it is scored on.

    python benchmarks/adaptation_choice.py RUN [--student log-covariance-30k] [--k 1,4]

For each fold of a finished run, the drift and the least probability are chosen on the people whom
the other folds held out, and scored on the fold's own. Of the pairs that lose none of the others
more than a point on any stream, and no stream's mean, the one that gains most over all streams is
taken; where there is none, the pair whose worst person loses least. Streams and scores are those of
``myodistill evaluate adaptation``; nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from common import machine

from myodistill import Bundle
from myodistill.adaptation import Adaptation
from myodistill.deploy.subject_data import SubjectData
from myodistill.evaluation.events import rest_of
from myodistill.evaluation.streams import balanced_accuracy
from myodistill.realtime.adaptation import GuardedGestureMeans
from myodistill.studies.adaptation import stream_logits

PAIRS = tuple(product((0.5, 1.0, 2.0, 4.0), (0.8, 0.9, 0.97)))
"""Drift and least probability."""


@dataclass(frozen=True, eq=False)
class Tried(Adaptation):
    """A person's adaptation with other constants."""

    pair: tuple[float, float] = PAIRS[0]

    @property
    def drift(self) -> float:
        """Variance that a gesture's mean may drift by."""
        return self.pair[0]

    @property
    def sure(self) -> float:
        """Least probability at which a decision may teach."""
        return self.pair[1]


def gains(folder: Path) -> dict[str, list[float]]:
    """Return a person's gain in points on each stream, by each pair."""
    bundle = Bundle.load(folder)
    known = bundle.adaptation
    if known is None:
        raise SystemExit(f"{folder}: expected a student that can adapt; run again")
    found: dict[str, list[float]] = {}
    data, rest = SubjectData.of(bundle), rest_of(bundle.spec.gestures)
    for played in stream_logits(data, known, rest):
        labels, logits, own, scores = played.labels, played.logits, played.adaptation, []
        for pair in (None, *PAIRS):
            decided = logits
            if pair is not None:
                tried = Tried(own.means, own.scatter, own.gain, own.repetitions, pair)
                adapter = GuardedGestureMeans(tried)
                decided = np.stack([adapter.adapt(one) for one in logits])
            chosen, scored = decided.argmax(axis=1), labels >= 0
            correct = float((chosen == labels)[scored].mean())
            is_rest = played.stream.name == "rest"
            scores.append(balanced_accuracy(chosen, labels) if is_rest else correct)
        found[played.stream.name] = [100 * (score - scores[0]) for score in scores[1:]]
    return found


def choose(others: np.ndarray) -> int:
    """Return the number of the pair for gains ``(person, stream, pair)``."""
    worst, means = others.min(axis=(0, 1)), others.mean(axis=0)
    harmless = (worst >= -1) & (means.min(axis=0) >= 0)
    value = np.where(harmless, means.mean(axis=0), worst - 100)
    return int(value.argmax())


def rows(run: Path, student: str, k: int) -> Iterator[str]:
    """Yield a line for each stream."""
    pattern = f"fold-*/seed-0/*/k-{k}/pretrained_distilled-{student}"
    folders = sorted(run.glob(pattern))
    if not folders:
        raise SystemExit(f"{run}: expected finished students ({pattern}), there are none")
    folds = np.array([folder.parts[-5] for folder in folders])
    people = [gains(folder) for folder in folders]
    names = list(people[0])
    table = np.array([[person[name] for name in names] for person in people])
    nested, taken = np.zeros(table.shape[:2]), []
    for fold in np.unique(folds):
        mine = folds == fold
        pair = choose(table[~mine])
        nested[mine] = table[mine][:, :, pair]
        taken.append("{} and {}".format(*PAIRS[pair]))
    yield f"K = {k}: drift and probability chosen for the folds: {'; '.join(taken)}"
    for name, values in zip(names, nested.T, strict=True):
        yield (
            f"| {k} | {name} | {values.mean():+.1f} | {(values > 0).sum()} of {len(values)} | "
            f"{values.min():+.1f} |"
        )


def main() -> None:
    """Print a table for each K."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--student", default="log-covariance-30k")
    parser.add_argument("--k", default="1,4")
    arguments = parser.parse_args()
    print(machine())
    for k in map(int, arguments.k.split(",")):
        for line in rows(arguments.run, arguments.student, k):
            print(line, flush=True)


if __name__ == "__main__":
    main()
