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


def covariances(windows: Signal) -> Features:
    """Covariance between the channels of each window.

    Args:
        windows: Shape ``(window, channel, time)``.

    Returns:
        Shape ``(window, channel, channel)``.
    """
    x = windows.astype(np.float64)
    x -= x.mean(axis=2, keepdims=True)
    return np.asarray(x @ x.transpose(0, 2, 1) / x.shape[2])


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
    matrices = covariances(windows)
    channels = matrices.shape[1]
    power = np.trace(matrices, axis1=1, axis2=2) / channels
    matrices *= 1 - shrinkage
    matrices += shrinkage * power[:, None, None] * np.eye(channels)
    logarithm = matrix_log(matrices)
    rows, columns = np.triu_indices(channels)
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))
    return np.asarray(logarithm[:, rows, columns] * weight)


def matrix_log(matrices: Features) -> Features:
    """Logarithm of symmetric positive matrices, shape ``(..., n, n)``."""
    values, vectors = np.linalg.eigh(matrices)
    logs = np.log(np.maximum(values, np.finfo(float).tiny))
    return np.asarray((vectors * logs[..., None, :]) @ np.swapaxes(vectors, -1, -2))
