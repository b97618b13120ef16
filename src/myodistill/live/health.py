"""What a stream was like: what is missing, doubled, late, broken, and how fast it came."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Signal
from myodistill.errors import DataError
from myodistill.realtime.windows import LIMIT

ENOUGH = 10.0
"""Seconds after which the measured rate is judged."""
TOLERANCE = 0.02
"""Share by which it may differ from the bundle's."""
BURST = 0.1
"""Seconds without samples after which those that come together count as a burst."""
SETTLING = 1.0
"""Seconds at the beginning and after a break that are not measured: old samples come in a burst."""


@dataclass(frozen=True)
class Quality:
    """Each channel in one second of the stream; all of shape ``(channel,)``.

    Attributes:
        rms: Root mean square about the mean, of the values that are sound, in the signal's unit.
        flat: It did not change.
        saturated: It stuck to its greatest or least value.
        invalid: A tenth of its values were not finite, or beyond what an amplifier gives.
    """

    rms: NDArray[np.float64]
    flat: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    invalid: NDArray[np.bool_]


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
        bursts: Times at which samples were held up and came together.
        delay: Seconds that the oldest of them was held up, at most: so late were its decisions.
        flat: Channels that did not change for a second at some time.
        saturated: Channels that stuck to their greatest or least value at some time.
        invalid: Channels that gave values that are not finite, or beyond what an amplifier gives,
            for a tenth of a second at some time.
        newest: When samples came last, in seconds of this machine's monotonic clock.
        quality: Of the channels in the newest second; None before there was one.
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
    bursts: int = 0
    delay: float = 0.0
    flat: set[int] = field(default_factory=set)
    saturated: set[int] = field(default_factory=set)
    invalid: set[int] = field(default_factory=set)
    newest: float | None = None
    quality: Quality | None = None


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


class BurstMeter:
    """Notices samples that were held up on their way and came together.

    After a tenth of a second without samples, those that come at more than twice the rate have
    waited: half of that time's samples, and a tenth of a second's at least, are a burst. Where they
    were lost instead, nothing catches up and there is none.

    Args:
        rate: Samples a second.
        health: Where they are counted.
    """

    def __init__(self, rate: float, health: Health) -> None:
        self._rate, self._health = rate, health
        self.restart()

    def restart(self) -> None:
        """Forget the time before: another device's samples come next."""
        self._last: float | None = None
        self._waited, self._caught, self._counted = 0.0, 0.0, False

    def take(self, samples: int, now: float) -> None:
        """Count samples that came at a time, in seconds."""
        pause = 0.0 if self._last is None else now - self._last
        self._last, seconds = now, samples / self._rate
        if pause >= BURST:
            self._waited, self._caught, self._counted = pause, 0.0, False
        elif seconds < 2 * pause:
            self._waited = 0.0
        if not self._waited:
            return
        self._caught += seconds
        if self._caught < max(self._waited / 2, BURST):
            return
        self._health.bursts += not self._counted
        self._health.delay = max(self._health.delay, min(self._waited, self._caught))
        self._counted = True


class ChannelCheck:
    """Looks at the channels, a second at a time.

    Args:
        rate: Samples a second.
        health: Where the bad ones are noted, and the newest second's quality.
    """

    def __init__(self, rate: float, health: Health) -> None:
        self._length = max(round(rate), 2)
        self._health = health
        self._parts: list[Signal] = []
        self._count = 0

    def take(self, samples: Signal) -> bool:
        """Take samples ``(time, channel)``, finite or not; return whether a second is full."""
        self._parts.append(samples)
        self._count += len(samples)
        if self._count < self._length:
            return False
        quality = judge(np.concatenate(self._parts))
        self._parts, self._count = [], 0
        self._health.quality = quality
        self._health.flat.update(np.flatnonzero(quality.flat).tolist())
        self._health.saturated.update(np.flatnonzero(quality.saturated).tolist())
        self._health.invalid.update(np.flatnonzero(quality.invalid).tolist())
        return True


def judge(block: Signal) -> Quality:
    """Return the quality of channels; ``block`` is ``(time, channel)``, at least two samples.

    Saturated is a tenth of the samples at the very end of a range of many values.
    """
    sound = np.abs(block) <= LIMIT
    values = np.where(sound, block, np.nan).T.copy()
    values.sort(axis=1)  # what is not sound comes last
    count = sound.sum(axis=0)
    greatest = values[np.arange(len(values)), np.maximum(count - 1, 0)][:, None]
    least = values[:, :1]
    at_end = np.maximum((values == greatest).sum(axis=1), (values == least).sum(axis=1))
    many = (np.diff(values, axis=1) > 0).sum(axis=1) >= 15
    middle = np.nansum(values, axis=1, dtype=np.float64) / np.maximum(count, 1)
    power = np.nansum((values - middle[:, None]) ** 2, axis=1) / np.maximum(count, 1)
    return Quality(
        rms=np.sqrt(power),
        flat=(count > 0) & (greatest == least)[:, 0],
        saturated=many & (at_end >= 0.1 * count),
        invalid=count <= 0.9 * len(block),
    )
