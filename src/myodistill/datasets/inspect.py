"""Shows the people, hours and bad channels of a dataset, or the arrays of a file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from myodistill.datasets.arrays import read_arrays
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.foreign import Array
from myodistill.datasets.quality import bad_channels
from myodistill.datasets.recording import Recording
from myodistill.datasets.trees import list_files
from myodistill.errors import DataError

_KINDS = (".csv", ".tsv", ".txt", ".npy", ".npz", ".mat", ".h5", ".hdf5")


@dataclass(frozen=True)
class Summary:
    """What one person's recordings hold.

    Attributes:
        subject: Whose.
        sessions: Repetitions by session.
        seconds: Of signal.
        held: Seconds by gesture, in label order.
        bad: In how many recordings each bad channel is bad, and in what way most often.
    """

    subject: str
    sessions: dict[str, int]
    seconds: float
    held: tuple[float, ...]
    bad: dict[int, tuple[int, str]]


def summarise(dataset: Dataset, subject: str) -> tuple[Summary, list[Recording]]:
    """Read and summarise one person's recordings; flat channels are no error here."""
    dataset.repair = True
    recordings = dataset.recordings(subject)
    rate = dataset.facts.sampling_rate
    turns: dict[str, set[int]] = {}
    held = np.zeros(len(dataset.facts.gestures))
    bad: dict[int, Counter[str]] = {}
    for one in recordings:
        for note in one.annotations:
            turns.setdefault(one.session, set()).add(note.repetition)
            held[note.gesture] += (note.stop - note.start) / rate
        # An offset of the electrodes is no power: what counts is how much the signal moves.
        for channel, why in bad_channels(np.diff(one.signal, axis=0)).items():
            bad.setdefault(channel, Counter())[why] += 1
    summary = Summary(
        subject=subject,
        sessions={session: len(repetitions) for session, repetitions in turns.items()},
        seconds=sum(one.seconds for one in recordings),
        held=tuple(held.tolist()),
        bad={c: (sum(n.values()), n.most_common(1)[0][0]) for c, n in sorted(bad.items())},
    )
    return summary, recordings


def picture(recordings: list[Recording], gesture: int) -> Figure:
    """Draw one gesture: the signal and its strength under every electrode, where that sits.

    Args:
        recordings: Of one person, preferably filtered.
        gesture: Which, by label.

    Raises:
        DataError: The gesture was not performed.
    """
    performances = [(one, note) for one in recordings for note in one.annotations]
    chosen = next(((one, note) for one, note in performances if note.gesture == gesture), None)
    if chosen is None:
        raise DataError(f"picture: expected a recording of gesture {gesture}, there is none")
    one, note = chosen
    signal = one.signal[note.start : note.stop]
    signal = signal - signal.mean(axis=0)
    electrodes = one.electrodes
    layout = electrodes.positions()
    strength = np.zeros(electrodes.channels)
    same = [(r, n) for r, n in performances if n.gesture == gesture]
    for r, n in same:
        strength += np.std(r.signal[n.start : n.stop], axis=0) / len(same)

    figure = Figure(figsize=(11, 6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    order = layout.ravel()[:: max(1, electrodes.channels // 16)][:16]
    gap = 8 * float(np.median(signal[:, order].std(axis=0))) or 1.0
    shown = np.clip(signal, -0.9 * gap, 0.9 * gap)
    time = np.arange(len(signal)) / one.sampling_rate
    for height, channel in enumerate(order):
        left.plot(time, shown[:, channel] - height * gap, linewidth=0.5, color="#20506e")
    left.set_yticks(-gap * np.arange(len(order)), [str(channel) for channel in order])
    left.set_ylim(-gap * len(order), gap)
    left.set(xlabel="time (s)", ylabel="channel")
    left.set_title(
        f"{one.gestures[gesture]}: {one.subject}, {one.session}, repetition {note.repetition}",
        fontsize=10,
    )
    image = right.imshow(strength[layout], cmap="viridis", norm=LogNorm())
    right.set_title(f"RMS at each electrode, mean of {len(same)} performances", fontsize=10)
    right.set(xlabel="around the limb", ylabel="along the limb")
    right.set_xticks(range(0, layout.shape[1], max(1, layout.shape[1] // 8)))
    right.set_yticks(range(0, layout.shape[0], max(1, layout.shape[0] // 8)))
    figure.colorbar(image, ax=right, label=f"RMS ({one.unit})", shrink=0.7)
    return figure


def draft(path: Path) -> str:
    """Print what the files of a folder, zip or file hold, and draft a description of them.

    Returns:
        Lines of comments on what was found, then the YAML that
        :class:`~myodistill.datasets.described.Described` reads.

    Raises:
        DataError: There is no file of a kind that is read.
    """
    if not path.exists():
        raise DataError(f"{path}: expected a file or folder, there is none")
    single_file = path.is_file() and path.suffix.lower() != ".zip"
    files = [
        one
        for one in list_files(path.parent if single_file else path)
        if Path(one.name).suffix.lower() in _KINDS and (not single_file or one.name == path.name)
    ]
    if not files:
        raise DataError(f"{path}: expected {', '.join(_KINDS)} files, got none")
    arrays = read_arrays(files[0])
    lines = [f"# {len(files)} files; the first is {files[0].name} and holds:"]
    lines += [
        f"#   {_quoted(name) if name else '(one array)'}: {array.dtype} "
        + "×".join(map(str, array.shape))
        + _range(array)
        for name, array in arrays.items()
    ]
    numeric = {n: a for n, a in arrays.items() if a.dtype.kind in "iuf" and a.ndim in (2, 3)}
    if not numeric:
        raise DataError(
            f"{files[0].location}: expected a signal of 2 or 3 axes, it holds "
            f"{', '.join(f'{n or 1} {a.shape}' for n, a in arrays.items()) or 'no arrays'}"
        )
    name, signal = max(numeric.items(), key=lambda item: item[1].size)
    axes = sorted(range(signal.ndim), key=lambda axis: signal.shape[axis])
    windows = axes.pop() if signal.ndim == 3 else None
    channel, time = axes
    count = signal.shape[time if windows is None else windows]
    kept = {n: a for n, a in arrays.items() if a.size == count and n != name}
    labels = next((n for n, a in kept.items() if a.dtype.kind in "iub" or _whole(a)), None)
    last = _label_column(signal) if windows is None and time == 0 else None
    values: list[str] = ["0", "1"]
    if labels is not None:
        values = _labels(kept[labels])
    elif last is not None:
        values = _labels(signal[:, last])
    channels = signal.shape[channel] - (1 if labels is None and last is not None else 0)
    lines += [
        "# Check every line; what could not be known is marked.",
        f"files: {_template(files[0].name)!r}  # put {{subject}}, {{session}}, {{repetition}}, "
        "{gesture} where they stand",
        f"root: {(path.parent if single_file else path).resolve().as_posix()!r}",
        *([f"signal: {_quoted(name)}"] if name else []),
        f"time_axis: {time}",
        f"channel_axis: {channel}",
        *([f"window_axis: {windows}"] if windows is not None else []),
        *([f"channels: [{', '.join(map(str, range(channels)))}]"] if last is not None
          and labels is None else []),
        f"labels: {_quoted(labels)}" if labels is not None
        else f"labels: {last}" if last is not None
        else "# labels: not found; name a variable, a column, or use {gesture} in files",
        "sampling_rate: 1000  # not known: in hertz",
        "unit: counts  # not known",
        f"electrodes: {{layout: ring, columns: {channels}}}  # not known; or layout: grid, rows, "
        "columns, order",
        "gestures: {"
        + ", ".join(f"{_quoted(value)}: {_quoted(f'gesture {value}')}" for value in values)
        + "}",
        "calibration_session: '1'",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    """A name as YAML reads it back: in quotes unless it is a plain word or number."""
    plain = name.replace("_", "").replace(" ", "").isalnum() and name.isascii()
    return name if plain and str(yaml.safe_load(name)) == name else json.dumps(name)


def _range(array: Array) -> str:
    if array.dtype.kind not in "iufb" or array.size == 0:
        return ""
    return f", {array.min():g} to {array.max():g}"


def _whole(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.all(array == np.round(array)))


def _label_column(table: Array) -> int | None:
    """The last column of a table, where it holds few different whole numbers."""
    last = table[:, -1]
    if table.shape[1] > 1 and _whole(last.astype(float)) and 1 < len(np.unique(last)) <= 100:
        return int(table.shape[1]) - 1
    return None


def _labels(array: Array) -> list[str]:
    values = [f"{value:g}" if array.dtype.kind in "iufb" else str(value)
              for value in np.unique(array)[:200]]  # fmt: skip
    return values if len(values) > 1 else [*values, "other"]


def _template(name: str) -> str:
    """The name of a file with its numbers left open."""
    path = Path(name)
    stem = "".join("*" if part.isdigit() else part for part in _split(path.as_posix()))
    return stem if "*" in stem else name


def _split(text: str) -> list[str]:
    parts: list[str] = []
    for letter in text:
        if parts and parts[-1].isdigit() == letter.isdigit():
            parts[-1] += letter
        else:
            parts.append(letter)
    return parts
