"""Event metrics of a stream of decisions: delays, false activations and missed gestures.

A decision belongs to the moment at which it is available: the last sample of its window. A
decision that is withheld (:data:`REJECTED`) moves nothing, so it counts as rest (Scheme, Hudgins
and Englehart, Confidence-based rejection for improved pattern recognition myoelectric control,
2013).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from myodistill.datasets.recording import Annotation
from myodistill.errors import DataError
from myodistill.evaluation.metrics import require_probabilities

REJECTED = -1
"""No decision."""

RESTS = (
    "rest", "resting", "at rest", "no gesture", "no motion", "no movement", "neutral", "idle",
    "relax", "relaxed",
)  # fmt: skip
"""Names of rest, in any case; words may be separated by more than a space."""


def rest_of(gestures: Sequence[str]) -> int | None:
    """Return the label of rest by its name (:data:`RESTS`), None where a dataset knows no rest."""
    names = (" ".join(re.split(r"[\W_]+", name.casefold())).strip() for name in gestures)
    return next((label for label, name in enumerate(names) if name in RESTS), None)


def without_rest(gestures: Sequence[str]) -> str:
    """Return a caution on what a decoder does between gestures; empty if one of them is rest."""
    if rest_of(gestures) is not None:
        return ""
    return (
        "no rest among the gestures: between gestures the decoder will always name one; train with "
        "rest as a gesture, or withhold unsure decisions (myodistill export --reject-below)"
    )


@dataclass(frozen=True)
class DecisionStream:
    """What a decoder predicted throughout one continuous recording.

    Attributes:
        probabilities: Shape ``(decision, gesture)``.
        seconds: When each prediction is available, from the start, rising; ``(decision,)``.
        annotations: Of the recording.
        sampling_rate: In hertz, of the annotations.
    """

    probabilities: NDArray[np.floating]
    seconds: NDArray[np.floating]
    annotations: Sequence[Annotation]
    sampling_rate: float


@dataclass(frozen=True)
class Decisions:
    """A stream of decisions over one continuous recording.

    Attributes:
        seconds: When each is available, from the start of the recording, rising; ``(decision,)``.
        gestures: What was decided, :data:`REJECTED` for nothing; ``(decision,)``.
    """

    seconds: NDArray[np.float64]
    gestures: NDArray[np.intp]

    def __post_init__(self) -> None:
        if len(self.seconds) != len(self.gestures) or len(self.seconds) == 0:
            raise DataError(
                f"decisions: expected a time for each decision (at least 1), got "
                f"{len(self.seconds)} times for {len(self.gestures)}"
            )
        if not (np.diff(self.seconds) > 0).all():
            raise DataError("decisions: expected rising times; sort the stream by time")


def decide(
    probabilities: NDArray[np.floating],
    seconds: NDArray[np.floating],
    *,
    votes: int = 1,
    threshold: float = 0.0,
) -> Decisions:
    """Turn probabilities into decisions: reject what is unsure, then let the newest ones vote.

    Args:
        probabilities: Shape ``(decision, gesture)``.
        seconds: When each is available, shape ``(decision,)``.
        votes: Number of newest decisions that vote (Englehart and Hudgins, A robust, real-time
            control scheme, 2003); ties go to the newest.
        threshold: Decisions with less confidence are withheld.

    Raises:
        DataError: The stream is empty, or ``votes`` is less than 1.
    """
    if votes < 1:
        raise DataError(f"votes: expected at least 1, got {votes}")
    if probabilities.ndim != 2 or len(probabilities) == 0:
        raise DataError(
            f"decisions: expected probabilities (decision, gesture), got {probabilities.shape}"
        )
    gestures = probabilities.argmax(axis=1)
    gestures = np.where(probabilities.max(axis=1) >= threshold, gestures, REJECTED)
    return Decisions(np.asarray(seconds, dtype=float), majority(gestures, votes))


def majority(gestures: NDArray[np.integer], votes: int) -> NDArray[np.intp]:
    """Most frequent of the ``votes`` newest decisions, ties to the newest; ``(decision,)``."""
    n, kinds = len(gestures), gestures.max() + 2  # REJECTED takes index 0
    one_hot = np.eye(kinds, dtype=np.intp)[gestures + 1]
    totals = np.cumsum(one_hot, axis=0)
    counts = totals.copy()
    counts[votes:] -= totals[:-votes]
    newest_index = np.where(one_hot > 0, np.arange(n)[:, None], -1)
    newest = np.maximum.accumulate(newest_index, axis=0)
    winners: NDArray[np.intp] = (counts * (n + 1) + newest).argmax(axis=1) - 1
    return winners


@dataclass(frozen=True)
class Events:
    """How a stream of decisions served its user.

    Attributes:
        gestures: Gestures (other than rest) that were performed.
        missed: Of these, never decided while they were held.
        onsets: Of these, those whose beginning was recorded; a file that begins in the middle of a
            gesture has none.
        delays: From onset to the first right decision, for each of those that was not missed;
            seconds.
        release_delays: From the end of a gesture to the first decision for rest, where rest
            follows; seconds.
        rest_minutes: Annotated rest.
        false_activations: Gestures that began to be decided during rest; the gesture held just
            before may linger without being counted here, as its release delay counts it.
        transitions: Changes from one annotated gesture to another, rest included.
        transition_errors: Of these, with a decision within the transition time for a gesture
            that is neither the old nor the new one.
    """

    gestures: int
    missed: int
    onsets: int
    delays: NDArray[np.float64]
    release_delays: NDArray[np.float64]
    rest_minutes: float
    false_activations: int
    transitions: int
    transition_errors: int

    @property
    def delay(self) -> float | None:
        """Median decision delay in seconds; None where every gesture was missed."""
        return float(np.median(self.delays)) if len(self.delays) else None

    @property
    def false_activations_per_minute(self) -> float | None:
        """False activations per minute of rest; None where there was no rest."""
        return self.false_activations / self.rest_minutes if self.rest_minutes else None

    def __add__(self, other: Events) -> Events:
        """Put two recordings together."""
        both = (
            (field.name, getattr(self, field.name), getattr(other, field.name))
            for field in fields(Events)
        )
        values: dict[str, Any] = {
            name: np.concatenate([mine, theirs]) if name.endswith("delays") else mine + theirs
            for name, mine, theirs in both
        }
        return Events(**values)


def events(
    decisions: Decisions,
    annotations: Sequence[Annotation],
    sampling_rate: float,
    *,
    rest: int | None = 0,
    transition: float = 0.5,
) -> Events:
    """Compare decisions with the gestures that were performed.

    Args:
        decisions: Over the whole recording.
        annotations: Of the recording; what lies outside of them is not judged.
        sampling_rate: In hertz.
        rest: Label of rest, None where there is no rest.
        transition: Seconds after a change in which transition errors are counted.

    Raises:
        DataError: There are no annotations, or they overlap.
    """
    if not annotations:
        raise DataError("events: expected at least one annotation, the recording has none")
    rest = REJECTED if rest is None else rest
    notes = sorted(annotations, key=lambda note: note.start)
    start = np.array([note.start for note in notes]) / sampling_rate
    stop = np.array([note.stop for note in notes]) / sampling_rate
    truth = np.array([note.gesture for note in notes], dtype=np.intp)
    if (start[1:] < stop[:-1]).any():
        raise DataError("events: expected annotations that do not overlap; check the recording")

    times = decisions.seconds
    decided = np.where(decisions.gestures == REJECTED, rest, decisions.gestures)
    note = np.searchsorted(start, times, side="right") - 1  # newest annotation that has begun
    inside = (note >= 0) & (times < stop[note])

    active = truth != rest
    begun = active & (start > 0)
    right = inside & (decided == truth[note])
    delays = _first(note[right], times[right], start)
    missed = active & np.isnan(delays)

    follows_rest = np.zeros(len(notes), dtype=bool)
    follows_rest[1:] = (truth[1:] == rest) & active[:-1]
    released = inside & (decided == rest) & follows_rest[note]
    release = _first(note[released], times[released], np.r_[start[0], stop[:-1]])

    resting = inside & (truth[note] == rest)
    before = np.r_[rest, decided[:-1]]
    began_here = resting & np.r_[False, resting[:-1]]
    lingering = np.where(note > 0, truth[note - 1], rest)
    fresh = np.where(began_here, decided != before, decided != lingering)
    changed = np.zeros(len(notes), dtype=bool)
    changed[1:] = truth[1:] != truth[:-1]
    neither = inside & changed[note] & (times - start[note] < transition)
    neither &= (decided != truth[note]) & (decided != truth[note - 1]) & (decided != REJECTED)
    return Events(
        gestures=int(active.sum()),
        missed=int(missed.sum()),
        onsets=int(begun.sum()),
        delays=delays[begun & ~missed],
        release_delays=release[follows_rest & ~np.isnan(release)],
        rest_minutes=float((stop - start)[~active].sum() / 60),
        false_activations=int((resting & (decided != rest) & fresh).sum()),
        transitions=int(changed.sum()),
        transition_errors=len(np.unique(note[neither])),
    )


def abstention(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> pd.DataFrame:
    """Accuracy against the share of windows decided, when the least sure are withheld.

    Args:
        labels: Shape ``(window,)``.
        probabilities: Shape ``(window, gesture)``, each row sums to one.

    Returns:
        Columns ``threshold, decided, accuracy``, one row for each confidence that occurs, highest
        threshold first; the last row decides everything.

    Raises:
        DataError: There are no windows, the lengths differ, or a row is no distribution.
    """
    require_probabilities(labels, probabilities)
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == labels)[order]
    decided = np.arange(1, len(labels) + 1)
    last = np.r_[np.diff(confidence[order]) != 0, True]  # equal confidence is decided together
    return pd.DataFrame(
        {
            "threshold": confidence[order][last],
            "decided": (decided / len(labels))[last],
            "accuracy": (np.cumsum(right) / decided)[last],
        }
    )


def _first(
    note_index: NDArray[np.intp], times: NDArray[np.float64], since: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Time from ``since`` to the first decision of each annotation, NaN where it has none."""
    first = np.full(len(since), np.nan)
    notes, first_index = np.unique(note_index, return_index=True)
    first[notes] = times[first_index] - since[notes]
    return first
