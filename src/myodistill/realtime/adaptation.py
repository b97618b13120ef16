"""Adaptation in use: a decoder follows its wearer without labels.

Statistics move within a session and when the electrodes are put on again. A window is decided
first; then the means of gestures may move, in the space of the student's logits. What they have
moved by is added to the logits of later windows, as a linear discriminant of these means would have
it. Nothing changes before the first window, and no layer of a network is touched: it works alike on
PyTorch, on ONNX Runtime and in C.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from myodistill.adaptation import Adaptation
from myodistill.errors import BundleError, DataError

Floats = NDArray[np.float64]

NOISE = 50.0
"""Windows that count as one independent observation, as neighbours overlap and are alike."""
LONGEST = 20
"""Windows of one performance that count fully; of later ones each counts less."""
AHEAD = 1.5
"""How far the evidence for a gesture may run ahead of the mean over gestures."""
HEAD_START = 20.0
"""Evidence for every gesture to begin with, in windows."""
UNFAMILIAR = 1.5
"""Growth of the squared distance to the means at which adaptation is suspended."""
NEWEST, USUAL = 0.003, 0.0005
"""Shares of a window in the newest and in the usual distance (333 and 2,000 windows)."""
RATE = 0.005
"""Share of a window in a common shift (a time constant of 200 windows)."""

_STATE_FORMAT = 1


class Adapter(ABC):
    """Moves the means of gestures, window by window.

    Args:
        adaptation: A person's.

    Raises:
        DataError: The scatter is none.
    """

    name: ClassVar[str]

    def __init__(self, adaptation: Adaptation) -> None:
        try:
            self._whitening, self._fixed = adaptation.whitening, adaptation.whitened
        except np.linalg.LinAlgError:
            raise DataError(
                "adaptation: expected a scatter that is positive definite, got another; "
                "calibrate again"
            ) from None
        self._half_norms = 0.5 * (self._fixed**2).sum(axis=1)
        self._adaptation = adaptation
        self.reset()

    def reset(self) -> None:
        """Forget what was learned: return to the calibrated means."""
        self._means = self._fixed.copy()
        self.pause()

    def pause(self) -> None:
        """Take note that a window was not decided: the next one begins a performance."""
        self._last, self._length = -1, 0

    @property
    def suspended(self) -> bool:
        """Whether the student decides alone for now."""
        return False

    def adapt(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """Decide one window, then learn from it.

        Args:
            logits: Of the student, finite, shape ``(gesture,)``.

        Returns:
            The logits of the adapted student, by what was learned from earlier windows.
        """
        point = logits.astype(float) @ self._whitening
        norms = 0.5 * (self._means**2).sum(axis=1)
        moved = (self._means - self._fixed) @ point - (norms - self._half_norms)
        adapted = logits + self._adaptation.gain * moved
        gesture = int(adapted.argmax())
        self._length = min(self._length + 1, 1 << 20) if gesture == self._last else 1
        self._last = gesture
        decided = logits if self.suspended else adapted
        self._learn(point, adapted, agreed=gesture == int(logits.argmax()))
        return np.asarray(decided, dtype=np.float32)

    @abstractmethod
    def _learn(self, point: Floats, adapted: Floats, *, agreed: bool) -> None:
        """Move the means by a window.

        Args:
            point: The whitened logits of the window.
            adapted: Its adapted logits.
            agreed: Whether these decide as those of the student do.
        """

    def state(self) -> str:
        """Return what was learned, as JSON, to :meth:`restore` after a power cycle."""
        return json.dumps(
            {
                "format": _STATE_FORMAT,
                "method": self.name,
                "adaptation": self._adaptation.fingerprint,
                **{name: value.tolist() for name, value in self._learned().items()},
            }
        )

    def restore(self, state: str) -> None:
        """Continue from a state.

        Raises:
            BundleError: It is none, is damaged, or belongs to another bundle; nothing has changed.
        """
        try:
            stored = json.loads(state)
            kind = [stored[name] for name in ("format", "method", "adaptation")]
            values = {name: np.array(stored[name], float) for name in self._learned()}
        except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError):
            raise BundleError(
                "adaptation: expected a state that a decoder saved, got another text; reset instead"
            ) from None
        if kind != [_STATE_FORMAT, self.name, self._adaptation.fingerprint]:
            raise BundleError(
                "adaptation: expected a state of this bundle, it belongs to another one or to "
                "another version; reset instead"
            )
        for name, now in self._learned().items():
            least = 0 if name in ("variance", "evidence") else -np.inf
            sound = np.isfinite(values[name]) & (values[name] >= least)
            if values[name].shape != now.shape or not sound.all():
                raise BundleError(
                    f"adaptation: expected {now.shape} sound values of {name}, the state has "
                    f"others; reset instead"
                )
        for name, now in self._learned().items():
            now[...] = values[name]

    def _learned(self) -> dict[str, Floats]:
        """The arrays that are learned, by name."""
        return {"means": self._means}


class CommonShift(Adapter):
    """All means move alike, by the mean of what windows differ from their gestures' by.

    An exponential mean, as of the pooled mean of Vidaurre et al. (Toward unsupervised adaptation
    of LDA for brain-computer interfaces, IEEE TBME 58(3), 2011), but of residuals, so that a
    performance is not taken for a shift.
    """

    name = "common-shift"

    def _learn(self, point: Floats, adapted: Floats, *, agreed: bool) -> None:
        self._means += RATE * (point - _posterior(adapted) @ self._means)


class GestureMeans(Adapter):
    """The mean of the decided gesture moves by a Kalman gain.

    A scalar Kalman filter (Kalman 1960) for each gesture, in which the posterior is the weight of
    an observation. Unlike an exponential mean it settles.
    """

    name = "gesture-means"

    def reset(self) -> None:
        """Forget what was learned: return to the calibrated means."""
        super().reset()
        self._variance = np.full(len(self._fixed), self._adaptation.drift)

    def _learn(self, point: Floats, adapted: Floats, *, agreed: bool) -> None:
        gesture = int(adapted.argmax())
        weight = self._weight(gesture, float(_posterior(adapted)[gesture]), agreed=agreed)
        certain = weight * self._variance[gesture]
        share = certain / (certain + NOISE)
        self._means[gesture] += share * (point - self._means[gesture])
        self._variance[gesture] *= 1 - share

    def _weight(self, gesture: int, probability: float, *, agreed: bool) -> float:
        """Return how much of an observation a window is."""
        return probability

    def _learned(self) -> dict[str, Floats]:
        return {**super()._learned(), "variance": self._variance}


class GuardedGestureMeans(GestureMeans):
    """As gesture-means, guarded against streams unlike a calibration session.

    A plain decoder that learns from its own decisions goes astray where the shares of gestures are
    not those it expects (label shift; Li et al., SPDIM, arXiv 2411.07249, 2024). Here a mean moves
    only where the student, adapted or not, decides alike and surely enough
    (:attr:`Adaptation.sure`); one long performance counts as :data:`LONGEST` windows and little
    more; and a gesture stops to learn while its evidence is far ahead of that of others. Where
    the squared distance to the means comes to be :data:`UNFAMILIAR` times the usual one, as when
    an electrode fails or the band slips, adaptation is suspended until it no longer is.
    """

    name = "guarded-gesture-means"

    def reset(self) -> None:
        """Forget what was learned: return to the calibrated means."""
        super().reset()
        self._evidence = np.zeros(len(self._fixed))
        self._distances = np.zeros(3)  # logarithms of the newest and the usual; windows so far

    @property
    def suspended(self) -> bool:
        """Whether the student decides alone for now."""
        newest, usual, _ = self._distances
        return bool(newest > usual + np.log(UNFAMILIAR))

    def _learn(self, point: Floats, adapted: Floats, *, agreed: bool) -> None:
        distance = ((point - self._means[int(adapted.argmax())]) ** 2).mean()
        level = np.log(max(distance, np.finfo(np.float32).tiny))
        self._distances[2] += 1
        first = 1 / max(self._distances[2], 1)
        self._distances[0] += max(NEWEST, first) * (level - self._distances[0])
        if first > NEWEST:  # there is nothing usual yet
            self._distances[1] = self._distances[0]
        elif not self.suspended:
            self._distances[1] += max(USUAL, first) * (level - self._distances[1])
        super()._learn(point, adapted, agreed=agreed)

    def _weight(self, gesture: int, probability: float, *, agreed: bool) -> float:
        most = AHEAD * (float(self._evidence.mean()) + HEAD_START)
        if (
            self.suspended
            or not agreed
            or probability <= self._adaptation.sure
            or self._evidence[gesture] > most
        ):
            return 0.0
        weight = probability * min(1.0, LONGEST / self._length)
        self._evidence[gesture] += weight
        return weight

    def _learned(self) -> dict[str, Floats]:
        return {
            **super()._learned(),
            "evidence": self._evidence,
            "distances": self._distances,
        }


ADAPTERS: dict[str, type[Adapter]] = {
    one.name: one for one in (CommonShift, GestureMeans, GuardedGestureMeans)
}
"""Methods by name; a decoder uses the last."""


def _posterior(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
