"""Methods that change a network or what it reads are causal, and follow what they are meant for."""

from __future__ import annotations

import numpy as np
import pytest
from decoding import bundle, positions, recording

from myodistill.bundle import Bundle
from myodistill.signals.filters import apply
from myodistill.studies.window_methods import WINDOW_METHODS, channel_normalisation

METHODS = pytest.mark.parametrize("name", WINDOW_METHODS)


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle(epochs=20)


def windows(student: Bundle, gain: float = 1.0) -> np.ndarray:
    """Gestures one after another; the gain of the device changes after the first third."""
    assert student.preprocessing is not None
    signal = np.concatenate([recording(3, 4, seed=seed) for seed in range(30)])
    signal = (signal - 300).astype(np.float32)  # no step of the offset
    signal[len(signal) // 3 :] *= np.float32(gain)
    filtered = positions(apply(student.preprocessing.sections(), signal), student.spec)
    return np.ascontiguousarray(student.preprocessing.map(filtered).gather())


@METHODS
def test_later_windows_change_no_earlier_decision(student: Bundle, name: str) -> None:
    one = windows(student)[:400]
    other = one.copy()
    other[256:] *= 7
    first, second = (WINDOW_METHODS[name](student, read) for read in (one, other))
    np.testing.assert_array_equal(first[:256], second[:256])
    assert (first[320:] != second[320:]).any()


@METHODS
def test_the_student_is_left_as_it_was(student: Bundle, name: str) -> None:
    before = student.fingerprint
    WINDOW_METHODS[name](student, windows(student)[:100])
    assert student.fingerprint == before


def test_a_gain_is_followed(student: Bundle) -> None:
    usual, louder = (student._infer(windows(student, gain)) for gain in (1.0, 4.0))
    followed = channel_normalisation(student, windows(student, 4.0))
    steady = channel_normalisation(student, windows(student))
    late = slice(-500, None)
    apart = np.abs(followed - steady)[late].mean()
    assert apart < 0.2 * np.abs(louder - usual)[late].mean()
