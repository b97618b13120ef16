"""The one causal pre-processing: a filter, then one linear map over the channels.

It is fitted on training data only, saved in the bundle, and used unchanged offline, online and
on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myodistill.datasets.recording import Recording, Repetition, Signal
from myodistill.errors import DataError
from myodistill.signals.features import covariances, matrix_log
from myodistill.signals.filters import CausalFilter, Sections, apply, design, filter_mark
from myodistill.signals.samples import real_numbers, require_finite
from myodistill.signals.windows import Windows, cut

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """A causal filter and a map of the filtered channels, fitted to one person.

    Attributes:
        sampling_rate: In hertz.
        passband: Edges of the band-pass in hertz.
        mains: Frequency of the notch in hertz; 0 for none.
        matrix: Map over channels, shape ``(channel, channel)``: ``out = filtered @ matrix.T``.
            Diagonal when it only scales, symmetric when it re-centres.
        seen: The repetitions that the map was fitted on.
        designed: The filter's sections where they are known, as in an exported student, so that it
            need not be designed again.
    """

    sampling_rate: float
    passband: tuple[float, float]
    mains: float
    matrix: Matrix = field(repr=False)
    seen: frozenset[Repetition] = field(repr=False)
    designed: Sections | None = field(default=None, repr=False, compare=False)

    def sections(self) -> Sections:
        """Second-order sections of the filter."""
        if self.designed is not None:
            return self.designed
        return design(self.sampling_rate, self.passband, mains=self.mains)

    def apply(self, signal: Signal) -> Signal:
        """Pre-process a whole recording, ``(time, channel)`` to the same shape."""
        return PreprocessingStream(self).push(signal)

    def map(self, windows: Windows) -> Windows:
        """Map windows whose signal is filtered already: the same samples as :meth:`apply`."""
        mapped = windows.over(map_channels(windows.signal, self.matrix))
        return replace(mapped, filtered=f"{windows.filtered}, mapped")

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "sampling_rate": self.sampling_rate,
            "passband": list(self.passband),
            "mains": self.mains,
            "matrix": self.matrix.astype(float).tolist(),
            "seen": [[r.subject, r.session, r.index] for r in sorted(self.seen)],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Rebuild from :meth:`to_dict`."""
        low, high = values["passband"]
        return cls(
            sampling_rate=float(values["sampling_rate"]),
            passband=(float(low), float(high)),
            mains=float(values["mains"]),
            matrix=np.asarray(values["matrix"], dtype=np.float32),
            seen=frozenset(Repetition(*entry) for entry in values["seen"]),
        )


class PreprocessingStream:
    """Pre-processing in operation: ``push`` takes chunks of any size, in order."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._filter = CausalFilter(preprocessing.sections())
        self._matrix = preprocessing.matrix

    def push(self, chunk: ArrayLike) -> Signal:
        """Pre-process the next samples, ``(time, channel)`` to the same shape, float32.

        Raises:
            DataError: The chunk has another number of channels, or holds what is not a finite
                real number; the filter is as before.
        """
        chunk = real_numbers(chunk, what="pre-processing")
        if chunk.ndim != 2 or chunk.shape[1] != len(self._matrix):
            raise DataError(
                f"pre-processing: expected chunks of shape (time, {len(self._matrix)}), "
                f"got {chunk.shape}"
            )
        require_finite(chunk, what="pre-processing")
        return map_channels(self._filter.push(chunk).astype(np.float32), self._matrix)


def filtered(
    recordings: Sequence[Recording], sections: Sections, *, samples: int, step: int
) -> Windows:
    """Filter recordings and cut them into windows.

    Args:
        recordings: Of one person.
        sections: Of the filter, as :func:`~myodistill.signals.filters.design` makes them.
        samples: Window length.
        step: Samples from one window to the next.
    """
    signals = [apply(sections, recording.signal) for recording in recordings]
    return cut(recordings, signals, samples=samples, step=step, filtered=filter_mark(sections))


def filtered_windows(windows: Signal, sections: Sections, *, samples: int) -> Windows:
    """Filter raw windows one by one, for windows of a stream that is not at hand.

    Each filter begins as if the window's first sample had lasted forever. What it rings then is
    in the result: with windows longer than ``samples`` it has died away where the result begins.

    Args:
        windows: Raw, shape ``(window, channel, time)``, at least ``samples`` long.
        sections: Of the filter, as :func:`~myodistill.signals.filters.design` makes them.
        samples: The newest samples of each window that are kept.

    Returns:
        One window of ``samples`` for each, without labels (-1).
    """
    count, channels, _ = windows.shape
    signal = np.empty((count * samples, channels), dtype=np.float32)
    for begin in range(0, count, _TOGETHER):
        part = windows[begin : begin + _TOGETHER]
        columns = part.transpose(2, 0, 1).reshape(part.shape[2], -1)  # each with its own state
        newest = apply(sections, columns)[-samples:].reshape(samples, len(part), channels)
        rows = signal[begin * samples : (begin + len(part)) * samples]
        rows[:] = newest.transpose(1, 0, 2).reshape(-1, channels)
    return Windows(
        signal=signal,
        samples=samples,
        starts=np.arange(count) * samples,
        labels=np.full(count, -1),
        repetition_index=np.zeros(count, np.intp),
        repetitions=(),
        filtered=filter_mark(sections),
    )


_TOGETHER = 256
"""Windows filtered at once."""


def map_channels(signal: Signal, matrix: Matrix) -> Signal:
    """Map the channels of every sample: ``signal @ matrix.T``.

    Summed channel by channel, so that a sample's value does not depend on how many others
    stand beside it, as it would in a blocked matrix product.

    Args:
        signal: Shape ``(time, channel)``.
        matrix: Shape ``(channel, channel)``.
    """
    if signal.size * len(matrix) <= _FEW:
        products = np.multiply(signal.T[:, :, None], matrix.T[:, None, :], order="C")
        return np.asarray(np.add.reduce(products, axis=0))
    mapped = np.zeros_like(signal)
    for begin in range(0, len(signal), _CHUNK):
        part, out = signal[begin : begin + _CHUNK], mapped[begin : begin + _CHUNK]
        for channel in range(signal.shape[1]):
            out += part[:, channel, None] * matrix[:, channel]
    return mapped


_CHUNK = 4096
"""Samples mapped at once, which then stay in the processor's cache."""
_FEW = 1 << 16
"""Products that are taken at once, as of a live stream; the sums are in the same order."""


def scaling(windows: Windows) -> Matrix:
    """Return the diagonal map that gives each channel unit power over ``windows``.

    Args:
        windows: Filtered windows of one person.
    """
    return scaling_by(mean_covariance(windows))


def scaling_by(covariance: NDArray[np.float64]) -> Matrix:
    """Return the diagonal map that gives each channel of this covariance unit power."""
    return np.diag(1 / np.sqrt(np.diagonal(covariance))).astype(np.float32)


def recentring(windows: Windows) -> Matrix:
    """Return the map that whitens a person by the mean of their windows' covariances.

    After it the mean is the identity: people meet in one frame, and no label is needed (Zanini et
    al., Transfer learning: a Riemannian geometry framework with applications to brain-computer
    interfaces, IEEE TBME 65(5), 2018, eq. 7). The mean is log-Euclidean (Arsigny et al., Magnetic
    Resonance in Medicine 56(2), 2006): the arithmetic one is ruled by the strongest gestures.

    Args:
        windows: Filtered windows of one person.

    Returns:
        The inverse square root of the mean covariance, shape ``(channel, channel)``.
    """
    channels = windows.signal.shape[1]
    total = np.zeros((channels, channels))
    for batch in windows.batches():
        matrices = covariances(batch)
        power = np.trace(matrices, axis1=1, axis2=2)[:, None, None] / channels
        total += matrix_log(matrices + 1e-3 * power * np.eye(channels)).sum(axis=0)
    values, vectors = np.linalg.eigh(total / len(windows))
    return np.asarray((vectors * np.exp(-values / 2)) @ vectors.T, dtype=np.float32)


def mean_covariance(windows: Windows) -> NDArray[np.float64]:
    """Arithmetic mean over windows of the covariance between channels, ``(channel, channel)``."""
    total = np.zeros((windows.signal.shape[1],) * 2)
    for batch in windows.batches():
        total += covariances(batch).sum(axis=0)
    return total / len(windows)
