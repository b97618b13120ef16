"""What is done to each recording before it is stored: repair, filter, resample."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import butter

from myodistill.datasets.quality import bad_channels, fill_in, saturated_channels
from myodistill.datasets.recording import Annotation, Recording, Signal
from myodistill.errors import SettingsError
from myodistill.signals.filters import apply, design


@dataclass(frozen=True)
class Preparation:
    """How recordings are prepared.

    Attributes:
        passband: Edges of the causal band-pass in hertz; none leaves the signal as it is.
        mains: Frequency of the notch in hertz; 0 for none.
        sampling_rate: Rate to resample to, causally, in hertz; none keeps the recorded one.
        repair: Whether bad channels are filled in from their neighbours.
    """

    passband: tuple[float, float] | None = None
    mains: float = 0.0
    sampling_rate: float | None = None
    repair: bool = False

    def __post_init__(self) -> None:
        rate = self.sampling_rate
        if rate is not None and not 1 <= rate <= _MOST_HZ:
            raise SettingsError(
                f"sampling_rate: expected 1 to {_MOST_HZ:g} Hz to resample to, got {rate:g}"
            )
        low, high = self.passband or (1.0, 2.0)
        if not 0 < low < high < math.inf:
            raise SettingsError(f"passband: expected 0 < low < high, got {low:g}-{high:g}")
        if not 0 <= self.mains < math.inf:
            raise SettingsError(f"mains: expected a frequency in Hz, got {self.mains:g}")


# The fastest that surface EMG is recorded at is a tenth of this.
_MOST_HZ = 1e5


def prepare_recording(
    recording: Recording, preparation: Preparation
) -> tuple[Signal, tuple[Annotation, ...], tuple[int, ...]]:
    """Filter, repair and resample one recording.

    Returns:
        The signal ``(time, channel)``, the annotations at its rate, the channels repaired.
    """
    signal, notes, rate = recording.signal, recording.annotations, recording.sampling_rate
    bad: set[int] = set()
    if preparation.repair:
        bad = set(saturated_channels(signal).tolist())
    if preparation.passband is not None:
        sections = design(rate, preparation.passband, mains=preparation.mains)
        signal = apply(sections, signal)
    if preparation.repair:
        bad |= set(bad_channels(signal))
        if len(bad) > signal.shape[1] // 2:
            # Not an electrode but the take is bad: neighbours that are no better cannot mend it.
            bad = set()
        if bad:
            signal = fill_in(
                signal, recording.electrodes, tuple(sorted(bad)), source=recording.source
            )
    wanted = preparation.sampling_rate
    if wanted is not None and wanted != rate:
        signal = resample(signal, rate, wanted)
        notes = tuple(
            replace(
                note,
                start=math.ceil(note.start * wanted / rate),
                stop=min(math.floor(note.stop * wanted / rate), len(signal)),
            )
            for note in notes
        )
    return signal, notes, tuple(sorted(bad))


def resample(signal: Signal, rate: float, wanted: float) -> Signal:
    """Resample causally: a low-pass of order 8 where the rate falls, then straight lines.

    No sample depends on one that comes more than one step of the old rate after it.

    Args:
        signal: Shape ``(time, channel)``.
        rate: Its rate in hertz.
        wanted: The new rate in hertz.
    """
    if wanted < rate:
        sections = np.asarray(butter(8, 0.4 * wanted, "lowpass", fs=rate, output="sos"))
        signal = apply(sections, signal)
    count = math.floor((len(signal) - 1) * wanted / rate) + 1
    position = np.arange(count) * (rate / wanted)
    left = np.minimum(position.astype(np.intp), len(signal) - 1)
    right = np.minimum(left + 1, len(signal) - 1)
    share = (position - left).astype(np.float32)[:, None]
    return np.asarray(signal[left] * (1 - share) + signal[right] * share, dtype=np.float32)
