"""What a performed gesture must be like to learn from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.quality import flat_channels, saturated_channels
from myodistill.datasets.recording import Signal

Levels = NDArray[np.float64]
"""How strong the signal is, one value a channel, in its unit."""

STRONGER = 1.5
"""Times the level of rest that at least one channel of a gesture should reach."""
TENSE = 5.0
"""Times the level of the quietest rest that no channel of another rest should reach."""

_BLOCK = 0.1  # seconds


@dataclass(frozen=True)
class Verdict:
    """Whether a performance will do.

    Attributes:
        usable: It can be learned from, if need be.
        good: There is nothing to say against it.
        line: What there is to say, for the person.
    """

    usable: bool
    good: bool
    line: str


def levels(signal: Signal, rate: float) -> Levels:
    """Return the median over blocks of 0.1 s of each channel's standard deviation.

    Blocks leave out offsets and slow drift; the median leaves out single artefacts.

    Args:
        signal: Shape ``(time, channel)``, of a block at least.
        rate: Samples a second.
    """
    length = max(round(_BLOCK * rate), 2)
    blocks = signal[: len(signal) // length * length].astype(np.float64)
    if not len(blocks):
        return np.zeros(signal.shape[1])
    spread = blocks.reshape(-1, length, signal.shape[1]).std(axis=1)
    return np.asarray(np.median(spread, axis=0))


def strength(now: Levels, rest: Levels) -> float:
    """Return how many times stronger than rest the strongest channel is."""
    floor = np.maximum(rest, np.finfo(np.float32).tiny)
    return float((now / floor).max())


def judge(signal: Signal, rate: float, *, resting: bool, rest: Levels | None) -> Verdict:
    """Judge a performance.

    Args:
        signal: Raw, ``(time, channel)``; not finite where samples are missing.
        rate: Samples a second.
        resting: It should be rest.
        rest: Levels of the quietest rest so far, if there was any.
    """
    missing = int((~np.isfinite(signal).all(axis=1)).sum())
    if missing:
        return Verdict(False, False, f"{missing} of {len(signal)} samples are missing")
    if len(flat := flat_channels(signal)):
        return Verdict(False, False, f"{_electrodes(flat)} flat: see to the contact")
    if len(clipped := saturated_channels(signal)):
        return Verdict(False, False, f"{_electrodes(clipped)} saturated: turn the gain down")
    if rest is not None:
        times = strength(levels(signal, rate), rest)
        if resting and times > TENSE:
            return Verdict(True, False, f"{times:.1f} times the quietest rest: relax")
        if not resting and times < STRONGER:
            return Verdict(True, False, "hardly stronger than rest: was it performed?")
    return Verdict(True, True, "")


def _electrodes(channels: NDArray[np.intp]) -> str:
    names = ", ".join(str(channel + 1) for channel in channels[:8])
    more = f" and {len(channels) - 8} more" if len(channels) > 8 else ""
    return f"electrodes {names}{more} are" if len(channels) > 1 else f"electrode {names} is"
