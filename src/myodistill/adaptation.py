"""What a decoder must know of its student's logits to follow its wearer without labels.

In the space of the logits, each gesture has a mean, and all share one scatter; both come from the
population and from the person's calibration. How a decoder uses them is in
:mod:`myodistill.realtime.adaptation`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myodistill.errors import DataError

Floats = NDArray[np.float64]

SHRINKAGE = 0.1
"""Share of the scatter that is made diagonal."""
DRIFT, DRIFT_UNLABELLED = 2.0, 1.0
"""Variance that a gesture's mean may drift by, in units of the scatter within gestures."""
SURE, SURE_UNLABELLED = 0.9, 0.97
"""Least probability at which a decision may teach; more of both care where K = 0."""


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What is known of a student's logits: of a population's, or of one person's.

    Attributes:
        means: Of each gesture, ``(gesture, logit)``; each row adds up to zero.
        scatter: Within gestures, ``(logit, logit)``.
        gain: Logits per unit of the linear discriminant of the means.
        repetitions: Labelled ones of the person, K with those of earlier sessions; 0 where only
            the population is known.
    """

    means: NDArray[np.float32] = field(repr=False)
    scatter: NDArray[np.float32] = field(repr=False)
    gain: float
    repetitions: int = 0

    def __post_init__(self) -> None:
        classes = len(self.means)
        if self.means.shape != (classes, classes) or self.scatter.shape != (classes, classes):
            raise DataError(
                f"adaptation: expected means and scatter of (gesture, gesture), got "
                f"{self.means.shape} and {self.scatter.shape}; calibrate again"
            )
        sound = all(np.isfinite(value).all() for value in (self.means, self.scatter, self.gain))
        if not sound or self.repetitions < 0:
            raise DataError("adaptation: expected finite numbers, got others; calibrate again")

    @classmethod
    def of_population(
        cls, logits: ArrayLike, labels: NDArray[np.intp], people: NDArray[np.intp]
    ) -> Adaptation:
        """Estimate what is common to people.

        Args:
            logits: Of the pre-trained student on the training subjects, ``(window, gesture)``.
            labels: Gesture of each window.
            people: Number of the person of each window.
        """
        centred = _centred(logits)
        classes = centred.shape[1]
        own = _means(centred, people * classes + labels, (int(people.max()) + 1) * classes)
        deviations = centred - own[people * classes + labels]
        scatter = deviations.T @ deviations / len(deviations)
        means = _means(centred, labels, classes)
        return cls(_single(means), _single(scatter), 0.0)._with_gain(centred)

    def of_person(
        self, logits: ArrayLike, labels: NDArray[np.intp] | None, repetitions: int
    ) -> Adaptation:
        """Update a population's statistics by a person's calibration windows.

        Their K repetitions count as K, the population as one more.

        Args:
            logits: Of the person's own student, ``(window, gesture)``.
            labels: Gesture of each window; None where K = 0.
            repetitions: K.
        """
        centred, updated = _centred(logits), self
        if labels is not None:
            classes, k = len(self.means), repetitions
            own = _means(centred, labels, classes)
            deviations = centred - own[labels]
            scatter = deviations.T @ deviations / len(deviations)
            known = np.bincount(labels, minlength=classes)[:, None] > 0
            means = np.where(known, (k * own + self.means) / (k + 1), self.means)
            scatter = (k * scatter + self.scatter) / (k + 1)
            updated = replace(self, means=_single(means), scatter=_single(scatter), repetitions=k)
        return updated._with_gain(centred)

    def _with_gain(self, centred: Floats) -> Adaptation:
        """Find how steeply logits ``(window, logit)`` rise with the discriminant of the means."""
        means = self.whitened
        discriminant = _centred(centred @ self.whitening @ means.T - 0.5 * (means**2).sum(axis=1))
        power = float((discriminant**2).sum())
        gain = float((discriminant * centred).sum()) / power if power > 0 else 0.0
        return replace(self, gain=float(np.float32(max(gain, 0.0))))

    @property
    def drift(self) -> float:
        """Variance that a gesture's mean may drift by."""
        return DRIFT if self.repetitions else DRIFT_UNLABELLED

    @property
    def sure(self) -> float:
        """Least probability at which a decision may teach."""
        return SURE if self.repetitions else SURE_UNLABELLED

    def without(self, gesture: int) -> Adaptation:
        """Return what is known of a student that does not know a gesture."""
        means, scatter = (
            np.delete(np.delete(one, gesture, axis=0), gesture, axis=1)
            for one in (self.means, self.scatter)
        )
        return replace(self, means=_single(_centred(means)), scatter=scatter)

    @cached_property
    def whitening(self) -> Floats:
        """Maps logits to where the scatter is the identity, ``(logit, coordinate)``.

        There is one coordinate less than there are gestures: what all logits share decides nothing.
        """
        basis = _contrasts(len(self.scatter))
        scatter = basis @ self.scatter.astype(float) @ basis.T
        least = 1e-6 * np.trace(scatter) / len(scatter) + np.finfo(np.float32).tiny
        scatter = (1 - SHRINKAGE) * scatter + np.diag(SHRINKAGE * np.diag(scatter) + least)
        lower = np.linalg.cholesky(scatter)
        return np.asarray(np.linalg.solve(lower, basis)).T

    @cached_property
    def whitened(self) -> Floats:
        """The means there, ``(gesture, coordinate)``."""
        return np.asarray(self.means.astype(float) @ self.whitening)

    @property
    def fingerprint(self) -> str:
        """Hash of the numbers, 16 hex digits."""
        numbers = np.array([self.gain, self.repetitions])
        content = (self.means.tobytes(), self.scatter.tobytes(), numbers.tobytes())
        return hashlib.sha256(b"".join(content)).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "means": self.means.tolist(),
            "scatter": self.scatter.tolist(),
            "gain": self.gain,
            "repetitions": self.repetitions,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Adaptation:
        """Rebuild what :meth:`to_dict` returned.

        Raises:
            DataError: Something is missing, has another shape, or is no finite number.
        """
        try:
            means, scatter = (np.array(values[name], np.float32) for name in ("means", "scatter"))
            gain, repetitions = float(values["gain"]), int(values["repetitions"])
        except (LookupError, TypeError, ValueError, ArithmeticError):
            raise DataError(
                "adaptation: expected means, scatter, gain and repetitions, got others; calibrate "
                "again"
            ) from None
        return cls(means, scatter, gain, repetitions)


def _contrasts(classes: int) -> Floats:
    """An orthonormal basis of what adds up to zero, ``(classes - 1, classes)`` (Helmert's)."""
    rows = np.tri(classes, k=-1) - np.diag(np.arange(classes))
    counts = np.arange(classes)
    return np.asarray(rows[1:] / np.sqrt(counts * (counts + 1))[1:, None])


def _centred(logits: ArrayLike) -> Floats:
    values = np.asarray(logits, float)
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def _means(rows: Floats, groups: NDArray[np.intp], count: int) -> Floats:
    """Mean of the rows of each group; zeros where there are none."""
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, groups, rows)
    return np.asarray(sums / np.maximum(np.bincount(groups, minlength=count), 1)[:, None])


def _single(values: Floats) -> NDArray[np.float32]:
    return values.astype(np.float32)
