"""Scores of predictions, per window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score


@dataclass(frozen=True)
class Scores:
    """How well some windows were decided.

    Attributes:
        accuracy: Share of windows decided rightly.
        macro_f1: Mean over the gestures present of the F1 score; rest cannot hide the others.
        balanced_accuracy: Mean over the gestures present of the recall.
        windows: How many were scored.
    """

    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    windows: int


def score(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> Scores:
    """Score predictions against labels, both of shape ``(window,)``."""
    return Scores(
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        balanced_accuracy=float(balanced_accuracy_score(labels, predicted)),
        windows=len(labels),
    )
