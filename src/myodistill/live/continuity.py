"""Order in a stream: what comes twice or late is left out, what is missing becomes a gap."""

from __future__ import annotations

from collections import deque

import numpy as np

from myodistill.datasets.recording import Signal
from myodistill.live.health import Health
from myodistill.realtime.sources import Chunk

_FOLLOW = 0.1  # share of its deviation by which the expected time follows the stamps


class Continuity:
    """Turns chunks into samples without holes.

    A gap becomes samples that are not finite, so that the decoder abstains in every window that
    touches it. Of a long gap a window's worth is enough, chosen so that later windows begin where
    they would have begun.

    Args:
        rate: Samples a second.
        window: Samples of a window.
        step: Samples from one window to the next.
        health: Where all is counted.
    """

    def __init__(self, rate: float, window: int, step: int, health: Health) -> None:
        self._rate, self._health = rate, health
        self.fit(window, step)
        self._number: int | None = None  # that the next sample should have
        self._time: float | None = None  # that it should have been taken
        self._missing: deque[tuple[int, int]] = deque(maxlen=1000)
        self._unread = 0  # messages that were refused since the last samples
        self._broken = False  # nothing is known of what lies between
        self._old = 0  # samples in a row that should have come before

    def fit(self, window: int, step: int) -> None:
        """Bound gaps for windows of this length and this step between them."""
        self._bound, self._step = max(window, step), step

    def interrupt(self) -> None:
        """Take note that the stream broke off: a device connects, or one without counts stalls."""
        self._broken = self._health.samples > 0

    @property
    def counts(self) -> bool:
        """Whether the device tells where its samples belong."""
        return self._number is not None or self._time is not None

    def take(self, chunk: Chunk) -> tuple[Signal, Signal, int]:
        """Place a chunk in the stream.

        Returns:
            The gap before it as samples that are not finite, perhaps none; those of its samples
            that belong behind; and the number of lost samples that the gap does not hold.
        """
        self._unread += chunk.refused
        samples = chunk.samples
        channels = samples.shape[1]
        if not len(samples):
            return samples, samples, 0
        if chunk.number is not None:
            samples, missing = self._by_number(samples, chunk.number)
        elif chunk.time is not None:
            samples, missing = self._by_time(samples, chunk.time, chunk.jitter)
        else:
            missing = self._unread if self._health.samples else 0  # a line holds one sample
        if not len(samples):
            return samples, samples, 0
        gap = self._gap(missing)
        self._unread, self._broken = 0, False
        fed = np.full((gap, channels), np.nan, np.float32)
        return fed, samples, max(missing - gap, 0)

    def _gap(self, missing: int) -> int:
        """Count a gap; return how many samples stand for it."""
        if not missing and not self._broken:
            return 0
        self._health.gaps += 1
        self._health.lost += missing
        if self._broken and missing < self._bound:
            return self._bound
        if missing <= self._bound:
            return missing
        return self._bound - (self._bound - missing) % self._step

    def _by_number(self, samples: Signal, number: int) -> tuple[Signal, int]:
        after = number + len(samples)
        if self._number is None:
            self._number = after
            return samples, 0
        if self._broken and number < self._number:  # another device, or the same begins anew
            return self._restart(samples, after)
        old = min(self._number - number, len(samples))
        if old > 0:
            self._old += old
            if self._old > self._rate:
                return self._restart(samples, after)
            late = sum(self._was_missing(number + index) for index in range(old))
            self._health.late += late
            self._health.duplicated += old - late
            samples, number = samples[old:], number + old
        if not len(samples):
            return samples, 0
        self._old = 0
        missing = number - self._number
        if missing:
            self._missing.append((self._number, number))
        self._number = after
        return samples, missing

    def _restart(self, samples: Signal, after: int) -> tuple[Signal, int]:
        self._health.restarts += 1
        self._broken, self._number, self._old = True, after, 0
        self._missing.clear()
        return samples, 0

    def _was_missing(self, number: int) -> bool:
        """Whether a sample has not come before; from now on it has."""
        for index, (begin, end) in enumerate(self._missing):
            if begin <= number < end:
                del self._missing[index]
                parts = [(begin, number), (number + 1, end)]
                self._missing.extend(part for part in parts if part[0] < part[1])
                return True
        return False

    def _by_time(self, samples: Signal, time: float, jitter: float) -> tuple[Signal, int]:
        expected = time if self._time is None else self._time
        length, allowed = len(samples) / self._rate, max(jitter, 1.5 / self._rate)
        ahead = time - expected
        if ahead < -allowed and not self._broken:
            self._old += len(samples)
            if self._old <= self._rate:
                self._health.late += len(samples)
                return samples[:0], 0
            self._health.restarts += 1
            self._broken = True
        self._old = 0
        if abs(ahead) <= allowed:
            self._time = expected + _FOLLOW * ahead + length
            return samples, 0
        self._time = time + length
        return samples, max(round(ahead * self._rate), 0)
