"""What a student learns from a teacher: its log-probabilities, and its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class TeacherOutput:
    """The output of a teacher, or of several merged into one, for some windows.

    Attributes:
        logits: Log-probabilities, shape ``(window, gesture)``.
        features: Input of the last layer, shape ``(window, feature)``; None if not asked for.
    """

    logits: Tensor
    features: Tensor | None = None

    def half(self) -> TeacherOutput:
        """Round to half precision, as outputs are stored; log-probabilities are clamped at -1e4."""
        features = None if self.features is None else self.features.half()
        return TeacherOutput(self.logits.clamp_min(-1e4).half(), features)


class TeacherOutputs(Protocol):
    """Gives the teacher's output for any training windows in any view."""

    def __call__(self, indices: Tensor, view: int, /) -> TeacherOutput:
        """Return the output for the windows with these indices, in one view."""
        ...
