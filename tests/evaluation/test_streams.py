"""Streams are made of the windows that there are, in the shares that they are named for."""

from __future__ import annotations

import numpy as np
import pytest

from myodistill.evaluation.streams import (
    STREAMS,
    Stream,
    balanced_accuracy,
    false_activations,
    streams,
)

LABELS = np.tile(np.repeat(np.arange(6), 20), 3)  # three repetitions of rest and five gestures


def made(rest: int | None = 0, labels: np.ndarray = LABELS) -> dict[str, Stream]:
    return {one.name: one for one in streams(labels, 6, rest)}


def test_every_stream_is_made_in_order() -> None:
    assert list(made()) == list(STREAMS)


def test_recorded_and_shuffled_hold_every_window_once() -> None:
    found = made()
    np.testing.assert_array_equal(found["recorded"].order, np.arange(len(LABELS)))
    np.testing.assert_array_equal(np.sort(found["shuffled"].order), np.arange(len(LABELS)))
    assert (found["shuffled"].order != found["recorded"].order).any()


@pytest.mark.parametrize("rest", [0, 3])
def test_nine_tenths_are_rest(rest: int) -> None:
    labels = LABELS[made(rest)["rest"].order]
    assert np.mean(labels == rest) == 0.9
    assert set(labels) == set(range(6))


def test_half_of_the_gestures_are_never_performed() -> None:
    labels = LABELS[made()["half"].order]
    assert 0 in labels
    assert len(set(labels)) == 1 + 5 // 2


@pytest.mark.parametrize(("rest", "unknown"), [(0, 5), (5, 4), (None, 5)])
def test_a_third_of_the_time_is_an_unknown_movement(rest: int | None, unknown: int) -> None:
    stream = made(rest)["unknown"]
    assert stream.unknown == unknown
    assert np.mean(LABELS[stream.order] == unknown) == pytest.approx(1 / 3, abs=0.05)


def test_without_rest_there_is_no_stream_of_it() -> None:
    assert "rest" not in made(None)


def test_false_activations_are_counted_once_for_each_time_that_they_begin() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0])
    decided = np.array([0, 1, 1, 0, 2, 1, 0, 1, 0])
    assert false_activations(decided, labels, 0) == 3
    assert false_activations(labels, labels, 0) == 0
    assert false_activations(np.ones(9, int), labels, 0) == 2


def test_each_gesture_counts_alike_in_balanced_accuracy() -> None:
    labels = np.array([0] * 9 + [1])
    assert balanced_accuracy(np.zeros(10, int), labels) == 0.5
