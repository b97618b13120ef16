"""Streams to try an adapting decoder on: a test session, and what a day of use makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Defect = Literal["", "dead electrode", "turned band"]

STREAMS = {
    "recorded": "the test session as it was recorded",
    "shuffled": "its windows in random order",
    "rest": "nine windows of rest before each of another gesture",
    "half": "half of the gestures are never performed",
    "unknown": "a third of the time a movement that the decoder was not calibrated for",
    "dead electrode": "one electrode falls silent half-way",
    "turned band": "the band turns by one electrode half-way",
}
_LATE = 9
"""Windows of rest for each of another gesture."""


@dataclass(frozen=True)
class Stream:
    """Windows in the order in which a decoder meets them.

    Attributes:
        name: In :data:`STREAMS`.
        order: Which windows, ``(window,)``; some may come again.
        defect: What is wrong with those of the second half.
        unknown: A gesture that the decoder must not know, if any; its windows are not scored.
    """

    name: str
    order: Indices
    defect: Defect = ""
    unknown: int | None = None


def streams(labels: Indices, gestures: int, rest: int | None, *, seed: int = 0) -> Iterator[Stream]:
    """Make every stream that there can be.

    Args:
        labels: Gesture of each window, in recorded order.
        gestures: How many there are.
        rest: Which of them is rest, if any; without it there is no stream of rest.
        seed: Of random orders and choices.
    """
    every = np.arange(len(labels))
    random = np.random.default_rng(seed)
    yield Stream("recorded", every)
    yield Stream("shuffled", random.permutation(every))
    if rest is not None and (labels == rest).any():
        yield Stream("rest", _resting(labels, rest))
    moves = np.array([gesture for gesture in range(gestures) if gesture != rest])
    performed = random.permutation(moves)[: len(moves) // 2]
    if len(performed):
        yield Stream("half", np.flatnonzero(np.isin(labels, [rest, *performed])))
    if len(moves) > 2:
        unknown = int(moves[-1])
        times = max(1, round((labels != unknown).sum() / 2 / max((labels == unknown).sum(), 1)))
        yield Stream(
            "unknown", np.repeat(every, np.where(labels == unknown, times, 1)), "", unknown
        )
    yield Stream("dead electrode", every, "dead electrode")
    yield Stream("turned band", every, "turned band")


def runs(labels: Indices) -> list[Indices]:
    """Return the windows of each performance: of equal neighbours."""
    return np.split(np.arange(len(labels)), np.flatnonzero(np.diff(labels)) + 1)


def false_activations(decisions: Indices, labels: Indices, rest: int) -> int:
    """Count how often a decoder begins to decide for a gesture while its wearer rests."""
    resting, active = labels == rest, decisions != rest
    before = np.concatenate([[False], (active & resting)[:-1]])
    return int((resting & active & ~before).sum())


def balanced_accuracy(decisions: Indices, labels: Indices) -> float:
    """Return the mean over gestures of the share that is right."""
    correct = decisions == labels
    return float(np.mean([correct[labels == gesture].mean() for gesture in np.unique(labels)]))


def _resting(labels: Indices, rest: int) -> Indices:
    """Half of each performance, after so much rest; all there is of it, over and over."""
    resting, parts, taken = np.flatnonzero(labels == rest), [], 0
    for run in runs(labels):
        if labels[run[0]] == rest:
            continue
        kept = run[: max(1, len(run) // 2)]
        between = _LATE * len(kept)
        parts += [resting[np.arange(taken, taken + between) % len(resting)], kept]
        taken += between
    return np.concatenate(parts) if parts else resting
