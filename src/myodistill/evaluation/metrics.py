"""Scores of predictions, per window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
)

from myodistill.errors import DataError


@dataclass(frozen=True)
class Scores:
    """How well some windows were decided.

    Attributes:
        accuracy: Share of windows decided correctly.
        macro_f1: Mean F1 over the gestures performed or decided; rest cannot hide the others.
        balanced_accuracy: Mean over the gestures present of the recall.
        calibration_error: Expected calibration error, see :func:`calibration_error`.
        windows: How many were scored.
    """

    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    calibration_error: float
    windows: int


def score(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Scores:
    """Score probabilities ``(window, gesture)`` against labels ``(window,)``.

    Raises:
        DataError: There are no windows, the lengths differ, only one gesture was performed, or a
            row is no distribution.
    """
    require_probabilities(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    _require_gestures(labels, predicted)
    return Scores(
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        balanced_accuracy=float(balanced_accuracy_score(labels, predicted)),
        calibration_error=calibration_error(labels, probabilities),
        windows=len(labels),
    )


def confusion(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count decisions, shape ``(gesture performed, gesture decided)``.

    Raises:
        DataError: As :func:`score`, or a gesture is outside ``0..classes - 1``.
    """
    _require_gestures(labels, predicted)
    for what, values in (("label", labels), ("decision", predicted)):
        if values.min() < 0 or values.max() >= classes:
            odd = values.max() if values.max() >= classes else values.min()
            raise DataError(f"confusion: expected a {what} from 0 to {classes - 1}, got {odd}")
    counts: NDArray[np.int64] = confusion_matrix(labels, predicted, labels=range(classes))
    return counts


def calibration_error(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], *, bins: int = 15
) -> float:
    """Expected calibration error: how far confidence lies from the share that is right.

    Bins of equal width over (0, 1] (Guo et al., On calibration of modern neural networks, 2017,
    eq. 3).

    Args:
        labels: Shape ``(window,)``.
        probabilities: Shape ``(window, gesture)``, each row sums to one.
        bins: How many.

    Raises:
        DataError: There are no windows, the lengths differ, or a row is no distribution.
    """
    table = reliability(labels, probabilities, bins=bins)
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["share"]).sum())


def reliability(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], *, bins: int = 15
) -> pd.DataFrame:
    """Return the accuracy of decisions by their confidence.

    Args:
        labels: Shape ``(window,)``.
        probabilities: Shape ``(window, gesture)``, each row sums to one.
        bins: Of equal width over (0, 1].

    Returns:
        A row for each bin that holds a window: ``bin`` from 0, mean ``confidence``, ``accuracy``
        and ``share`` of the windows.

    Raises:
        DataError: As :func:`calibration_error`.
    """
    require_probabilities(labels, probabilities)
    confidence = probabilities.max(axis=1).astype(float)
    right = probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count, sure, correct = (
        np.bincount(index, weights=weights, minlength=bins)
        for weights in (None, confidence, right.astype(float))
    )
    held = np.flatnonzero(count)
    return pd.DataFrame(
        {
            "bin": held,
            "confidence": sure[held] / count[held],
            "accuracy": correct[held] / count[held],
            "share": count[held] / len(labels),
        }
    )


def require_probabilities(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> None:
    """Refuse what is not one distribution over gestures for each label.

    Raises:
        DataError: There are no windows, the lengths differ, or a row is no distribution.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or len(labels) == 0:
        raise DataError(
            f"scores: expected probabilities (window, gesture) for {len(labels)} windows (at least "
            f"1), got shape {probabilities.shape}"
        )
    sums = probabilities.sum(axis=1)
    bad = ~np.isclose(sums, 1.0, atol=1e-3) | (probabilities < 0).any(axis=1)
    if bad.any():
        raise DataError(
            f"scores: expected probabilities that sum to 1 in every window, got {sums[bad][0]:g} "
            f"in window {np.flatnonzero(bad)[0]}; apply the softmax first"
        )


def _require_gestures(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
    if len(labels) != len(predicted) or len(labels) == 0:
        raise DataError(
            f"scores: expected one decision for each label (at least 1), got {len(predicted)} for "
            f"{len(labels)}"
        )
    present = np.unique(labels)
    if len(present) == 1:
        raise DataError(
            f"scores: expected at least 2 gestures in what is scored, all {len(labels)} windows "
            f"are gesture {present[0]}; macro-F1 and balanced accuracy would say nothing about "
            f"telling gestures apart, check the labels of this recording"
        )
