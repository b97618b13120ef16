"""Causal filters that carry their state, so that chunks give the same samples as the whole.

SciPy is imported where a filter is designed. A decoder that is given the sections does without it:
then a filter runs in NumPy, to the same samples, but at ten times the price of short chunks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Signal
from myodistill.errors import SettingsError

try:
    from scipy.signal import sosfilt as _sosfilt
except ImportError:
    _HAS_SCIPY = False
else:
    _HAS_SCIPY = True

Sections = NDArray[np.float64]

_NOTCH_QUALITY = 30.0


def design(
    sampling_rate: float, passband: tuple[float, float], *, order: int = 4, mains: float = 0.0
) -> Sections:
    """Design a Butterworth band-pass, with a notch at the mains frequency where one is given.

    Args:
        sampling_rate: In hertz.
        passband: Lower and upper edge (-3 dB) in hertz. An upper edge at or above half the
            sampling rate leaves a high-pass.
        order: Order of the Butterworth prototype.
        mains: Frequency of the notch in hertz; 0 for none.

    Returns:
        Second-order sections, shape ``(section, 6)``.

    Raises:
        SettingsError: The edges are not ``0 < low < high`` below half the sampling rate.
    """
    return _design(sampling_rate, (passband[0], passband[1]), order, mains).copy()


@lru_cache(maxsize=64)
def _design(
    sampling_rate: float, passband: tuple[float, float], order: int, mains: float
) -> Sections:
    from scipy.signal import butter, iirnotch, tf2sos

    low, high = passband
    nyquist = sampling_rate / 2
    if not 0 < low < min(high, nyquist):
        raise SettingsError(
            f"passband: expected 0 < low < high with low below {nyquist:g} Hz, got {low:g}-{high:g}"
        )
    if high >= nyquist:
        sections = butter(order, low, "highpass", fs=sampling_rate, output="sos")
    else:
        sections = butter(order, (low, high), "bandpass", fs=sampling_rate, output="sos")
    if mains:
        if not 0 < mains < nyquist:
            raise SettingsError(f"mains: expected a value below {nyquist:g} Hz, got {mains:g}")
        notch = tf2sos(*iirnotch(mains, _NOTCH_QUALITY, fs=sampling_rate))
        sections = np.concatenate([sections, notch])
    return np.asarray(sections, dtype=np.float64)


def filter_mark(sections: Sections) -> str:
    """Return what tells a filter from others, 16 hex digits; windows carry it.

    Args:
        sections: Second-order sections, shape ``(section, 6)``.
    """
    return hashlib.sha256(np.ascontiguousarray(sections).tobytes()).hexdigest()[:16]


def steady_state(sections: Sections) -> NDArray[np.float64]:
    """State after a constant input of 1, shape ``(section, 2)``."""
    return _steady(sections.tobytes())


@lru_cache(maxsize=64)
def _steady(sections: bytes) -> NDArray[np.float64]:
    """As SciPy's ``sosfilt_zi``, and cached, as a filter is begun for every recording."""
    table = np.frombuffer(sections).reshape(-1, 6)
    states, level = np.empty((len(table), 2)), 1.0
    for state, row in zip(states, table, strict=True):
        b, a = row[:3], row[3:]
        unchanged = np.array([[1 + a[1], -1], [a[2], 1]])
        state[:] = level * np.linalg.solve(unchanged, b[1:] - a[1:] * b[0])
        level *= b.sum() / a.sum()
    return states


@dataclass
class CausalFilter:
    """A filter in operation on one signal; ``push`` takes chunks of any size, in order.

    Its state begins as if the first sample had lasted forever, so that an offset of the
    electrodes rings less. Computed in float64, as the state feeds back on itself.

    Attributes:
        sections: Second-order sections, shape ``(section, 6)``.
    """

    sections: Sections
    _state: NDArray[np.float64] | None = None

    def push(self, chunk: NDArray[np.floating]) -> NDArray[np.float64]:
        """Filter the next samples.

        Args:
            chunk: Shape ``(time, channel)``; may be empty.

        Returns:
            The filtered samples, same shape, float64.
        """
        samples = chunk.astype(np.float64)
        if len(samples) == 0:
            return samples
        if self._state is None:
            self._state = steady_state(self.sections)[:, :, None] * samples[0]
        if not _HAS_SCIPY:
            return _filtered(self.sections, samples, self._state)
        filtered, state = _sosfilt(self.sections, samples, axis=0, zi=self._state)
        self._state = np.asarray(state, dtype=np.float64)
        return np.asarray(filtered, dtype=np.float64)


def _filtered(
    sections: Sections, samples: NDArray[np.float64], state: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Filter without SciPy, in its order of arithmetic; the state ``(section, 2, channel)`` moves.

    All sections work at once: each on the sample that the one before it has just left.
    """
    b0, b1, b2, _, a1, a2 = sections.T[:, :, None]
    out, left = np.empty_like(samples), np.empty((len(sections) + 1, samples.shape[1]))
    for tick in range(len(samples) + len(sections) - 1):
        if tick < len(samples):
            left[0] = samples[tick]
        now = slice(max(0, tick - len(samples) + 1), tick + 1)  # the sections with a sample
        x, first, second = left[:-1][now].copy(), state[now, 0], state[now, 1]
        y = b0[now] * x + first
        first[:] = b1[now] * x - a1[now] * y + second
        second[:] = b2[now] * x - a2[now] * y
        left[1:][now] = y
        if tick >= len(sections) - 1:
            out[tick - len(sections) + 1] = left[-1]
    return out


def apply(sections: Sections, signal: Signal) -> Signal:
    """Filter a whole recording, ``(time, channel)`` to the same shape, float32."""
    running, filtered = CausalFilter(sections), np.empty(signal.shape, dtype=np.float32)
    for begin in range(0, len(signal), _CHUNK):
        filtered[begin : begin + _CHUNK] = running.push(signal[begin : begin + _CHUNK])
    return filtered


_CHUNK = 8192
"""Samples filtered at once: in float64 a whole recording would take several times its memory."""
