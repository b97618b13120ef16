"""Feature sets for classical models, vectorised over windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Signal

Features = NDArray[np.float64]


def time_domain(windows: Signal) -> Features:
    """Six time-domain features of each channel.

    Mean absolute value, waveform length, zero crossings, slope-sign changes (Hudgins, Parker and
    Scott, A new strategy for multifunction myoelectric control, IEEE TBME 40(1), 1993), root mean
    square and log-variance. Counts use a threshold of 1 % of the channel's RMS in its window.

    Args:
        windows: Shape ``(window, channel, time)``.

    Returns:
        Shape ``(window, 6 * channel)``, feature by feature.
    """
    x = windows.astype(np.float64)
    step = np.diff(x, axis=2)
    rms = np.sqrt(np.mean(x**2, axis=2))
    threshold = 0.01 * rms[:, :, None]
    crossings = (x[:, :, :-1] * x[:, :, 1:] < 0) & (np.abs(step) > threshold)
    turns = (step[:, :, :-1] * step[:, :, 1:] < 0) & (
        np.maximum(np.abs(step[:, :, :-1]), np.abs(step[:, :, 1:])) > threshold
    )
    return np.concatenate(
        [
            np.mean(np.abs(x), axis=2),
            np.sum(np.abs(step), axis=2),
            np.sum(crossings, axis=2),
            np.sum(turns, axis=2),
            rms,
            np.log(np.var(x, axis=2) + np.finfo(float).tiny),
        ],
        axis=1,
    )


def hudgins(windows: Signal) -> Features:
    """The four features of Hudgins, Parker and Scott (1993), without thresholds, in one pass.

    Mean absolute value, zero crossings, slope-sign changes and waveform length. A crossing is a
    strict change of sign; a turn is every sample that is not strictly between its neighbours.

    Args:
        windows: Shape ``(window, channel, time)``.

    Returns:
        Shape ``(window, 4 * channel)``, feature by feature in that order.
    """
    count, channels, _ = windows.shape
    result = np.empty((count, 4, channels))
    for begin in range(0, count, _AT_ONCE):
        x = np.ascontiguousarray(windows[begin : begin + _AT_ONCE])
        out = result[begin : begin + _AT_ONCE]
        step = x[:, :, 1:] - x[:, :, :-1]
        out[:, 0] = np.abs(x).mean(axis=2)
        out[:, 3] = np.abs(step).sum(axis=2)
        above, below = x > 0, x < 0
        out[:, 1] = _count(
            (above[:, :, :-1] & below[:, :, 1:]) | (below[:, :, :-1] & above[:, :, 1:])
        )
        rising, falling = step > 0, step < 0
        passing = (rising[:, :, :-1] & rising[:, :, 1:]) | (falling[:, :, :-1] & falling[:, :, 1:])
        out[:, 2] = passing.shape[2] - _count(passing)
    return result.reshape(count, -1)


# Windows worked on at once: few enough to stay in the processor's cache.
_AT_ONCE = 64


def _count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count what is true along the last axis, a machine word at a time."""
    return np.asarray(
        np.bitwise_count(np.packbits(mask, axis=-1)).sum(axis=-1, dtype=np.int64), dtype=np.int64
    )


def power_descriptors(windows: Signal) -> Features:
    """Six descriptors of the power spectrum, taken in the time domain (TD-PSD).

    Each is taken of the signal and of the logarithm of its square, and the two are put together
    by their normalised product, which cancels what the force of the contraction does to both.
    (Al-Timemy et al., Improving the performance against force variation of EMG controlled
    multifunctional upper-limb prostheses for transradial amputees, IEEE TNSRE 24(6), 2016.)

    Args:
        windows: Shape ``(window, channel, time)``.

    Returns:
        Shape ``(window, 6 * channel)``: three moments, sparseness, irregularity, ratio of
        waveform lengths.
    """
    count, channels, _ = windows.shape
    result = np.empty((count, 6, channels))
    for begin in range(0, count, _AT_ONCE):
        x = np.ascontiguousarray(windows[begin : begin + _AT_ONCE], dtype=np.float64)
        plain = _descriptors(x)
        logarithm = _descriptors(np.log(x * x + np.spacing(1)))
        fused = -2 * plain * logarithm / (plain * plain + logarithm * logarithm)
        result[begin : begin + _AT_ONCE] = fused
    return result.reshape(count, -1)


def _descriptors(x: Features) -> Features:
    """Logarithms of the six descriptors, shape ``(window, 6, channel)``."""
    first = x[:, :, 1:] - x[:, :, :-1]
    second = first[:, :, 1:] - first[:, :, :-1]
    length = x.shape[2] - 1
    power, power2, power4 = (np.einsum("wct,wct->wc", one, one) for one in (x, first, second))
    zeroth = (np.sqrt(power) / length) ** 0.1 / 0.1
    m2 = np.sqrt(power2 / length) ** 0.1 / 0.1
    m4 = np.sqrt(power4 / length) ** 0.1 / 0.1
    return np.asarray(
        np.log(
            np.abs(
                np.stack(
                    [
                        zeroth,
                        zeroth - m2,
                        zeroth - m4,
                        np.sqrt(np.abs((zeroth - m2) * (zeroth - m4))) / zeroth,
                        m2 / np.sqrt(zeroth * m4),
                        np.sqrt(np.abs(first).sum(axis=2) / np.abs(second).sum(axis=2)),
                    ],
                    axis=1,
                )
            )
        )
    )


def covariances(windows: Signal) -> Features:
    """Covariance between the channels of each window.

    Args:
        windows: Shape ``(window, channel, time)``.

    Returns:
        Shape ``(window, channel, channel)``.
    """
    count, channels, samples = windows.shape
    result = np.empty((count, channels, channels))
    for begin in range(0, count, _AT_ONCE):
        x = windows[begin : begin + _AT_ONCE].astype(np.float64)
        x -= x.mean(axis=2, keepdims=True)
        result[begin : begin + _AT_ONCE] = x @ x.transpose(0, 2, 1) / samples
    return result


def shrunk(matrices: Features, share: float = 0.001) -> Features:
    """Replace a share of each covariance by its mean power times the identity.

    Args:
        matrices: Shape ``(window, channel, channel)``.
        share: From 0 to 1; above 0 the results are positive definite.
    """
    channels = matrices.shape[1]
    power = np.trace(matrices, axis1=1, axis2=2) / channels
    return np.asarray((1 - share) * matrices + share * power[:, None, None] * np.eye(channels))


def log_covariance(windows: Signal, *, shrinkage: float = 0.001) -> Features:
    """Matrix logarithm of each window's covariance, as a vector.

    The upper triangle, with off-diagonal entries times √2, so that the Euclidean distance of two
    vectors is the log-Euclidean distance of the matrices (Arsigny et al., Log-Euclidean metrics
    for fast and simple calculus on diffusion tensors, MRM 56(2), 2006).

    Args:
        windows: Shape ``(window, channel, time)``; filter them to a band first.
        shrinkage: Share of the covariance replaced by its mean power times the identity, which
            keeps the logarithm finite for short windows.

    Returns:
        Shape ``(window, channel * (channel + 1) / 2)``.
    """
    logarithm = matrix_log(shrunk(covariances(windows), shrinkage))
    rows, columns = np.triu_indices(windows.shape[1])
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))
    return np.asarray(logarithm[:, rows, columns] * weight)


def matrix_log(matrices: Features) -> Features:
    """Logarithm of symmetric positive matrices, shape ``(..., n, n)``."""
    values, vectors = np.linalg.eigh(matrices)
    logs = np.log(np.maximum(values, np.finfo(float).tiny))
    return np.asarray((vectors * logs[..., None, :]) @ np.swapaxes(vectors, -1, -2))
