"""Recordings of your own, described by a small YAML file: .csv, .npy, .npz, .mat or HDF5.

The description says which files there are, which axis is time, where the labels are. ``myodistill
data inspect PATH`` drafts one. Opened by its path: ``--dataset my.yaml``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from myodistill.datasets.arrays import read_array
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.foreign import Array, as_signal, guarded
from myodistill.datasets.recording import Annotation, Electrodes, Recording
from myodistill.datasets.trees import File, list_files, natural
from myodistill.errors import DataError, Wanted
from myodistill.readers import read_yaml
from myodistill.validation import checked

_NAMES = ("subject", "session", "gesture", "repetition")


class Layout(BaseModel):
    """Where the electrodes sit."""

    model_config = ConfigDict(extra="forbid")

    layout: Literal["ring", "grid"]
    rows: int = 1
    columns: int
    order: tuple[int, ...] = ()
    spacing_mm: float = 0.0


class Description(BaseModel):
    """What the YAML file says; every key is one of these."""

    model_config = ConfigDict(extra="forbid")

    files: str = Field(description="path with {subject}, {session}, {gesture}, {repetition}, *")
    root: str = "."
    signal: str = ""
    time_axis: int = 0
    channel_axis: int = 1
    window_axis: int | None = None
    channels: tuple[int, ...] = ()
    labels: str | int | None = None
    repetitions_of: str | int | None = None
    subjects_of: str | int | None = None
    sampling_rate: float = Field(gt=0)
    unit: str = "counts"
    scale: float = 1.0
    electrodes: Layout
    gestures: dict[int | str, str]
    ignore: tuple[int | str, ...] = ()
    calibration_session: str = "1"
    test_sessions: tuple[str, ...] = ()
    repetitions: int | None = None
    samples: int | None = None
    step: int | None = None
    passband: tuple[float, float] | None = None
    mains: float = 0.0
    title: str = ""
    licence: str = "not stated"
    citation: str = "not stated"
    home: str = ""


def read_description(path: Path) -> Description:
    """Read and validate a description.

    Raises:
        DataError: The file is not there, is no YAML, or a key is wrong; the line names it.
    """
    wanted = Wanted("a description")
    values = read_yaml(path, wanted, integer_keys=True)
    return checked(TypeAdapter(Description), values, path, wanted)


class Described(Dataset):
    """A dataset that a YAML file describes.

    Args:
        path: The YAML file; the files it speaks of lie beside it, or in its ``root``.
    """

    def __init__(self, path: Path) -> None:
        self._description = about = read_description(path)
        root = (path.parent / about.root).expanduser()
        if not root.exists():
            raise DataError(f"{path}: expected the recordings in {root}, there is no such place")
        pattern = _pattern(path, about.files)
        self._files: dict[tuple[str, str, str, str], File] = {}
        for file in list_files(root):
            match = pattern.fullmatch(file.name)
            if match is None:
                continue
            said = match.groupdict()
            key = (
                said.get("subject", "subject"),
                said.get("session", about.calibration_session),
                said.get("repetition", ""),
                said.get("gesture", ""),
            )
            if key in self._files:
                raise DataError(
                    f"{path}: expected one file for {'/'.join(filter(None, key))}, got "
                    f"{self._files[key].place} and {file.place}; tell them apart in 'files'"
                )
            self._files[key] = file
        if not self._files:
            raise DataError(f"{path}: expected files like {about.files} in {root}, got none")
        if len(about.gestures) < 2:
            raise DataError(f"{path}: gestures: expected at least 2, got {len(about.gestures)}")
        self._codes = {str(code): index for index, code in enumerate(about.gestures)}
        self._codes |= {str(code): -1 for code in about.ignore}
        self.facts = self._make_facts(path, about)

    def _make_facts(self, path: Path, about: Description) -> Facts:
        rate = about.sampling_rate
        sessions = sorted({key[1] for key in self._files}, key=natural)
        tests = about.test_sessions or tuple(s for s in sessions if s != about.calibration_session)
        named = {int(key[2]) for key in self._files if key[2].isdigit()}
        layout = about.electrodes
        return Facts(
            name=path.stem,
            title=about.title or path.stem,
            electrodes=Electrodes(
                layout.layout, layout.rows, layout.columns, layout.order, layout.spacing_mm
            ),
            sampling_rate=rate,
            gestures=tuple(about.gestures.values()),
            unit=about.unit,
            samples=about.samples or max(1, round(0.25 * rate)),
            step=about.step or max(1, round(0.05 * rate)),
            passband=about.passband or (min(20.0, 0.1 * rate), 0.45 * rate),
            mains=about.mains,
            repetitions=about.repetitions or max(len(named), 1),
            calibration_session=about.calibration_session,
            test_sessions=tests,
            licence=about.licence,
            citation=about.citation,
            home=about.home or str(path),
        )

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects at hand."""
        if self._description.subjects_of is None:
            return tuple(sorted({key[0] for key in self._files}, key=natural))
        names: set[str] = set()
        for file in self._files.values():
            names.update(map(str, np.unique(self._column(file, self._description.subjects_of))))
        return tuple(sorted(names, key=natural))

    def recordings(self, subject: str) -> list[Recording]:
        """Read all recordings of one subject."""
        self._check_subject(subject)
        first = min((int(k[2]) for k in self._files if k[2].isdigit()), default=0)
        found: list[Recording] = []
        for key in sorted(self._files, key=lambda key: [natural(part) for part in key]):
            if self._description.subjects_of is None and key[0] != subject:
                continue
            repetition = int(key[2]) - first if key[2].isdigit() else 0
            found.extend(self._file(subject, key[1], repetition, key[3], self._files[key]))
        return found

    def _file(
        self, subject: str, session: str, repetition: int, gesture: str, file: File
    ) -> list[Recording]:
        about = self._description
        array = read_array(file, about.signal)
        labels = None if about.labels is None else self._column(file, about.labels)
        if labels is None and not gesture:
            raise DataError(
                f"{file.place}: expected its gesture as {{gesture}} in 'files' or in 'labels', "
                f"the description gives neither"
            )
        windows = self._windows(file, array)
        count = len(windows) if about.window_axis is not None else len(windows[0])
        label_array = np.full(count, self._code(file, gesture)) if labels is None else None
        if labels is not None:
            if len(labels) != count:
                raise DataError(
                    f"{file.place}: expected {count} labels, got {len(labels)}; "
                    f"check time_axis and window_axis"
                )
            values, inverse = np.unique(labels, return_inverse=True)
            label_array = np.array([self._code(file, _plain(value)) for value in values])[inverse]
        assert label_array is not None
        turns = np.full(count, repetition)
        if about.repetitions_of is not None:
            given = self._column(file, about.repetitions_of)
            turns = guarded(
                file, "a repetition for each label", lambda: np.asarray(given, dtype=np.int64)
            )
            turns = turns - turns.min()
        owners = None
        if about.subjects_of is not None:
            owners = self._column(file, about.subjects_of).astype(str) == subject
        if len(turns) != count or (owners is not None and len(owners) != count):
            raise DataError(
                f"{file.place}: expected {count} repetitions and subjects, as many as labels, "
                f"got {len(turns)} and {count if owners is None else len(owners)}"
            )
        if about.window_axis is None:
            notes = _runs(label_array, turns, self.facts.samples)
            return [self._make(subject, session, windows[0], notes, file.place)]
        return [
            self._make(
                subject,
                session,
                window,
                (Annotation(0, len(window), int(label_array[i]), int(turns[i])),),
                f"{file.place} window {i}",
            )
            for i, window in enumerate(windows)
            if (owners is None or owners[i]) and label_array[i] >= 0
        ]

    def _windows(self, file: File, array: Array) -> list[Array]:
        """Split an array into ``(time, channel)`` signals: one, or one a window."""
        about = self._description
        axes = [about.time_axis, about.channel_axis]
        if about.window_axis is not None:
            axes.insert(0, about.window_axis)
        if array.ndim != len(axes) or {axis % array.ndim for axis in axes} != set(range(len(axes))):
            raise DataError(
                f"{file.place}: expected an array of {len(axes)} axes (time {about.time_axis}, "
                f"channel {about.channel_axis}, window {about.window_axis}), "
                f"got shape {array.shape}"
            )
        turned = np.transpose(array, axes)
        signals = list(turned) if about.window_axis is not None else [turned]
        chosen = list(about.channels)
        if chosen and not 0 <= max(chosen) < turned.shape[-1]:
            raise DataError(
                f"{file.place}: expected channels up to {max(chosen)}, it has {turned.shape[-1]}"
            )
        return [
            as_signal(file, one[:, chosen] if chosen else one, unit_scale=about.scale)
            for one in signals
        ]

    def _column(self, file: File, which: str | int) -> Array:
        """One value a sample or window: a variable by name, or a column of a table by number."""
        if isinstance(which, str):
            return np.ravel(read_array(file, which))
        table = read_array(file, self._description.signal)
        if table.ndim != 2 or not -table.shape[1] <= which < table.shape[1]:
            raise DataError(f"{file.place}: expected a column {which}, it has shape {table.shape}")
        return np.asarray(table[:, which])

    def _code(self, file: File, value: str) -> int:
        if value not in self._codes:
            raise DataError(
                f"{file.place}: expected one of the gestures {', '.join(self._codes)}, "
                f"got '{value}'; add it to 'gestures' or leave the file out"
            )
        return self._codes[value]


def _plain(value: object) -> str:
    """A label as the description writes it: 3.0 is 3."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float | np.floating) and value == int(value):
        return str(int(value))
    return str(value)


def _runs(labels: Array, repetitions: Array, shortest: int) -> tuple[Annotation, ...]:
    """Stretches of one label and repetition that a window fits in; -1 belongs to no gesture."""
    changes = np.flatnonzero((np.diff(labels) != 0) | (np.diff(repetitions) != 0)) + 1
    starts, stops = [0, *changes.tolist()], [*changes.tolist(), len(labels)]
    return tuple(
        Annotation(start, stop, int(labels[start]), int(repetitions[start]))
        for start, stop in zip(starts, stops, strict=True)
        if stop - start >= shortest and labels[start] >= 0
    )


def _pattern(path: Path, template: str) -> re.Pattern[str]:
    """Turn ``s{subject}/{gesture}_*.csv`` into a regular expression over the whole path."""
    names = re.findall(r"\{(\w*)\}", template)
    unknown = [name for name in names if name not in _NAMES]
    if unknown or len(set(names)) != len(names):
        raise DataError(
            f"{path}: files: expected each of {{{'}, {'.join(_NAMES)}}} at most once, "
            f"got {', '.join(names)}"
        )
    parts = re.split(r"(\{\w+\}|\*)", template)
    expression = "".join(
        f"(?P<{part[1:-1]}>[^/]+?)"
        if part.startswith("{")
        else "[^/]*"
        if part == "*"
        else re.escape(part)
        for part in parts
    )
    return re.compile(expression)
