"""How strong each gesture is under each electrode."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from numpy.typing import NDArray

from myodistill.datasets.recording import Recording
from myodistill.errors import DataError
from myodistill.reporting.figures.canvas import FAINT, PAGE, RULE, Picture, drawn, fitting
from myodistill.signals.filters import apply, design


def gesture_rms(
    recordings: Sequence[Recording], band: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Root mean square around the mean under each electrode, shape ``(gesture, channel)``.

    Gestures that were not performed are NaN.

    Args:
        recordings: Of one subject.
        band: Edges in hertz of a causal band-pass that takes drift and offsets away first; what
            it puts out in the first tenth of a second of a recording is left out.

    Raises:
        DataError: There are no recordings, or they differ in electrodes or gestures.
    """
    if not recordings:
        raise DataError("RMS map: expected at least one recording, got none")
    first = recordings[0]
    for other in recordings:
        if (other.electrodes, other.gestures) != (first.electrodes, first.gestures):
            raise DataError(
                f"RMS map: expected one layout of electrodes and gestures, {other.source} differs "
                f"from {first.source}"
            )
    squares = np.zeros((len(first.gestures), first.electrodes.channels))
    samples = np.zeros(len(first.gestures))
    for recording in recordings:
        signal, settled = recording.signal, 0
        if band is not None:
            signal = apply(design(recording.sampling_rate, band), signal)
            settled = round(recording.sampling_rate / 10)
        for note in recording.annotations:
            part = signal[max(note.start, settled) : note.stop].astype(float)
            if len(part) == 0:
                continue
            squares[note.gesture] += ((part - part.mean(axis=0)) ** 2).sum(axis=0)
            samples[note.gesture] += len(part)
    held = samples > 0
    rms = np.full_like(squares, np.nan)
    rms[held] = np.sqrt(squares[held] / samples[held, None])
    return rms


@drawn
def rms_map(recordings: Sequence[Recording], band: tuple[float, float] | None = None) -> Picture:
    """RMS of each gesture over the electrodes: petals for a ring, squares for a grid.

    Args:
        recordings: Of one subject.
        band: As in :func:`gesture_rms`.

    Raises:
        DataError: As :func:`gesture_rms`, or fewer than two gestures were performed.
    """
    rms = gesture_rms(recordings, band)
    first = recordings[0]
    shown = [g for g in range(len(first.gestures)) if np.isfinite(rms[g]).all()]
    if len(shown) < 2:
        raise DataError(
            f"RMS map: expected at least 2 gestures that were performed, got {len(shown)}; "
            f"maps are for comparing gestures"
        )
    layout = first.electrodes
    petals = layout.is_ring and layout.rows == 1
    rows = math.ceil(len(shown) / 6)
    columns = math.ceil(len(shown) / rows)
    tall = 1.35 if petals else 0.2 + PAGE / columns * min(layout.rows / layout.columns, 1.5)
    figure = Figure(figsize=(PAGE, rows * tall + 0.1), layout="constrained")
    panels = figure.subplots(
        rows, columns, squeeze=False, subplot_kw={"projection": "polar"} if petals else {}
    ).ravel()
    top = float(np.nanmax(rms))
    image = None
    for axes, gesture in zip(panels, shown, strict=False):
        values = rms[gesture][layout.positions()]
        axes.set_title(fitting(first.gestures[gesture], 18), loc="center", fontsize=7, pad=3)
        if isinstance(axes, PolarAxes):
            _petals(axes, values[0], top)
        else:
            image = axes.imshow(values, cmap="viridis", vmin=0, vmax=top)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
    for axes in panels[len(shown) :]:
        axes.remove()
    if image is not None:
        used = list(panels[: len(shown)])
        figure.colorbar(image, ax=used, shrink=0.8, aspect=30, label=f"RMS ({first.unit})")
    strongest = shown[int(np.argmax(rms[shown].mean(axis=1)))]
    return Picture(
        "rms-map",
        "Strength of each gesture over the electrodes",
        figure,
        pd.DataFrame(
            {
                "gesture": np.repeat([first.gestures[g] for g in shown], layout.channels),
                "channel": np.tile(np.arange(layout.channels), len(shown)),
                "rms": rms[shown].ravel(),
                "unit": first.unit,
            }
        ),
        f"Small maps of the signal strength of {len(shown)} gestures over {layout.channels} "
        f"electrodes of subject {first.subject}; {first.gestures[strongest]} is the strongest.",
        f"Subject {first.subject}{'' if band is None else f', {band[0]:g}–{band[1]:g} Hz'}. "
        + (
            f"Petals are electrodes around the limb, channel 0 on top and on clockwise; the outer "
            f"circle is {_short(top)} {first.unit}."
            if petals
            else "One scale for all gestures."
        ),
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _petals(axes: PolarAxes, values: NDArray[np.float64], top: float) -> None:
    count = len(values)
    angles = 2 * math.pi * np.arange(count) / count
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.bar(angles, values, width=2 * math.pi / count * 0.82, color="#004a77", linewidth=0)
    axes.set_ylim(0, top * 1.02)
    axes.set_yticks([top / 2], [])
    axes.set_xticks(angles[:1], ["0"] if count else [], fontsize=5.5, color=FAINT)
    axes.tick_params(pad=-3)
    axes.grid(color=RULE)
    axes.spines["polar"].set(color=RULE, linewidth=0.8)
