"""The decision rule: from the network's answers, one by one, to what the device does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myodistill.errors import SettingsError

REJECTED = -1
"""The decision not to decide; the same number as ``evaluation.events.REJECTED``."""


@dataclass(frozen=True)
class DecisionRule:
    """How answers become decisions, in the order of the attributes.

    Attributes:
        smoothing: Probabilities are averaged over so many newest windows.
        threshold: Less confidence than this is rejected.
        votes: The most frequent of so many newest answers wins, of equally frequent ones the
            newest (Englehart and Hudgins, A robust, real-time control scheme, 2003).
        hold: A gesture stays for at least so many decisions.
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


EVERY_ANSWER = DecisionRule()
"""Each answer is a decision."""


def require_step(step: object) -> int:
    """Return the samples from one decision to the next.

    Raises:
        SettingsError: It is no whole number from 1.
    """
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise SettingsError(f"step: expected at least 1 sample, got {str(step)[:40]}")
    return step


class DecisionFilter:
    """A rule in operation on one stream.

    Args:
        rule: What to do.
    """

    def __init__(self, rule: DecisionRule) -> None:
        self.rule = rule
        self._probabilities: deque[NDArray[np.float64]] = deque(maxlen=rule.smoothing)
        self._answers: deque[int] = deque(maxlen=rule.votes)
        self._current = REJECTED
        self._held = 0

    def abstain(self) -> None:
        """Forget everything: what comes next begins anew."""
        self._probabilities.clear()
        self._answers.clear()
        self._current, self._held = REJECTED, 0

    def decide(self, logits: NDArray[np.floating]) -> tuple[int, float]:
        """Take the answer for the next window, logits of shape ``(gesture,)``.

        Returns:
            The gesture, or :data:`REJECTED`, and the (smoothed) confidence.
        """
        powers = np.exp(logits.astype(np.float64) - logits.max())
        self._probabilities.append(powers / powers.sum())
        mean = np.mean(np.stack(self._probabilities), axis=0)
        best = int(np.argmax(mean))
        confidence = float(mean[best])
        self._answers.append(best if confidence >= self.rule.threshold else REJECTED)
        winner = self._majority()
        if winner != self._current and (self._current == REJECTED or self._held >= self.rule.hold):
            self._current, self._held = winner, 0
        self._held += 1
        return self._current, confidence

    def _majority(self) -> int:
        answers = list(self._answers)
        most = max(answers.count(answer) for answer in answers)
        return next(a for a in reversed(answers) if answers.count(a) == most)
