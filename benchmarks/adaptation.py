"""What students would gain by following their wearer without labels, and where it harms.

    python benchmarks/adaptation.py RUN [--student log-power-30k] [--k 1,4]

A prototype on the finished students of a run, before any of it goes into a decoder. In the space of
a student's logits, each gesture has a mean and all share one scatter, both from the person's
calibration windows. A window is decided first; then the mean of its gesture moves by a Kalman gain.
What the means have moved is added to the student's logits, so that nothing changes at the start.

*guarded* moves a mean only where the student with and without adaptation agrees with a probability
of 0.8, takes 20 windows of one performance at full weight, lets no gesture get far ahead of the
others, and adds six tenths of the correction. *plain* does none of this.

Streams: the test session as recorded; shuffled; nine tenths rest; half the gestures never
performed; the last gesture, unknown to the student, five times as long (its windows are not
scored). Rest streams are scored by balanced accuracy, all others by accuracy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import machine
from numpy.typing import NDArray

from myodistill import Bundle
from myodistill.deploy.subject_data import SubjectData

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]

_DRIFT = 2.5
"""Drift variance of a gesture's mean at K = 1, in units of the scatter within gestures."""
_NOISE = 50
"""Windows that count as one independent observation."""
_SHRINKAGE = 0.1


@dataclass(frozen=True)
class Person:
    """A student's logits ``(window, gesture)`` on one person, and the statistics to adapt by.

    Attributes:
        logits: Of the test windows, in recorded order.
        labels: Of these.
        whitening: Maps logits to where the scatter within gestures is the identity.
        means: Of the gestures there, ``(gesture, feature)``.
        gain: Logits per unit of the linear discriminant of these means.
        drift: Variance that the means may have drifted by.
    """

    logits: Floats
    labels: Labels
    whitening: Floats
    means: Floats
    gain: float
    drift: float

    @classmethod
    def of(cls, bundle: Bundle, k: int) -> Person:
        """Decide a person's sessions with their own student."""
        data = SubjectData.of(bundle)
        calibration, test = data.calibration, data.scored
        logits, labels = bundle.logits(calibration).astype(float), calibration.labels
        means = np.stack([logits[labels == c].mean(axis=0) for c in range(bundle.spec.classes)])
        deviations = logits - means[labels]
        scatter = deviations.T @ deviations / len(deviations)
        diagonal = np.diag(np.diag(scatter) + 1e-6 * np.trace(scatter))
        scatter = (1 - _SHRINKAGE) * scatter + _SHRINKAGE * diagonal
        whitening = np.linalg.inv(np.linalg.cholesky(scatter)).T
        means = means @ whitening
        discriminant = _centred(logits @ whitening @ means.T - 0.5 * (means**2).sum(axis=1))
        gain = (discriminant * _centred(logits)).sum() / (discriminant**2).sum()
        scored = bundle.logits(test).astype(float)
        return cls(scored, test.labels, whitening, means, float(gain), _DRIFT / k)


def adapted(person: Person, order: Labels, *, classes: int, guarded: bool) -> Labels:
    """Return the decision of each window of a stream; a window is decided before it is used."""
    logits = person.logits[order, :classes]
    points = person.logits[order] @ person.whitening
    fixed = person.means[:classes]
    means, variance = fixed.copy(), np.full(classes, person.drift)
    gain = person.gain * (0.6 if guarded else 1.0)
    evidence, length, last = np.zeros(classes), 0, -1
    decisions = np.empty(len(order), np.intp)
    for index, (static, point) in enumerate(zip(logits, points, strict=True)):
        moved = (means - fixed) @ point - 0.5 * ((means**2).sum(axis=1) - (fixed**2).sum(axis=1))
        current = static + gain * moved
        decisions[index] = gesture = int(current.argmax())
        powers = np.exp(current - current.max())
        weight = powers[gesture] / powers.sum()
        length = length + 1 if gesture == last else 1
        last = gesture
        if guarded:
            sure = weight > 0.8 and static.argmax() == gesture
            ahead = evidence[gesture] > 1.5 * (evidence.mean() + 20)
            weight *= float(sure and not ahead) * min(1, 20 / length)
        evidence[gesture] += weight
        share = weight * variance[gesture] / (weight * variance[gesture] + _NOISE)
        means[gesture] += share * (point - means[gesture])
        variance[gesture] *= 1 - share
    return decisions


def streams(labels: Labels, gestures: int) -> Iterator[tuple[str, Labels, int]]:
    """Yield the name of each stream, its windows in order, and how many gestures are known."""
    random = np.random.default_rng(0)
    yield "recorded", np.arange(len(labels)), gestures
    yield "shuffled", random.permutation(len(labels)), gestures
    yield "rest", _resting(labels), gestures
    half = random.permutation(np.arange(1, gestures))[: gestures // 2]
    yield "half", np.flatnonzero(np.isin(labels, [0, *half])), gestures
    yield (
        "unknown",
        np.repeat(np.arange(len(labels)), np.where(labels == gestures - 1, 5, 1)),
        gestures - 1,
    )


def _resting(labels: Labels) -> Labels:
    """Half of each performance, after nine times as much rest (gesture 0)."""
    rest, parts, taken = np.flatnonzero(labels == 0), [], 0
    for run in np.split(np.arange(len(labels)), np.flatnonzero(np.diff(labels)) + 1):
        if labels[run[0]] != 0:
            kept = run[: len(run) // 2]
            between = 9 * len(kept)
            parts += [rest[np.arange(taken, taken + between) % len(rest)], kept]
            taken += between
    return np.concatenate(parts)


def score(decisions: Labels, labels: Labels, classes: int, *, balanced: bool) -> float:
    """Return accuracy, or the mean over gestures, of the windows of known gestures in per cent."""
    correct = decisions == labels
    if not balanced:
        return 100 * float(correct[labels < classes].mean())
    return 100 * float(np.mean([correct[labels == one].mean() for one in np.unique(labels)]))


def _centred(values: Floats) -> Floats:
    return values - values.mean(axis=1, keepdims=True)


def main() -> None:
    """Print a table: the gain in points, people who gain, and the worst person."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--student", default="log-power-30k")
    parser.add_argument("--k", default="1,4")
    arguments = parser.parse_args()
    print(machine())
    print("| K | stream | static | plain: gain, better, worst | guarded: gain, better, worst |")
    print("| --- | --- | ---: | ---: | ---: |")
    for k in map(int, arguments.k.split(",")):
        pattern = f"fold-*/seed-0/*/k-{k}/pretrained_distilled-{arguments.student}"
        folders = sorted(arguments.run.glob(pattern))
        if not folders:
            parser.error(f"{arguments.run}: expected finished students ({pattern}), there are none")
        scores: dict[str, list[tuple[float, float, float]]] = {}
        for person in (Person.of(Bundle.load(folder), k) for folder in folders):
            for name, order, classes in streams(person.labels, len(person.means)):
                labels, balanced = person.labels[order], name == "rest"
                decided = (
                    person.logits[order, :classes].argmax(axis=1),
                    adapted(person, order, classes=classes, guarded=False),
                    adapted(person, order, classes=classes, guarded=True),
                )
                one, two, three = (
                    score(each, labels, classes, balanced=balanced) for each in decided
                )
                scores.setdefault(name, []).append((one, two, three))
        for name, values in scores.items():
            static, *others = np.array(values).T
            cells = [
                f"{(each - static).mean():+.1f}, {(each > static).sum()} of {len(static)}, "
                f"{(each - static).min():+.1f}"
                for each in others
            ]
            print(f"| {k} | {name} | {static.mean():.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
