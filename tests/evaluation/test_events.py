"""Event metrics on streams that are small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from myodistill.datasets.recording import Annotation
from myodistill.errors import DataError
from myodistill.evaluation.event_metrics import event_table, not_counted
from myodistill.evaluation.events import (
    REJECTED,
    Decisions,
    DecisionStream,
    abstention,
    decide,
    events,
    majority,
    rest_of,
    without_rest,
)
from myodistill.evaluation.metrics import calibration_error, confusion, reliability, score

# 10 Hz, a decision a sample; the last second is outside of every annotation
NOTES = [
    Annotation(0, 20, 0, 0),
    Annotation(20, 40, 1, 0),
    Annotation(40, 60, 0, 0),
    Annotation(60, 80, 2, 0),
]
TRUTH = np.repeat([0, 1, 0, 2, 0], [20, 20, 20, 20, 10])
TIMES = np.arange(90) / 10


def stream(**changes: int) -> Decisions:
    said = TRUTH.copy()
    for places, gesture in changes.items():
        first, last = map(int, places[1:].split("_"))
        said[first:last] = gesture
    return Decisions(TIMES, said)


def test_a_perfect_stream() -> None:
    found = events(stream(), NOTES, 10.0)
    assert (found.gestures, found.missed, found.false_activations) == (2, 0, 0)
    assert found.delay == 0.0
    assert found.rest_minutes == pytest.approx(4 / 60)
    assert (found.transitions, found.transition_errors) == (3, 0)


def test_delays_are_counted_from_the_onset() -> None:
    found = events(stream(s20_23=0, s60_67=0, s40_42=1), NOTES, 10.0)
    np.testing.assert_allclose(found.delays, [0.3, 0.7])
    assert found.delay == pytest.approx(0.5)
    np.testing.assert_allclose(found.release_delays, [0.2])
    assert found.false_activations == 0, "a gesture that lingers is a late release"


def test_a_gesture_never_decided_is_missed() -> None:
    found = events(stream(s60_80=1), NOTES, 10.0)
    assert (found.gestures, found.missed) == (2, 1)
    assert len(found.delays) == 1
    nothing = events(stream(s20_40=0, s60_80=0), NOTES, 10.0)
    assert nothing.delay is None
    assert nothing.missed == 2


def test_false_activations_are_runs_that_begin_in_rest() -> None:
    # 1 for three decisions, 2 right after it, and 1 again later: three activations in 4 s of rest
    found = events(stream(s5_8=1, s8_9=2, s50_52=1), NOTES, 10.0)
    assert found.false_activations == 3
    assert found.false_activations_per_minute == pytest.approx(45.0)
    # at the start of the recording, and another gesture than the one just held
    assert events(stream(s0_2=1, s40_42=2), NOTES, 10.0).false_activations == 2
    # what is outside of every annotation is judged by nothing
    assert events(stream(s80_90=2), NOTES, 10.0).false_activations == 0


def test_transition_errors_are_neither_old_nor_new() -> None:
    found = events(stream(s20_22=2, s40_41=1, s65_67=1), NOTES, 10.0)
    assert found.transition_errors == 1, "at 2.0 s; 4.0 s is the old one, 6.5 s is too late"
    assert events(stream(s63_65=1), NOTES, 10.0).transition_errors == 1


def test_rejected_decisions_move_nothing() -> None:
    found = events(stream(s5_8=REJECTED, s20_24=REJECTED), NOTES, 10.0)
    assert found.false_activations == 0
    np.testing.assert_allclose(found.delays, [0.4, 0.0])


def test_majority_vote_by_hand() -> None:
    said = np.array([0, 1, 1, 2, 2, 2, REJECTED, REJECTED])
    np.testing.assert_array_equal(majority(said, 1), said)
    # of 0, 1 the newest; of 0, 1, 1 and 1, 1, 2 the most frequent
    np.testing.assert_array_equal(majority(said, 3), [0, 1, 1, 1, 2, 2, 2, REJECTED])
    # 0, 1, 1, 2, 2 is a draw, which the newest wins
    np.testing.assert_array_equal(majority(said, 5)[2:6], [1, 1, 2, 2])
    np.testing.assert_array_equal(majority(said, 99)[[0, 7]], [0, 2])


def probabilities(
    said: np.ndarray, sure: np.ndarray | float = 0.95, classes: int = 3
) -> np.ndarray:
    p = np.zeros((len(said), classes)) + ((1 - np.asarray(sure)) / (classes - 1)).reshape(-1, 1)
    p[np.arange(len(said)), said] = sure
    return p


def test_vote_and_rejection_trade_false_activations_for_delay() -> None:
    said = TRUTH.copy()
    said[[5, 12, 45]] = 1
    sure = np.full(90, 0.95)
    sure[[5, 12]] = 0.5
    take = DecisionStream(probabilities(said, sure), TIMES, NOTES, 10.0)
    table = event_table([take], votes=(1, 5))
    plain, rejecting, voting, both = (row for _, row in table.iterrows())
    assert plain["false_activations"] == pytest.approx(45.0)
    assert rejecting["false_activations"] == pytest.approx(15.0)
    assert voting["false_activations"] == both["false_activations"] == 0
    assert plain["delay"] == 0.0
    assert voting["delay"] == pytest.approx(0.2)
    assert rejecting["rejected"] == pytest.approx(2 / 90)
    assert decide(probabilities(said, sure), TIMES, threshold=0.9).gestures[5] == REJECTED


def test_recordings_are_counted_together() -> None:
    takes = [DecisionStream(probabilities(TRUTH), TIMES, NOTES, 10.0) for _ in range(3)]
    late = TRUTH.copy()
    late[20:30] = 0
    takes.append(DecisionStream(probabilities(late), TIMES, NOTES, 10.0))
    row = event_table(takes, votes=(1,), thresholds=(0.0,)).iloc[0]
    assert (row["gestures"], row["onsets"], row["transitions"]) == (8, 8, 12)
    assert row["rest_minutes"] == pytest.approx(16 / 60)
    assert row["delay"] == 0.0
    assert not_counted(event_table(takes)) == []


def test_files_of_one_gesture_each_give_what_they_can() -> None:
    def file(gesture: int, said: np.ndarray) -> DecisionStream:
        return DecisionStream(
            probabilities(said), TIMES[:20], [Annotation(0, 20, gesture, 0)], 10.0
        )

    rest = np.repeat([0, 1, 0, 2, 0], [5, 5, 5, 3, 2])
    table = event_table([file(0, rest), file(1, np.full(20, 1)), file(2, np.full(20, 1))])
    row = table.iloc[0]
    assert row["missed"] == 0.5
    assert row["false_activations"] == pytest.approx(60.0)
    assert table[["delay", "release_delay", "transition_errors"]].isna().all(axis=None)
    said = not_counted(table)
    assert len(said) == 2
    assert said[0].startswith("Decision delays cannot be computed: no recording holds the onset")
    assert said[1].startswith("Transition errors and release delays cannot be computed")


def test_without_rest_nothing_is_a_false_activation() -> None:
    notes = [Annotation(10, 20, 0, 0), Annotation(20, 40, 1, 0)]
    said = np.repeat([0, 2, 1], [20, 4, 20])
    sure = np.full(44, 0.95)
    sure[20:22] = 0.5
    takes = [DecisionStream(probabilities(said, sure), TIMES[:44], notes, 10.0)]
    table = event_table(takes, votes=(1,), rest=rest_of(("fist", "pinch", "point")))
    assert list(table["gestures"]) == [2, 2]
    assert list(table["transition_errors"]) == [1.0, 1.0]
    assert table["false_activations"].isna().all()
    assert not_counted(table) == [
        "False activations cannot be computed: nobody rested in what was scored."
    ]
    assert rest_of(("fist", "rest")) == 1


@pytest.mark.parametrize(
    "name",
    [
        "Rest",
        "REST",
        "rest ",
        "No gesture",
        "no_movement",
        "No-Motion",
        "Idle",
        "relaxed",
        "Neutral",
    ],
)
def test_rest_by_any_of_its_names(name: str) -> None:
    assert rest_of(("fist", name)) == 1
    assert without_rest(("fist", name)) == ""


@pytest.mark.parametrize("name", ["wrist", "arrest", "resting place", "", "no"])
def test_what_is_not_rest_is_told(name: str) -> None:
    assert rest_of(("fist", name)) is None
    assert without_rest(("fist", name)).startswith("no rest among the gestures: between gestures")


def test_abstention_by_hand() -> None:
    labels = np.array([0, 1, 2, 0])
    p = probabilities(np.array([0, 1, 1, 2]), np.array([0.9, 0.8, 0.6, 0.6]))
    curve = abstention(labels, p)
    np.testing.assert_allclose(curve["threshold"], [0.9, 0.8, 0.6])
    np.testing.assert_allclose(curve["decided"], [0.25, 0.5, 1.0])
    np.testing.assert_allclose(curve["accuracy"], [1.0, 1.0, 0.5])


def test_calibration_error_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    p = probabilities(np.array([0, 1, 1, 0]), np.array([0.9, 0.9, 0.6, 0.6]))
    # both bins are half right: 0.4 and 0.1 off, half the windows each
    assert calibration_error(labels, p) == pytest.approx(0.25)
    assert calibration_error(labels, probabilities(labels, 1.0)) == 0.0
    table = reliability(labels, p)
    np.testing.assert_allclose(table["confidence"], [0.6, 0.9])
    np.testing.assert_allclose(table["accuracy"], [0.5, 0.5])
    np.testing.assert_allclose(table["share"], [0.5, 0.5])


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, (2, 300))
    scores = score(labels, probabilities(predicted, 0.5, 6))
    assert scores.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12)
    assert scores.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(labels, predicted), abs=1e-12
    )
    counts = confusion(labels, predicted, 6)
    np.testing.assert_array_equal(counts[:5, :5], confusion_matrix(labels, predicted))
    assert counts.shape == (6, 6)
    assert scores.accuracy == pytest.approx(np.trace(counts) / 300, abs=1e-12)


def test_bad_input_says_what_cannot_be_computed() -> None:
    one = np.zeros(4, dtype=int)
    with pytest.raises(DataError, match="all 4 windows are gesture 0"):
        score(one, probabilities(np.array([0, 1, 0, 0])))
    with pytest.raises(DataError, match=r"for 4 windows .* got shape \(3,"):
        score(one, probabilities(one[:3]))
    with pytest.raises(DataError, match="a decision from 0 to 1, got 5"):
        confusion(np.array([0, 1]), np.array([0, 5]), 2)
    with pytest.raises(DataError, match="sum to 1 in every window, got 3"):
        calibration_error(one[:1], np.ones((1, 3)))
    with pytest.raises(DataError, match="at least 2 gestures"):
        event_table([DecisionStream(probabilities(TRUTH), TIMES, NOTES[:1], 10.0)])
    with pytest.raises(DataError, match="at least one annotation"):
        events(stream(), [], 10.0)
    with pytest.raises(DataError, match="do not overlap"):
        events(stream(), [*NOTES, Annotation(10, 30, 1, 0)], 10.0)
    with pytest.raises(DataError, match="rising times"):
        Decisions(np.array([0.2, 0.1]), np.array([0, 0]))
    with pytest.raises(DataError, match="votes: expected at least 1"):
        decide(np.ones((2, 2)) / 2, TIMES[:2], votes=0)
    unrested = events(Decisions(TIMES, TRUTH), [NOTES[1], NOTES[3]], 10.0)
    assert unrested.false_activations_per_minute is None
