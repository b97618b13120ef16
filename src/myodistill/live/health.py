"""What a stream was like: what is missing, doubled, late, broken, and how fast it came."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Signal
from myodistill.errors import DataError

ENOUGH = 10.0
"""Seconds after which the measured rate is judged."""
TOLERANCE = 0.02
"""Share by which it may differ from the bundle's."""
SETTLING = 1.0
"""Seconds at the beginning and after a break that are not measured: old samples come in a burst."""


@dataclass
class Health:
    """Counts of one stream.

    Attributes:
        samples: Sound in time and place: those that the decoder was given.
        gaps: Times at which samples were missing.
        lost: Samples missing in them, as far as the device tells.
        duplicated: Samples that came again.
        late: Samples that came after later ones.
        broken: Samples with a value that is not finite, or beyond what an amplifier gives.
        refused: Messages that could not be read.
        reason: Why the newest was refused.
        silences: Times at which nothing came although a device was there.
        connections: Devices that connected.
        vanished: Devices that went.
        restarts: Times at which a device began to count anew.
        flat: Channels that did not change for a second at some time.
        saturated: Channels that stuck to their greatest or least value at some time.
    """

    samples: int = 0
    gaps: int = 0
    lost: int = 0
    duplicated: int = 0
    late: int = 0
    broken: int = 0
    refused: int = 0
    reason: str = ""
    silences: int = 0
    connections: int = 0
    vanished: int = 0
    restarts: int = 0
    flat: set[int] = field(default_factory=set)
    saturated: set[int] = field(default_factory=set)


class RateMeter:
    """Measures samples a second over an unbroken stretch, and judges them.

    Args:
        expected: Samples a second.
        enough: Seconds after which they are judged; 0 for never.
    """

    def __init__(self, expected: float, enough: float = ENOUGH) -> None:
        self.measured: float | None = None
        self._expected, self._enough = expected, enough
        self.restart()

    def restart(self) -> None:
        """Begin a new stretch with the next samples."""
        self._joined: float | None = None
        self._begin: float | None = None
        self._count = 0

    def take(self, samples: int, now: float) -> None:
        """Count samples, lost ones among them.

        Args:
            samples: How many.
            now: When the last of them came (or was taken), in seconds.

        Raises:
            DataError: They come at another rate than the decoder was made for.
        """
        if self._joined is None:
            self._joined = now
        if self._begin is None:
            if now - self._joined >= SETTLING:
                self._begin = now
            return
        self._count += samples
        seconds = now - self._begin
        if seconds < 1.0:
            return
        self.measured = self._count / seconds
        off = abs(self.measured / self._expected - 1)
        if self._enough and seconds >= self._enough and off > TOLERANCE:
            raise DataError(
                f"stream: expected {self._expected:g} samples a second, measured "
                f"{self.measured:.1f} over {seconds:.0f} s; set the device to the rate of the "
                f"bundle, or see to a faster connection"
            )


class ChannelCheck:
    """Finds channels that are flat or saturated, a second at a time.

    Args:
        rate: Samples a second.
        health: Where they are noted.
    """

    def __init__(self, rate: float, health: Health) -> None:
        self._length = max(round(rate), 2)
        self._health = health
        self._parts: list[Signal] = []
        self._count = 0

    def take(self, samples: Signal) -> None:
        """Take samples ``(time, channel)``, finite or not."""
        self._parts.append(samples)
        self._count += len(samples)
        if self._count < self._length:
            return
        block = np.concatenate(self._parts)
        self._parts, self._count = [], 0
        self._health.flat.update(np.flatnonzero(_flat(block)).tolist())
        self._health.saturated.update(np.flatnonzero(_saturated(block)).tolist())


def _flat(block: Signal) -> NDArray[np.bool_]:
    return np.asarray((block == block[0]).all(axis=0))


def _saturated(block: Signal) -> NDArray[np.bool_]:
    """A tenth of the samples at the very end of a range of many values."""
    many = np.array([len(np.unique(channel)) >= 16 for channel in block.T])
    ends = np.maximum(
        (block == block.max(axis=0)).mean(axis=0), (block == block.min(axis=0)).mean(axis=0)
    )
    return np.asarray(many & (ends >= 0.1))
