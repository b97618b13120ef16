"""Recordings of your own, described by a small YAML file: .csv, .npy, .npz, .mat or HDF5.

The description says which files there are, which axis is time, where the labels are. ``myodistill
data inspect PATH`` drafts one. Opened by its path: ``--dataset my.yaml``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from myodistill.datasets.arrays import read_array
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.description import NAMES, Description, read_description
from myodistill.datasets.foreign import Array, as_signal
from myodistill.datasets.recording import Annotation, Electrodes, Recording, Signal
from myodistill.datasets.trees import File, list_files, natural
from myodistill.errors import DataError, shown
from myodistill.files import plain_names


class _Key(NamedTuple):
    """What the path of a file states; empty where it states nothing."""

    subject: str
    session: str
    repetition: str
    gesture: str


class _Piece(NamedTuple):
    """A stretch of one person: its samples, and gesture and repetition of each or all of them."""

    session: str
    signal: Signal
    labels: Array
    repetitions: Array
    source: str


class Described(Dataset):
    """A dataset that a YAML file describes.

    Args:
        path: The YAML file; the files that it describes lie beside it, or in its ``root``.
    """

    def __init__(self, path: Path) -> None:
        self._description = about = read_description(path)
        root = path.parent / os.path.expanduser(about.root)  # noqa: PTH111
        if not os.path.exists(root):  # noqa: PTH110  (false, not an error, for names too long)
            raise DataError(
                f"{path}: expected the recordings in {shown(str(root))}, there is no such place"
            )
        pattern = _pattern(about.files)
        self._files: dict[_Key, File] = {}
        for file in list_files(root):
            match = pattern.fullmatch(file.name)
            if match is None:
                continue
            parts = match.groupdict()
            key = _Key(
                parts.get("subject", "" if about.subjects_of is not None else "subject"),
                parts.get("session", about.calibration_session),
                parts.get("repetition", ""),
                parts.get("gesture", ""),
            )
            if key in self._files:
                raise DataError(
                    f"{path}: expected one file for {'/'.join(filter(None, key))}, got "
                    f"{self._files[key].location} and {file.location}; tell them apart in 'files'"
                )
            if not re.fullmatch(r"[0-9]{0,6}", key.repetition):
                raise DataError(
                    f"{file.location}: expected a whole number as {{repetition}}, "
                    f"got {shown(key.repetition)}"
                )
            self._files[key] = file
        if not self._files:
            raise DataError(f"{path}: expected files like {about.files} in {root}, got none")
        plain_names("session", {key.session for key in self._files})
        self._codes = {str(code): index for index, code in enumerate(about.gestures)}
        self._codes |= {str(code): -1 for code in about.ignore}
        self._people: tuple[str, ...] = ()
        self.facts = self._make_facts(path, about)

    def _made(self) -> object:
        """Everything that the description says about the recordings, except where they lie."""
        prose = {"root", "title", "licence", "citation", "home"}
        return self._description.model_dump(mode="json", exclude=prose)

    def _make_facts(self, path: Path, about: Description) -> Facts:
        rate = about.sampling_rate
        sessions = sorted({key.session for key in self._files}, key=natural)
        tests = about.test_sessions or tuple(s for s in sessions if s != about.calibration_session)
        named = {int(key.repetition) for key in self._files if key.repetition}
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
            home=about.home or path.name,
        )

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects at hand."""
        if not self._people:
            column = self._description.subjects_of
            names = {key.subject for key in self._files}
            if column is not None:
                names = set()
                for file in self._files.values():
                    names.update(self._words(file, column))
            self._people = tuple(sorted(plain_names("subject", names), key=natural))
        return self._people

    def recordings(self, subject: str) -> list[Recording]:
        """Read all recordings of one subject; of files of several people, only their samples."""
        self._check_subject(subject)
        first = min((int(key.repetition) for key in self._files if key.repetition), default=0)
        pieces: list[_Piece] = []
        for key in sorted(self._files, key=lambda key: [natural(part) for part in key]):
            if key.subject in ("", subject):
                repetition = int(key.repetition) - first if key.repetition else 0
                pieces.extend(self._pieces(subject, key, repetition, self._files[key]))
        if self._description.repetitions_of is not None:
            pieces = _from_zero(pieces)
        cut = self._description.window_axis is not None
        shortest = 1 if cut else self.facts.samples
        made = [(piece, _runs(piece.labels, piece.repetitions, shortest)) for piece in pieces]
        if self._description.subjects_of is not None:
            # Where people take turns, stretches that are too short for a window are of no use.
            made = [(piece, notes) for piece, notes in made if notes]
            if not made:
                raise DataError(
                    f"{self.facts.title}: expected at least {shortest} samples of one gesture of "
                    f"{subject} on end, there are none; check subjects_of and samples"
                )
        return [
            self._make(subject, piece.session, piece.signal, notes, piece.source)
            for piece, notes in made
        ]

    def _pieces(self, subject: str, key: _Key, repetition: int, file: File) -> Iterator[_Piece]:
        """Read the stretches of a file that are one person's, or the windows that are."""
        about = self._description
        if about.labels is None and not key.gesture:
            raise DataError(
                f"{file.location}: expected its gesture as {{gesture}} in 'files' or in 'labels', "
                f"the description gives neither"
            )
        windows = self._windows(file, read_array(file, about.signal))
        cut = about.window_axis is not None
        count = len(windows) if cut else len(windows[0])
        if about.labels is None:
            labels = np.full(count, self._code(file, key.gesture))
        else:
            words, inverse = np.unique(self._words(file, about.labels, count), return_inverse=True)
            labels = np.array([self._code(file, word) for word in words.tolist()])[inverse]
        turns = np.full(count, repetition)
        if about.repetitions_of is not None:
            turns = self._numbers(file, about.repetitions_of, count)
        mine = np.ones(count, dtype=bool)
        if about.subjects_of is not None:
            mine = self._words(file, about.subjects_of, count) == subject
        if cut:
            for i in np.flatnonzero(mine & (labels >= 0)):
                rows, source = slice(i, i + 1), f"{file.location} window {i}"
                length = len(windows[i])
                yield _Piece(
                    key.session,
                    windows[i],
                    np.repeat(labels[rows], length),
                    np.repeat(turns[rows], length),
                    source,
                )
            return
        edges = [0, *(np.flatnonzero(np.diff(mine)) + 1).tolist(), count]
        for start, stop in pairwise(edges):
            if mine[start]:
                part = slice(start, stop)
                yield _Piece(
                    key.session, windows[0][part], labels[part], turns[part], file.location
                )

    def _windows(self, file: File, array: Array) -> list[Array]:
        """Split an array into ``(time, channel)`` signals: one, or one a window."""
        about = self._description
        axes = [about.time_axis, about.channel_axis]
        if about.window_axis is not None:
            axes.insert(0, about.window_axis)
        if array.ndim != len(axes) or {axis % array.ndim for axis in axes} != set(range(len(axes))):
            raise DataError(
                f"{file.location}: expected an array of {len(axes)} axes (time {about.time_axis}, "
                f"channel {about.channel_axis}, window {about.window_axis}), "
                f"got shape {array.shape}"
            )
        turned = np.transpose(array, axes)
        signals = list(turned) if about.window_axis is not None else [turned]
        chosen = list(about.channels)
        if chosen and max(chosen) >= turned.shape[-1]:
            raise DataError(
                f"{file.location}: expected channels up to {max(chosen)}, it has {turned.shape[-1]}"
            )
        return [
            as_signal(file, one[:, chosen] if chosen else one, unit_scale=about.scale)
            for one in signals
        ]

    def _column(self, file: File, which: str | int, count: int | None) -> Array:
        """One value a sample or window: a variable by name, or a column of a table by number."""
        if isinstance(which, str):
            values = np.ravel(read_array(file, which))
        else:
            table = read_array(file, self._description.signal)
            if table.ndim != 2 or not -table.shape[1] <= which < table.shape[1]:
                raise DataError(
                    f"{file.location}: expected a column {which}, it has shape {table.shape}"
                )
            values = table[:, which]
        if values.dtype.kind not in "iufbUS" or (
            values.dtype.kind == "f" and not np.isfinite(values).all()
        ):
            raise DataError(
                f"{file.location}: expected words or finite numbers in {shown(which)}, got "
                f"{values.dtype.kind if values.dtype.kind not in 'f' else 'nan or inf'}"
            )
        if count is not None and len(values) != count:
            raise DataError(
                f"{file.location}: expected {count} labels, got {len(values)} in {shown(which)}; "
                f"check time_axis and window_axis"
            )
        return values

    def _words(self, file: File, which: str | int, count: int | None = None) -> Array:
        """A column as the description writes its values: 3.0 is 3."""
        values, inverse = np.unique(self._column(file, which, count), return_inverse=True)
        return np.array([_plain(value) for value in values.tolist()], dtype=str)[inverse]

    def _numbers(self, file: File, which: str | int, count: int) -> Array:
        """A column of whole numbers."""
        values = self._column(file, which, count)
        if values.dtype.kind not in "iufb" or (np.abs(values) > 10**6).any():
            raise DataError(
                f"{file.location}: expected whole numbers up to a million in {shown(which)}"
            )
        whole = values.astype(np.int64)
        if (whole != values).any():
            raise DataError(f"{file.location}: expected whole numbers in {shown(which)}")
        return whole

    def _code(self, file: File, value: str) -> int:
        if value not in self._codes:
            known = ", ".join(self._codes)
            raise DataError(
                f"{file.location}: expected one of the gestures {known[:80]}, "
                f"got {shown(value)}; add it to 'gestures' or leave the file out"
            )
        return self._codes[value]


def _plain(value: object) -> str:
    """A label as the description writes it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _from_zero(pieces: list[_Piece]) -> list[_Piece]:
    """Count the repetitions of one person from 0 in every session; what is ignored is not one."""
    first: dict[str, int] = {}
    for piece in pieces:
        if (held := piece.repetitions[piece.labels >= 0]).size:
            least = int(held.min())
            first[piece.session] = min(least, first.get(piece.session, least))
    return [
        piece._replace(repetitions=piece.repetitions - first.get(piece.session, 0))
        for piece in pieces
    ]


def _runs(labels: Array, repetitions: Array, shortest: int) -> tuple[Annotation, ...]:
    """Stretches of one label and repetition that a window fits in; -1 belongs to no gesture."""
    changes = np.flatnonzero((np.diff(labels) != 0) | (np.diff(repetitions) != 0)) + 1
    starts, stops = [0, *changes.tolist()], [*changes.tolist(), len(labels)]
    return tuple(
        Annotation(start, stop, int(labels[start]), int(repetitions[start]))
        for start, stop in zip(starts, stops, strict=True)
        if stop - start >= shortest and labels[start] >= 0
    )


def _pattern(template: str) -> re.Pattern[str]:
    """Turn ``s{subject}/{gesture}_*.csv`` into a regular expression over the whole path."""
    parts = re.split(rf"(\{{(?:{'|'.join(NAMES)})\}}|\*)", template)
    expression = "".join(
        f"(?P<{part[1:-1]}>[^/]+?)"
        if part.startswith("{")
        else "[^/]*"
        if part.startswith("*")
        else re.escape(part)
        for part in parts
    )
    return re.compile(expression)
