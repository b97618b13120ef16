"""A recording and its parts: where the electrodes sit, the signal, which gesture when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.limits import MOST_CHANNELS
from myodistill.errors import DataError, shown
from myodistill.files import plain_name

Signal = NDArray[np.float32]


@dataclass(frozen=True)
class Electrodes:
    """How the channels of a recording lie on the skin.

    A *ring* of n electrodes is one row of n columns whose ends touch; a *grid* has edges.

    Attributes:
        layout: ``"ring"`` or ``"grid"``.
        rows: Electrodes along the limb.
        columns: Electrodes around the limb.
        order: Channel index at each position, row by row; empty means 0, 1, 2, ...
        spacing_mm: Distance between neighbours in millimetres, 0 where it is not known.
    """

    layout: Literal["ring", "grid"]
    rows: int
    columns: int
    order: tuple[int, ...] = ()
    spacing_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise DataError(
                f"electrodes: expected at least 1 row and 1 column, got {self.rows}×{self.columns}"
            )
        if self.channels > MOST_CHANNELS:
            raise DataError(
                f"electrodes: expected at most {MOST_CHANNELS}, got {self.rows}×{self.columns}"[
                    :200
                ]
            )
        if self.order and sorted(self.order) != list(range(self.channels)):
            raise DataError(
                f"electrodes: expected each of the channels 0..{self.channels - 1} once in a "
                f"{self.rows}×{self.columns} {self.layout}, got {len(self.order)} entries"
            )

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.rows * self.columns

    @property
    def is_ring(self) -> bool:
        """Whether the last column touches the first."""
        return self.layout == "ring"

    def positions(self) -> NDArray[np.intp]:
        """Channel index at each position, shape ``(rows, columns)``."""
        order = self.order or tuple(range(self.channels))
        return np.asarray(order, dtype=np.intp).reshape(self.rows, self.columns)


def ring(count: int, *, spacing_mm: float = 0.0) -> Electrodes:
    """Return ``count`` electrodes around the limb, in channel order."""
    return Electrodes("ring", 1, count, spacing_mm=spacing_mm)


def grid(
    rows: int, columns: int, *, order: tuple[int, ...] = (), spacing_mm: float = 0.0
) -> Electrodes:
    """Return a grid of electrodes with edges; ``order`` as in :class:`Electrodes`."""
    return Electrodes("grid", rows, columns, order, spacing_mm)


@dataclass(frozen=True)
class SignalSpec:
    """What a model needs to know of the signal, and all that it may know.

    Attributes:
        electrodes: Layout of the channels.
        samples: Length of a window in samples.
        sampling_rate: In hertz.
        gestures: Names of the classes, in label order.
    """

    electrodes: Electrodes
    samples: int
    sampling_rate: float
    gestures: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise DataError(f"signal: expected windows of at least 1 sample, got {self.samples}")
        if not self.sampling_rate > 0:
            raise DataError(f"signal: expected a positive rate in Hz, got {self.sampling_rate}")
        if len(self.gestures) < 2:
            raise DataError(f"signal: expected at least 2 gestures, got {len(self.gestures)}")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.electrodes.channels

    @property
    def classes(self) -> int:
        """Number of gestures."""
        return len(self.gestures)

    def summary(self) -> str:
        """Return the signal in a few words."""
        electrodes = self.electrodes
        return (
            f"a {electrodes.rows}×{electrodes.columns} {electrodes.layout}, {self.samples} samples "
            f"at {self.sampling_rate:g} Hz, {self.classes} gestures"
        )


@dataclass(frozen=True, order=True)
class Repetition:
    """One performance of the gestures by one subject: the unit that splits are made of.

    Attributes:
        subject: Name of the person.
        session: Name of the session, as the dataset's authors call it.
        index: Repetition within the session, from 0.
    """

    subject: str
    session: str
    index: int

    def __str__(self) -> str:
        return f"{self.subject}/{self.session}/repetition {self.index}"


@dataclass(frozen=True)
class Annotation:
    """One gesture held from ``start`` up to, not including, ``stop`` (in samples)."""

    start: int
    stop: int
    gesture: int
    repetition: int


@dataclass(frozen=True)
class Recording:
    """The continuous signal of one take and what was done in it.

    Attributes:
        subject: Name of the person.
        session: Name of the session.
        signal: Shape ``(time, channel)``, float32, in ``unit``.
        sampling_rate: In hertz.
        electrodes: Layout of the channels.
        gestures: Names of the gestures, in label order.
        annotations: What was held when; samples outside belong to no gesture.
        unit: Physical unit of the signal, or ``"counts"``.
        source: The file that it came from, for messages.
        filled_in: Flat channels that were filled in from their neighbours while it was read.
    """

    subject: str
    session: str
    signal: Signal = field(repr=False)
    sampling_rate: float
    electrodes: Electrodes
    gestures: tuple[str, ...]
    annotations: tuple[Annotation, ...]
    unit: str = "counts"
    source: str = ""
    filled_in: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        plain_name("subject", self.subject)
        plain_name("session", self.session)
        where = self.source or f"{self.subject}/{self.session}"
        if self.signal.ndim != 2 or self.signal.shape[1] != self.electrodes.channels:
            raise DataError(
                f"{where}: expected a (time, {self.electrodes.channels}) signal, "
                f"got shape {self.signal.shape}; check the channel count of this file"
            )
        if len(self.signal) == 0:
            raise DataError(f"{where}: expected samples, got an empty recording; fetch it again")
        if not np.isfinite(self.signal).all():
            row, channel = np.argwhere(~np.isfinite(self.signal))[0]
            raise DataError(
                f"{where}: expected finite samples, got {self.signal[row, channel]} at sample "
                f"{row} of channel {channel}; repair or leave out this recording"
            )
        flat = np.flatnonzero(np.ptp(self.signal, axis=0) == 0)
        if len(flat):
            raise DataError(
                f"{where}: expected a changing signal, channel {', '.join(map(str, flat))} is flat "
                f"({len(self.signal)} equal samples); repair or leave out this recording"
            )
        for note in self.annotations:
            if not 0 <= note.gesture < len(self.gestures):
                raise DataError(
                    f"{where}: expected a gesture from 0 to {len(self.gestures) - 1}, "
                    f"got {note.gesture}"
                )
            if not 0 <= note.start < note.stop <= len(self.signal):
                raise DataError(
                    f"{where}: expected an annotation within 0..{len(self.signal)}, "
                    f"got {note.start}..{note.stop}"
                )

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.signal) / self.sampling_rate


def require_same_signal(
    recordings: Sequence[Recording], spec: SignalSpec, unit: str, *, what: str
) -> None:
    """Refuse recordings that differ in kind from those that a model was made for.

    Args:
        recordings: Raw.
        spec: What is expected; how far electrodes are apart is not compared.
        unit: Physical unit that is expected.
        what: Who expects it, for the message.

    Raises:
        DataError: Rate, unit, electrodes or gestures differ; the line names the first.
    """

    def traits(rate: float, unit: str, on: Electrodes, gestures: tuple[str, ...]) -> dict[str, Any]:
        return {
            "sampling rate": rate,
            "unit": unit,
            "electrodes": (on.layout, on.positions().tolist()),
            "gestures": list(gestures),
        }

    wanted = traits(spec.sampling_rate, unit, spec.electrodes, spec.gestures)
    for one in recordings:
        here = traits(one.sampling_rate, one.unit, one.electrodes, one.gestures)
        for name, value in here.items():
            if value != wanted[name]:
                raise DataError(
                    f"{what}: expected recordings with the {name} {shown(wanted[name], 60)}, got "
                    f"{shown(value, 60)} in {shown(one.source or one.subject)}; record alike, or "
                    f"say in its description what was recorded"
                )
