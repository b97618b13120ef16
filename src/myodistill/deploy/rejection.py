"""How sure a decoder has to be: a threshold from a person's calibration windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from myodistill.bundle import Bundle
from myodistill.errors import DataError, SettingsError
from myodistill.signals.windows import Windows


def rejection_threshold(bundle: Bundle, windows: Windows, share: float) -> float:
    """Return the confidence below which a wanted share of windows is withheld.

    A student is surer of windows that it learned from than of those in use, of which more will be
    withheld.

    Args:
        bundle: Of a student calibrated for a person.
        windows: Filtered, as for :meth:`Bundle.logits`; of gestures that are to be decided.
        share: Largest share of the windows to withhold, from 0 up to 1.

    Returns:
        The ``threshold`` of a :class:`~myodistill.decision_rule.DecisionRule`.

    Raises:
        SettingsError: The share is out of its range.
        DataError: There are no windows.
    """
    if not 0 <= share < 1:
        raise SettingsError(f"withhold: expected a share from 0 up to 1, got {share:g}")
    if not len(windows):
        raise DataError("withhold: expected windows to choose a threshold on, got none")
    confidence = np.sort(softmax(bundle.logits(windows).astype(np.float64), axis=1).max(axis=1))
    return float(confidence[int(share * len(confidence))])


def activation_threshold(
    logits: NDArray[np.floating], labels: NDArray[np.integer], rest: int, rate: float
) -> float:
    """Return the confidence that lets only a wanted share of a person's rest be called a gesture.

    Args:
        logits: Calibrated, shape ``(window, gesture)``; best of windows that the student never saw.
        labels: Gesture of each window.
        rest: Label of rest.
        rate: Share of the windows of rest, from 0 up to 1, that may be decided as a gesture.

    Returns:
        The least such ``threshold`` of a :class:`~myodistill.decision_rule.DecisionRule`; 0 where
        rest is called a gesture seldom enough without one.

    Raises:
        SettingsError: The rate is out of its range.
        DataError: There is no window of rest.
    """
    require_rate(rate)
    resting = np.asarray(logits, np.float64)[np.asarray(labels) == rest]
    if not len(resting):
        raise DataError(
            "false activations: expected windows of rest to choose a threshold on, got none; "
            "record rest as a gesture"
        )
    probabilities = softmax(resting, axis=1)
    wrong = np.sort(probabilities.max(axis=1)[probabilities.argmax(axis=1) != rest])[::-1]
    allowed = int(rate * len(resting))
    if len(wrong) <= allowed:
        return 0.0
    return float(min(np.nextafter(wrong[allowed], 1), 1.0))


def require_rate(rate: float) -> None:
    """Refuse a share of false activations that is none.

    Raises:
        SettingsError: It is out of its range.
    """
    if not 0 <= rate < 1:
        raise SettingsError(f"false activations: expected a share from 0 up to 1, got {rate:g}")
