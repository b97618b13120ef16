"""Any folder in EMG-BIDS: EDF or BDF recordings with their channels, events and electrodes.

``sub-*/[ses-*/]emg/sub-*_[ses-*_]task-*_[run-*_]emg.{edf,bdf}`` (BIDS 1.11, EMG). Channels of type
EMG are read. The gesture of an event is its ``gesture_name``, else ``trial_type``, else ``value``;
its repetition is ``repetition`` or ``trial``, else the count of that gesture so far. Where the
electrodes lie is taken from ``electrodes.tsv`` when their places fill a grid.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.foreign import as_signal, read_edf
from myodistill.datasets.recording import Annotation, Electrodes, Recording, grid
from myodistill.datasets.trees import File, list_files, natural
from myodistill.errors import DataError, Wanted
from myodistill.readers import parse_tsv

if TYPE_CHECKING:
    from collections.abc import Iterable

Table = list[dict[str, str]]

_EMG = re.compile(
    r"sub-([a-zA-Z0-9]+)/(?:ses-([a-zA-Z0-9]+)/)?emg/"
    r"(sub-[a-zA-Z0-9]+(?:_ses-[a-zA-Z0-9]+)?)((?:_[a-z]+-[a-zA-Z0-9]+)*)_emg\.(?:edf|bdf)$"
)
_NAMES = ("gesture_name", "trial_type", "value")
_SECONDS = 0.25


def read_tsv(file: File) -> Table:
    """Read a tab-separated table with a header.

    Raises:
        DataError: It is not such a table, or has no rows.
    """
    wanted = Wanted("a tab-separated table", advice="the file is damaged, fetch it again")
    rows = parse_tsv(file.read(), file.location, wanted)
    if not rows:
        wanted.refuse(file.location, "no rows")
    return rows


def tsv_float(file: File, row: dict[str, str], name: str) -> float:
    """Return a number of a row.

    Raises:
        DataError: The column is not there, or does not hold a finite number.
    """
    try:
        value = float(row[name])
        if not np.isfinite(value):
            raise ValueError(row[name])
    except (KeyError, ValueError):
        raise DataError(
            f"{file.location}: expected a number in column '{name}', "
            f"got {row.get(name, 'no such column')!r}"
        ) from None
    return value


def tsv_int(file: File, row: dict[str, str], name: str) -> int:
    """Return a whole number of a row; errors as :func:`tsv_float`."""
    return round(tsv_float(file, row, name))


class EmgBids(Dataset):
    """An EMG-BIDS folder or zip.

    Args:
        root: The folder with ``dataset_description.json``, or a zip of it.
    """

    def __init__(self, root: Path) -> None:
        self._files = {file.name: file for file in list_files(root)}
        self._recordings: dict[tuple[str, str, str], File] = {}
        for name, file in self._files.items():
            if match := _EMG.search(name):
                subject, session, _, rest = match.groups()
                self._recordings[f"sub-{subject}", f"ses-{session or 1}", rest] = file
        if not self._recordings:
            raise DataError(
                f"{root}: expected EMG-BIDS recordings (sub-*/emg/*_emg.edf or .bdf), got none"
            )
        events = [self._events(file) for file in self._recordings.values()]
        values = {_gesture(row) for _, rows in events for row in rows}
        names = {name for name in values if name is not None}
        gestures = tuple(sorted(names, key=natural))
        if len(gestures) < 2:
            raise DataError(
                f"{root}: expected events of at least 2 gestures in the columns "
                f"{', '.join(_NAMES)}, got {len(gestures)}"
            )
        first = next(iter(self._recordings.values()))
        channels, rate, unit = self._channels(first)
        sessions = tuple(sorted({key[1] for key in self._recordings}, key=natural))
        self.facts = Facts(
            name=root.name,
            title=root.name,
            electrodes=self._electrodes(first, channels),
            sampling_rate=rate,
            gestures=gestures,
            unit=unit,
            samples=round(_SECONDS * rate),
            step=max(1, round(_SECONDS * rate / 4)),
            passband=(20.0, min(450.0, 0.45 * rate)),
            mains=0.0,
            repetitions=1 + min(self._last_repetition(session) for session in sessions),
            calibration_session=sessions[0],
            test_sessions=sessions[1:],
            licence="see its dataset_description.json",
            citation="see its dataset_description.json",
            home=str(root),
        )

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects at hand."""
        return tuple(sorted({key[0] for key in self._recordings}, key=natural))

    def recordings(self, subject: str) -> list[Recording]:
        """Read all recordings of one subject, session by session."""
        self._check_subject(subject)
        counts: Counter[tuple[str, str]] = Counter()
        recordings = []
        for (other, session, _), file in sorted(self._recordings.items()):
            if other == subject:
                recordings.append(self._recording(subject, session, file, counts))
        return recordings

    def _recording(
        self, subject: str, session: str, file: File, counts: Counter[tuple[str, str]]
    ) -> Recording:
        channels, rate, _ = self._channels(file)
        if rate != self.facts.sampling_rate:
            raise DataError(
                f"{file.location}: expected {self.facts.sampling_rate:g} Hz as in the first "
                f"recording, got {rate:g} Hz"
            )
        signals, _, _ = read_edf(file)
        lengths = {len(signals[name]) for name in channels}
        if len(lengths) != 1:
            raise DataError(
                f"{file.location}: expected channels of one length, got {sorted(lengths)}"
            )
        signal = as_signal(file, np.stack([signals[name] for name in channels], axis=1))
        table, rows = self._events(file)
        notes = []
        for row in rows:
            name = _gesture(row)
            if name is None:
                continue
            start = round(rate * tsv_float(table, row, "onset"))
            stop = start + round(rate * tsv_float(table, row, "duration"))
            notes.append(
                Annotation(
                    start,
                    stop,
                    self.facts.gestures.index(name),
                    _repetition(table, row, counts, session, name),
                )
            )
        return self._make(subject, session, signal, tuple(notes), file.location)

    def _beside(self, file: File, kind: str) -> File:
        """Find a side-car file: the most specific name that exists, BIDS's inheritance."""
        folder, _, name = file.name.rpartition("/")
        parts = name.rsplit("_emg.", 1)[0].split("_")
        candidates = [folder, folder.rpartition("/")[0], folder.split("/")[0], ""]
        for candidate in candidates:
            for count in range(len(parts), 0, -1):
                for chosen in (parts[:count], parts[2:count]):
                    path = f"{candidate}/{'_'.join([*chosen, kind])}".lstrip("/")
                    if path in self._files:
                        return self._files[path]
        raise DataError(
            f"{file.location}: expected {kind} beside it, there is none; fetch it again"
        )

    def _events(self, file: File) -> tuple[File, Table]:
        table = self._beside(file, "events.tsv")
        return table, read_tsv(table)

    def _channels(self, file: File) -> tuple[list[str], float, str]:
        """Names of the EMG channels, their rate in hertz and their unit."""
        signals, rates, units = read_edf(file)
        table = self._beside(file, "channels.tsv")
        rows = [row for row in read_tsv(table) if row.get("type", "").upper() == "EMG"]
        names = [row.get("name", "") for row in rows]
        absent = [name for name in names if name not in signals]
        if absent or not names:
            raise DataError(
                f"{table.location}: expected the EMG channels of {file.location}, "
                f"got {absent[0] if absent else 'none'!r}"
            )
        if len({rates[name] for name in names}) != 1:
            raise DataError(f"{file.location}: expected EMG channels of one rate, got several")
        return names, rates[names[0]], units[names[0]] or "counts"

    def _electrodes(self, file: File, channels: list[str]) -> Electrodes:
        """A grid where the electrodes' places fill one, a line of electrodes otherwise."""
        line = grid(1, len(channels))
        try:
            table = self._beside(file, "electrodes.tsv")
        except DataError:
            return line
        channel_rows = read_tsv(self._beside(file, "channels.tsv"))
        electrode = {row["name"]: row.get("signal_electrode", row["name"]) for row in channel_rows}
        at = {}
        for row in read_tsv(table):
            try:
                at[row.get("name", "")] = (float(row["x"]), float(row["y"]))
            except (KeyError, ValueError):
                continue
        positions = [at.get(electrode.get(name, "")) for name in channels]
        known = [position for position in positions if position is not None]
        if len(set(known)) != len(channels):
            return line
        xs, ys = (sorted({position[axis] for position in known}) for axis in (0, 1))
        if len(xs) * len(ys) != len(channels):
            return line
        order = {position: channel for channel, position in enumerate(known)}
        return grid(len(ys), len(xs), order=tuple(order[x, y] for y in ys for x in xs))

    def _last_repetition(self, session: str) -> int:
        last = []
        for (_, other, _), file in self._recordings.items():
            if other == session:
                counts: Counter[tuple[str, str]] = Counter()
                table, rows = self._events(file)
                named = [(row, name) for row in rows if (name := _gesture(row))]
                last.append(
                    max(
                        (_repetition(table, row, counts, session, name) for row, name in named),
                        default=0,
                    )
                )
        return min(last)


def _gesture(row: dict[str, str]) -> str | None:
    values: Iterable[str] = (row.get(name, "n/a") for name in _NAMES)
    return next((value for value in values if value and value != "n/a"), None)


def _repetition(
    table: File, row: dict[str, str], counts: Counter[tuple[str, str]], session: str, name: str
) -> int:
    """Repetition of an event from 0: what the table says, from 1, or the count so far."""
    for column in ("repetition", "trial"):
        if row.get(column, "n/a") != "n/a":
            return max(0, tsv_int(table, row, column) - 1)
    counts[session, name] += 1
    return counts[session, name] - 1
