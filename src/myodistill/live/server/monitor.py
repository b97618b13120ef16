"""How strong each channel is now, and what is wrong with its electrode."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Signal
from myodistill.live.health import Quality
from myodistill.realtime.windows import LIMIT

SECONDS = 1.0
"""By which an electrode is judged."""
NEWEST = 0.2
"""Seconds that the RMS is of."""
HUM = 0.5
"""Share of a channel's power at 50 or 60 Hz and their multiples from which on it is noisy."""


class ChannelMonitor:
    """Keeps the newest second of a stream; another thread than the one that fills it may measure.

    Args:
        channels: How many there are.
        rate: Samples a second.
    """

    def __init__(self, channels: int, rate: float) -> None:
        self._channels, self._rate = channels, rate
        self._length = max(round(SECONDS * rate), 2)
        self._parts: deque[Signal] = deque()
        self._count = 0
        self._lock = Lock()
        self._noisy, self._judged = np.zeros(channels, bool), 0.0

    def take(self, samples: Signal, begin: int) -> None:
        """Take samples ``(time, channel)``, which nobody changes any more."""
        with self._lock:
            self._parts.append(samples)
            self._count += len(samples)
            while self._count - len(self._parts[0]) >= self._length:
                self._count -= len(self._parts.popleft())

    def newest(self) -> Signal:
        """Return the newest second, or what there is of it."""
        with self._lock:
            parts = list(self._parts)
        if not parts:
            return np.zeros((0, self._channels), np.float32)
        return np.concatenate(parts)[-self._length :]

    def measure(
        self, quality: Quality | None = None, *, streaming: bool, now: float
    ) -> dict[str, Any]:
        """Return the RMS of each channel, in the signal's unit, and its quality.

        Args:
            quality: Of the newest second, if one is over.
            streaming: Whether samples come; where they do not, all is missing.
            now: In seconds. Hum is looked for once a second.
        """
        block = self.newest()
        if not streaming or len(block) < 2:
            return {"rms": [0.0] * self._channels, "quality": ["missing"] * self._channels}
        recent = block[-max(round(NEWEST * self._rate), 2) :]
        if now - self._judged >= SECONDS:
            self._noisy, self._judged = humming(block, self._rate), now
        words = np.full(self._channels, "good", dtype=object)
        words[self._noisy] = "noisy"
        if quality is not None:
            words[quality.saturated] = "saturated"
            words[quality.flat] = "flat"
            words[quality.invalid] = "missing"
        return {"rms": _rms(recent).round(6).tolist(), "quality": words.tolist()}


def _rms(block: Signal) -> NDArray[np.float64]:
    """Return the root mean square of each channel about its mean, of values that are sound."""
    sound = np.abs(block) <= LIMIT
    count = np.maximum(sound.sum(axis=0), 1)
    values = np.where(sound, block, 0.0).astype(np.float64)
    mean = values.sum(axis=0) / count
    deviations = np.where(sound, block - mean, 0.0)
    return np.asarray(np.sqrt((deviations**2).sum(axis=0) / count))


def humming(block: Signal, rate: float) -> NDArray[np.bool_]:
    """Return the channels whose power is mostly mains hum, as that of a loose electrode is.

    Args:
        block: Shape ``(time, channel)``, half a second at least; shorter ones are not judged.
        rate: Samples a second.
    """
    if len(block) < rate / 2:
        return np.zeros(block.shape[1], bool)
    values = np.where(np.abs(block) <= LIMIT, block, 0.0).astype(np.float64)
    values = (values - values.mean(axis=0)) * np.hanning(len(values))[:, None]
    power = np.abs(np.fft.rfft(values, axis=0)) ** 2
    frequencies = np.fft.rfftfreq(len(values), 1 / rate)
    hum = np.zeros(len(frequencies), bool)
    for mains in (50.0, 60.0):
        nearest = np.round(frequencies / mains) * mains
        hum |= (np.abs(frequencies - nearest) <= 1.5) & (nearest > 0)
    of_muscles = power[frequencies >= 5].sum(axis=0)
    return np.asarray(power[hum].sum(axis=0) > HUM * np.maximum(of_muscles, 1e-30))
