"""Tables of event metrics: of one person, and over all people of a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
import pandas as pd

from myodistill.errors import DataError
from myodistill.evaluation.events import REJECTED, DecisionStream, decide, events
from myodistill.evaluation.results import METHOD, ordered

RULES = ["votes", "threshold"]
"""The columns that identify a way to decide."""

EVENT_COLUMNS = {
    "delay": "delay, ms",
    "missed": "gestures missed, %",
    "false_activations": "false activations a minute of rest",
    "transition_errors": "transition errors, %",
    "rejected": "decisions withheld, %",
}
"""What is shown of the event metrics, and how it is headed."""

_SCALE = {"delay": 1000.0, "missed": 100.0, "transition_errors": 100.0, "rejected": 100.0}


def event_table(
    streams: Sequence[DecisionStream],
    *,
    votes: Sequence[int] = (1, 5),
    thresholds: Sequence[float] = (0.0, 0.9),
    rest: int | None = 0,
) -> pd.DataFrame:
    """Event metrics with and without majority vote and rejection: a row for each pair of settings.

    Args:
        streams: All recordings of one person that are scored; they are counted together.
        votes: Numbers of newest decisions that vote.
        thresholds: Decisions with less confidence are withheld.
        rest: Label of rest, None where there is no rest.

    Returns:
        Columns ``votes, threshold, delay`` (median seconds)``, release_delay, missed`` (share),
        ``false_activations`` (per minute of rest), ``transition_errors`` (share)``, rejected``
        (share of decisions withheld); missing where there was nothing to count, as ``gestures,
        onsets, rest_minutes`` and ``transitions`` say.

    Raises:
        DataError: There are no recordings, or fewer than two gestures in all of them.
    """
    present = {note.gesture for stream in streams for note in stream.annotations}
    if len(present) < 2:
        raise DataError(
            f"events: expected at least 2 gestures in what is scored (rest counts), got "
            f"{len(present)}; there is nothing to tell apart, check the labels of the recordings"
        )
    rows = []
    for vote in votes:
        for threshold in thresholds:
            decisions = [
                decide(stream.probabilities, stream.seconds, votes=vote, threshold=threshold)
                for stream in streams
            ]
            total = reduce(
                add,
                (
                    events(one, stream.annotations, stream.sampling_rate, rest=rest)
                    for one, stream in zip(decisions, streams, strict=True)
                ),
            )
            releases = total.release_delays
            withheld = np.concatenate([one.gestures for one in decisions]) == REJECTED
            rows.append(
                {
                    "votes": vote,
                    "threshold": threshold,
                    "delay": total.delay,
                    "release_delay": float(np.median(releases)) if len(releases) else None,
                    "missed": total.missed / total.gestures if total.gestures else None,
                    "false_activations": total.false_activations_per_minute,
                    "transition_errors": (
                        total.transition_errors / total.transitions if total.transitions else None
                    ),
                    "rejected": float(withheld.mean()),
                    "gestures": total.gestures,
                    "onsets": total.onsets,
                    "rest_minutes": total.rest_minutes,
                    "transitions": total.transitions,
                }
            )
    return pd.DataFrame(rows).astype(dict.fromkeys(_MEASURES, float))


_MEASURES = ("delay", "release_delay", "missed", "false_activations", "transition_errors")


def not_counted(table: pd.DataFrame) -> list[str]:
    """State in words what could not be counted on the recordings of some event metrics, and why.

    Args:
        table: Rows of :func:`event_table`, of any number of people and methods.
    """
    notes = []
    if not table["onsets"].any():
        notes.append(
            "Decision delays cannot be computed: no recording holds the onset of a gesture, each "
            "begins when the gesture is held already."
        )
    if not table["transitions"].any():
        notes.append(
            "Transition errors and release delays cannot be computed: no recording holds a change "
            "from one gesture to another."
        )
    if not table["rest_minutes"].any():
        notes.append("False activations cannot be computed: nobody rested in what was scored.")
    return notes


def mean_events(counted: pd.DataFrame) -> pd.DataFrame:
    """Average event metrics over seeds, then over people, each of whom counts alike.

    Args:
        counted: Rows of :func:`event_table` with the columns of a
            method, ``k``, ``seed`` and ``subject``.

    Returns:
        A row for each method, K and rule: the columns of :data:`EVENT_COLUMNS` in their units
        (missing where no recording let it be counted) and ``people``, those behind it.

    Raises:
        DataError: A column is missing, or something was counted twice.
    """
    keys = [*METHOD, "k", *RULES]
    absent = [
        name for name in [*keys, "subject", "seed", *EVENT_COLUMNS] if name not in counted.columns
    ]
    if absent:
        raise DataError(
            f"events: expected a table with the column {absent[0]}, there is none; run again"
        )
    twice = counted.duplicated([*keys, "subject", "seed"])
    if twice.any():
        row = counted[twice].iloc[0]
        raise DataError(
            f"events: expected each row once, got {row['stage']} {row['model']}, "
            f"{row['subject']}, K={row['k']}, seed {row['seed']} twice; run again"
        )
    people = counted.groupby([*keys, "subject"], sort=False)[list(EVENT_COLUMNS)].mean()
    means = people.groupby(keys, sort=False)
    table = means.mean().assign(people=means.size()).reset_index()
    for name, scale in _SCALE.items():
        table[name] *= scale
    return ordered(table, keys)


def rule_name(votes: int, threshold: float) -> str:
    """Describe how windows become decisions."""
    rule = f"majority of {votes}" if votes > 1 else "each window"
    return f"{rule}, {100 * threshold:.0f} % sure" if threshold else rule
