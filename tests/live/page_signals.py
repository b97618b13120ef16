"""A made-up person in front of the page: muscle signals that look real, and decisions on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]

GESTURES = (
    "rest",
    "wrist flexion",
    "wrist extension",
    "radial deviation",
    "ulnar deviation",
    "power grip",
    "open hand",
    "pinch grip",
)
BUCKETS = 125
"""A second."""


@dataclass
class Person:
    """Performs one gesture after the other, with electrodes around the forearm.

    Attributes:
        channels: Number of electrodes.
        rate: In hertz.
        grid: Rows and columns where the electrodes lie on a grid, else None.
        faults: Quality of the channels that are not good.
        seed: Of everything.
    """

    channels: int = 8
    rate: float = 1000.0
    grid: tuple[int, int] | None = None
    faults: dict[int, str] = field(default_factory=dict)
    seed: int = 0
    gesture: int | None = None
    """What is performed; by turns where it is None."""

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._patterns = self._muscles()
        self._level = np.zeros(len(GESTURES))
        self._level[0] = 1.0
        self._turns = self._performances()
        self._now, self._left = 0, 1.2
        self._band = [np.zeros((2, self.channels)), np.zeros((1, self.channels))]
        self._drift = 0.0
        self.seconds = 0.0

    def _muscles(self) -> Floats:
        """Return how strong each gesture is at each electrode: ``(gesture, channel)``, in µV."""
        if self.grid:
            rows, columns = self.grid
            place = np.arange(self.channels)
            angle = 2 * np.pi * (place % columns) / columns
            along = (place // columns) / max(rows - 1, 1)
        else:
            angle = 2 * np.pi * np.arange(self.channels) / self.channels
            along = np.full(self.channels, 0.5)
        found = np.zeros((len(GESTURES), self.channels))
        for gesture in range(1, len(GESTURES)):
            for size in (1.0, 0.55):
                where, height = self._random.uniform(0, 2 * np.pi), self._random.uniform(0.1, 0.9)
                near = np.exp(3.0 * (np.cos(angle - where) - 1) - 9 * (along - height) ** 2)
                found[gesture] += size * self._random.uniform(60, 110) * near
        return found + 4.5

    def _performances(self) -> Iterator[tuple[int, float]]:
        while True:
            for gesture in self._random.permutation(np.arange(1, len(GESTURES))):
                yield int(gesture), self._random.uniform(2.2, 3.2)
                yield 0, self._random.uniform(1.0, 1.6)

    def samples(self, count: int) -> NDArray[np.float32]:
        """Return the next samples, ``(time, channel)``, in µV."""
        passed = count / self.rate
        self.seconds += passed
        self._left -= passed
        if self.gesture is not None:
            self._now = self.gesture
        elif self._left <= 0:
            self._now, self._left = next(self._turns)
        wanted = np.eye(len(GESTURES))[self._now]
        self._level += (wanted - self._level) * min(1.0, passed / 0.13)
        self._drift += self._random.normal(0, 0.3) * np.sqrt(passed) - 0.4 * self._drift * passed
        strength = self._level @ self._patterns * np.exp(0.35 * self._drift)
        noise = self._random.normal(size=(count, self.channels))
        noise *= self._random.gamma(2.0, 0.5, size=(count, 1)) ** 0.5
        signal = self._filtered(noise) * strength
        time = self.seconds + np.arange(count) / self.rate
        signal += 1.2 * np.sin(2 * np.pi * 50 * time)[:, None]
        for channel, fault in self.faults.items():
            if fault == "flat":
                signal[:, channel] = 0.0
            elif fault == "noisy":
                signal[:, channel] += 70 * np.sin(2 * np.pi * 50 * time) + 25 * noise[:, channel]
            elif fault == "saturated":
                signal[:, channel] = np.clip(400 * np.sin(2 * np.pi * 3 * time), -180, 180)
            elif fault == "missing":
                signal[:, channel] = np.nan
        return np.asarray(signal, np.float32)

    def _filtered(self, noise: Floats) -> Floats:
        """Shape noise as muscle fibres do: most of it between 30 and 150 Hz."""
        centre, width = 2 * np.pi * 85 / self.rate, np.exp(-2 * np.pi * 55 / self.rate)
        poles = [1.0, -2 * width * np.cos(centre), width**2]
        low, self._band[0] = lfilter([1.0, 0, -1.0], poles, noise, axis=0, zi=self._band[0])
        shaped: Floats = low * (1 - width) * 1.1
        return shaped

    def decision(self) -> dict[str, Any]:
        """Return the decision on what is performed now, without its threshold."""
        logits = 7.5 * self._level + self._random.normal(0, 0.55, len(GESTURES))
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        label = int(shares.argmax())
        return {
            "type": "decision",
            "seconds": self.seconds,
            "sample": round(self.seconds * self.rate),
            "gesture": GESTURES[label],
            "label": label,
            "confidence": float(shares[label]),
            "probabilities": [float(share) for share in shares],
            "abstained": False,
            "delay_ms": float(self._random.gamma(4, 0.6)),
        }

    def quality(self) -> list[str]:
        return [self.faults.get(channel, "good") for channel in range(self.channels)]


def buckets(samples: NDArray[np.float32], per_bucket: int) -> NDArray[np.float32]:
    """Return minimum and maximum, ``(bucket, channel, 2)``, of whole buckets."""
    whole = len(samples) // per_bucket * per_bucket
    parts = samples[:whole].reshape(-1, per_bucket, samples.shape[1])
    return np.stack([parts.min(axis=1), parts.max(axis=1)], axis=-1)


def frame(first: int, extremes: NDArray[np.float32]) -> bytes:
    """Return the binary message of buckets, as the protocol writes it."""
    count, channels, _ = extremes.shape
    head = np.array([1, first], "<u4").tobytes() + np.array([count, channels], "<u2").tobytes()
    return head + np.ascontiguousarray(extremes, "<f4").tobytes()
