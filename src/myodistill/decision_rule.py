"""The decision rule: from the network's predictions, one by one, to what the device does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myodistill.errors import SettingsError

REJECTED = -1
"""No decision; the same number as ``evaluation.events.REJECTED``."""


@dataclass(frozen=True)
class DecisionRule:
    """How predictions become decisions, in the order of the attributes.

    Attributes:
        smoothing: Number of newest windows whose probabilities are averaged.
        threshold: Predictions with less confidence are rejected.
        votes: Number of newest predictions that vote; ties go to the newest (Englehart and Hudgins,
            A robust, real-time control scheme, 2003).
        hold: Least number of decisions that a gesture lasts.
    """

    smoothing: int = 1
    threshold: float = 0.0
    votes: int = 1
    hold: int = 1

    def __post_init__(self) -> None:
        for name in ("smoothing", "votes", "hold"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 255:
                got = str(value)[:40]
                raise SettingsError(f"{name}: expected a whole number from 1 to 255, got {got}")
        number = isinstance(self.threshold, float | int)
        if not number or not 0 <= self.threshold <= 1:
            got = str(self.threshold)[:40]
            raise SettingsError(f"threshold: expected a share from 0 to 1, got {got}")


EVERY_PREDICTION = DecisionRule()
"""Each prediction is a decision."""


def require_step(step: object) -> int:
    """Return the samples from one decision to the next.

    Raises:
        SettingsError: It is not a whole number of at least 1.
    """
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise SettingsError(f"step: expected at least 1 sample, got {str(step)[:40]}")
    return step


class DecisionFilter:
    """A rule in operation on one stream.

    Args:
        rule: What to do.

    Attributes:
        rule: As above; another threshold counts from the next window on.
        probabilities: Of each gesture in the newest window, smoothed as the rule says.
    """

    def __init__(self, rule: DecisionRule) -> None:
        self.rule = rule
        self.probabilities: NDArray[np.float64] | None = None
        self._probabilities: deque[NDArray[np.float64]] = deque(maxlen=rule.smoothing)
        self._newest: deque[int] = deque(maxlen=rule.votes)
        self._current = REJECTED
        self._held = 0

    def abstain(self) -> None:
        """Forget the past: the next prediction starts afresh."""
        self._probabilities.clear()
        self._newest.clear()
        self._current, self._held = REJECTED, 0

    def decide(self, logits: NDArray[np.floating]) -> tuple[int, float]:
        """Take the logits of the next window, shape ``(gesture,)``.

        Returns:
            The gesture, or :data:`REJECTED`, and the (smoothed) confidence.
        """
        powers = np.exp(logits.astype(np.float64) - np.maximum.reduce(logits))
        mean = powers / np.add.reduce(powers)
        self._probabilities.append(mean)
        if len(self._probabilities) > 1:
            mean = np.mean(np.stack(self._probabilities), axis=0)
        self.probabilities = mean
        best = int(mean.argmax())
        confidence = float(mean[best])
        self._newest.append(best if confidence >= self.rule.threshold else REJECTED)
        winner = self._majority()
        if winner != self._current and (self._current == REJECTED or self._held >= self.rule.hold):
            self._current, self._held = winner, 0
        self._held += 1
        return self._current, confidence

    def _majority(self) -> int:
        newest = list(self._newest)
        most = max(map(newest.count, newest))
        return next(one for one in reversed(newest) if newest.count(one) == most)
