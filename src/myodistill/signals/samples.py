"""Samples from outside: real numbers, or one line that says what came instead."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.errors import DataError


def real_numbers(values: ArrayLike, *, what: str) -> NDArray[np.float32]:
    """Return a float32 copy of real numbers; those beyond float32 become infinite.

    Args:
        values: Anything that NumPy reads as an array.
        what: Who asks, for the message.

    Raises:
        DataError: They are not real numbers: text, truth values, complex, masked or anything else.
    """
    if type(values) is np.ndarray and values.dtype == np.float32:  # a live stream's: at once
        return values.copy()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise DataError(f"{what}: expected an array of real numbers, got: {reason}") from error
    if np.ma.is_masked(values) or array.dtype.kind not in "iuf":
        kind = "masked values" if np.ma.is_masked(values) else f"the type {array.dtype.name[:40]}"
        raise DataError(
            f"{what}: expected real numbers, got {kind}; convert them to float32, missing ones to "
            f"NaN"
        )
    with np.errstate(over="ignore"):
        return np.array(array, dtype=np.float32)


def finite_windows(values: ArrayLike, spec: SignalSpec, *, what: str) -> Signal:
    """Return windows ``(window, channel, time)`` that a network of ``spec`` can read.

    Raises:
        DataError: They have another shape, or are not finite real numbers.
    """
    windows = real_numbers(values, what=what)
    if windows.ndim != 3 or windows.shape[1:] != (spec.channels, spec.samples):
        raise DataError(
            f"{what}: expected windows of shape (window, {spec.channels} channels, {spec.samples} "
            f"samples), got {windows.shape}; check channels and window length"
        )
    require_finite(windows, what=what)
    return windows


def require_finite(samples: Signal, *, what: str) -> None:
    """Refuse samples that no filter or network can take.

    Raises:
        DataError: One of them is infinite or not a number.
    """
    if not np.isfinite(samples).all():
        index = tuple(np.argwhere(~np.isfinite(samples))[0].tolist())
        raise DataError(
            f"{what}: expected finite samples that float32 can hold, got {samples[index]} at "
            f"{index}; repair or leave out this signal"
        )
