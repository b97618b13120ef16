"""Which channels of a recording are bad, and filling them in from their neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Electrodes, Signal
from myodistill.errors import DataError

# A channel is clipped when more than this share of its samples sit at its extremes, and far off
# when its power lies more than this many robust deviations (in log power) from the others'.
_CLIPPED = 0.25
_FAR = 6.0
# Spread of log power below which no difference between channels is remarkable: 6 of these are
# 17 dB. The broken channel 1 of 3DC's first participant stands 20 dB above the others.
_USUAL_SPREAD = 0.65


def flat_channels(signal: Signal) -> NDArray[np.intp]:
    """Return the channels whose samples are all equal; ``signal`` is ``(time, channel)``."""
    return np.flatnonzero(np.ptp(signal, axis=0) == 0)


def saturated_channels(signal: Signal) -> NDArray[np.intp]:
    """Return the channels that sit at their highest or lowest value for much of the time.

    Few levels are no saturation: a quiet channel of a coarse converter is at its extremes often.

    Args:
        signal: Shape ``(time, channel)``, as it was recorded.
    """
    low, high = signal.min(axis=0), signal.max(axis=0)
    at_ends = ((signal == low) | (signal == high)).mean(axis=0)
    levels = np.array([len(np.unique(column[:4096])) for column in signal.T])
    return np.flatnonzero((at_ends > _CLIPPED) & (levels > 8))


def bad_channels(signal: Signal) -> dict[int, str]:
    """Find channels whose signal comes from no muscle.

    Args:
        signal: Shape ``(time, channel)``, preferably filtered, for ``"far off"``.

    Returns:
        ``"flat"``, ``"clipped"`` or ``"far off"`` by channel.
    """
    reasons = {int(channel): "flat" for channel in flat_channels(signal)}
    for channel in saturated_channels(signal):
        reasons.setdefault(int(channel), "clipped")
    good = np.array([channel not in reasons for channel in range(signal.shape[1])])
    if good.sum() >= 4:
        power = np.log(np.var(signal.astype(np.float64), axis=0) + np.finfo(float).tiny)
        middle = np.median(power[good])
        spread = max(1.4826 * float(np.median(np.abs(power[good] - middle))), _USUAL_SPREAD)
        for channel in np.flatnonzero(np.abs(power - middle) > _FAR * spread):
            reasons.setdefault(int(channel), "far off")
    return dict(sorted(reasons.items()))


def neighbours(electrodes: Electrodes) -> list[list[int]]:
    """Return the channels beside each channel: left, right, up and down, around the ring."""
    grid = electrodes.positions()
    rows, columns = grid.shape
    beside: list[set[int]] = [set() for _ in range(electrodes.channels)]
    for row in range(rows):
        for column in range(columns):
            for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                r, c = row + down, column + right
                if electrodes.is_ring:
                    c %= columns
                if 0 <= r < rows and 0 <= c < columns and (r, c) != (row, column):
                    beside[grid[row, column]].add(int(grid[r, c]))
    return [sorted(channels) for channels in beside]


def fill_in(
    signal: Signal, electrodes: Electrodes, bad: tuple[int, ...], *, source: str = ""
) -> Signal:
    """Replace bad channels by the mean of their good neighbours, working inwards.

    Args:
        signal: Shape ``(time, channel)``; not changed.
        electrodes: Layout of the channels.
        bad: The channels to replace.
        source: The file, for the message.

    Raises:
        DataError: No channel is good.
    """
    if len(bad) >= electrodes.channels:
        raise DataError(
            f"{source or 'repair'}: expected at least one good channel to repair the others from, "
            f"all {electrodes.channels} are bad; leave out this recording"
        )
    beside = neighbours(electrodes)
    repaired = signal.copy()
    waiting = set(bad)
    while waiting:
        ready = {
            channel: [other for other in beside[channel] if other not in waiting]
            for channel in waiting
        }
        ready = {channel: others for channel, others in ready.items() if others}
        for channel, others in ready.items():
            repaired[:, channel] = repaired[:, others].mean(axis=1)
        waiting -= set(ready)
    return repaired
