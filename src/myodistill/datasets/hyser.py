"""Hyser PR: 256 electrodes on the forearm, 34 gestures, 20 people, two days (Jiang et al. 2021).

Two layouts of the same recordings. PhysioNet's, in WFDB:
``pr_dataset/subjectXX_sessionY/{dynamic,maintenance}_{raw,preprocess}_sampleN.{hea,dat}`` with the
gesture of sample N as the N-th number of ``label_{dynamic,maintenance}.txt``; of each gesture
three dynamic samples (1 s) and one maintenance sample (4 s) make a trial. And BIDS:
``sub-XX/ses-Y/emg/*_task-gestureGG_emg.bdf`` with all of a gesture's trials in one file and
``*_events.tsv`` saying where they lie.

Each of the four arrays has its 64 channels column by column. Two lie over the extensors and two
over the flexors, a distal and a proximal one each; the grid has the distal arrays above the
proximal ones and the extensors to the left of the flexors.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np

from myodistill.datasets.bids import Table, read_tsv, tsv_int
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.foreign import Array, as_signal, read_edf, read_numbers, read_wfdb
from myodistill.datasets.recording import Annotation, Recording, grid
from myodistill.datasets.trees import File, find_files, natural
from myodistill.errors import DataError

_RECORD = re.compile(
    r"subject(\d+)_session(\d)/(dynamic|maintenance)_(preprocess)_sample(\d+)\.(hea|dat)$"
)
_LABELS = re.compile(r"subject(\d+)_session(\d)/label_(dynamic|maintenance)\.txt$")
_BIDS = re.compile(
    r"sub-(\d+)/ses-(\d)/emg/sub-\d+_ses-\d_task-gesture(\d+)_(emg|channels|events)\.(?:bdf|tsv)$"
)
_DYNAMIC_A_TRIAL = 3
_RATE = 2048.0
_GESTURES = (
    "thumb extension",
    "index finger extension",
    "middle finger extension",
    "ring finger extension",
    "little finger extension",
    "wrist flexion",
    "wrist extension",
    "wrist radial",
    "wrist ulnar",
    "wrist pronation",
    "wrist supination",
    "thumb and index extension",
    "index and middle extension",
    *(
        f"wrist {way} with hand {hand}"
        for hand in ("close", "open")
        for way in ("flexion", "extension", "radial", "ulnar", "pronation", "supination")
    ),
    "thumb, index and middle extension",
    "index, middle and ring extension",
    "middle, ring and little extension",
    "index, middle, ring and little extension",
    "hand close",
    "hand open",
    "thumb and index pinch",
    "thumb, index and middle pinch",
    "thumb and middle pinch",
)
# Where the arrays begin among the channels, and their names: distal above proximal.
_ARRAYS = (("ED", 0), ("EP", 64), ("FD", 128), ("FP", 192))
_NAMES = tuple(
    f"{array}-{column}-{row}"
    for array, _ in _ARRAYS
    for column in range(8, 0, -1)
    for row in range(8, 0, -1)
)


def _order() -> tuple[int, ...]:
    first = dict(_ARRAYS)
    return tuple(
        first[("E" if column < 8 else "F") + ("D" if row < 8 else "P")] + 8 * (column % 8) + row % 8
        for row in range(16)
        for column in range(16)
    )


class Hyser(Dataset):
    """Hyser PR in PhysioNet's layout; subjects are ``subject01``, ``subject02``, ...

    Reads the ``preprocess`` samples, which its authors filtered to 10-500 Hz without the mains.
    """

    facts = Facts(
        name="hyser",
        title="Hyser PR",
        electrodes=grid(16, 16, order=_order(), spacing_mm=10.0),
        sampling_rate=_RATE,
        gestures=_GESTURES,
        unit="mV",
        samples=1536,
        step=256,
        passband=(20.0, 500.0),
        mains=50.0,
        repetitions=2,
        calibration_session="session1",
        test_sessions=("session2",),
        licence="Open Data Commons Attribution License v1.0",
        citation=(
            "X. Jiang et al., Open access dataset, toolbox and benchmark processing results of "
            "high-density surface electromyogram recordings, IEEE TNSRE 29, 2021"
        ),
        home="https://physionet.org/content/hd-semg/",
    )

    def __init__(self) -> None:
        prefixes = ("hyser", "pr_dataset", "hd-semg", "subject")
        self._files = find_files(prefixes, _RECORD, title=self.facts.title)
        self._labels = find_files(prefixes, _LABELS, title=self.facts.title)

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects at hand."""
        return tuple(sorted({f"subject{key[0]}" for key in self._files}, key=natural))

    def recordings(self, subject: str) -> list[Recording]:
        """Read all samples of one subject: session, dynamic or maintenance, in order."""
        self._check_subject(subject)
        person = subject.removeprefix("subject")
        groups = sorted({(key[1], key[2]) for key in self._files if key[0] == person})
        return [one for session, task in groups for one in self._samples(person, session, task)]

    def _samples(self, person: str, session: str, task: str) -> list[Recording]:
        title = f"{self.facts.title}: subject{person}_session{session}"
        label_file = self._labels.get((person, session, task))
        if label_file is None:
            raise DataError(f"{title}: expected label_{task}.txt, there is none; fetch it again")
        labels = read_numbers(label_file)
        numbers = sorted(
            int(key[4])
            for key in self._files
            if key[:3] == (person, session, task) and key[5] == "hea"
        )
        if numbers != list(range(1, len(labels) + 1)):
            raise DataError(
                f"{title}: expected {task} samples 1 to {len(labels)}, one for each label of "
                f"{label_file.location}, got {len(numbers)}; fetch the missing ones"
            )
        seen: Counter[int] = Counter()
        recordings = []
        for number, label in zip(numbers, labels, strict=True):
            if not 1 <= label <= len(_GESTURES):
                raise DataError(
                    f"{label_file.location}: expected gestures 1 to {len(_GESTURES)}, got {label} "
                    f"for sample {number}"
                )
            trial = seen[label] // (_DYNAMIC_A_TRIAL if task == "dynamic" else 1)
            seen[label] += 1
            key = person, session, task, "preprocess", str(number)
            header, data = self._files[(*key, "hea")], self._files.get((*key, "dat"))
            signal, rate, _, _ = read_wfdb(header, data)
            _check_rate(header, rate)
            notes = (Annotation(0, len(signal), label - 1, trial),)
            recordings.append(
                self._make(f"subject{person}", f"session{session}", signal, notes, header.location)
            )
        return recordings


class HyserBids(Dataset):
    """Hyser PR in BIDS; subjects are ``sub-01``, ``sub-02``, ..., sessions ``ses-1`` and ``ses-2``.

    One recording a gesture, with the dynamic and maintenance parts of both trials in it.
    """

    facts = replace(
        Hyser.facts,
        name="hyser-bids",
        title="Hyser PR (BIDS)",
        unit="uV",
        calibration_session="ses-1",
        test_sessions=("ses-2",),
        home="https://doi.org/10.82901/nemar.nm000108",
    )

    def __init__(self) -> None:
        files = find_files(("hyser-bids", "nm000108"), _BIDS, title=self.facts.title)
        self._files = {key: file for key, file in files.items() if key[3] == "emg"}
        self._tables = {key: file for key, file in files.items() if key[3] != "emg"}
        if not self._files:
            raise DataError(
                f"{self.facts.title}: expected *_emg.bdf files, only their side-car files are "
                f"there; fetch the recordings from {self.facts.home}"
            )

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects at hand."""
        return tuple(sorted({f"sub-{key[0]}" for key in self._files}, key=natural))

    def recordings(self, subject: str) -> list[Recording]:
        """Read all recordings of one subject, session by session, gesture by gesture."""
        self._check_subject(subject)
        return [
            self._recording(key, file)
            for key, file in sorted(self._files.items())
            if f"sub-{key[0]}" == subject
        ]

    def _table(self, key: tuple[str, ...], kind: str, file: File) -> tuple[File, Table]:
        table = self._tables.get((*key[:3], kind))
        if table is None:
            raise DataError(
                f"{file.location}: expected {kind}.tsv beside it, there is none; fetch it again"
            )
        return table, read_tsv(table)

    def _recording(self, key: tuple[str, ...], file: File) -> Recording:
        table, channels = self._table(key, "channels", file)
        names = tuple(row.get("name", "") for row in channels)
        if names != _NAMES:
            raise DataError(
                f"{table.location}: expected channels {_NAMES[0]} to {_NAMES[-1]} in the order of "
                f"the dataset, got {len(names)} in another; fetch it again"
            )
        signals, rates, _ = read_edf(file)
        signal = as_signal(file, stack(file, signals, names))
        _check_rate(file, rates[names[0]])
        table, events = self._table(key, "events", file)
        notes = []
        for row in events:
            gesture, trial = tsv_int(table, row, "gesture_id"), tsv_int(table, row, "trial")
            start = tsv_int(table, row, "sample")
            length = round(_RATE * tsv_int(table, row, "duration"))
            if gesture != int(key[2]):
                raise DataError(
                    f"{table.location}: expected gesture {int(key[2])} as in its name, "
                    f"got {gesture}"
                )
            notes.append(Annotation(start, start + length, gesture - 1, trial - 1))
        return self._make(f"sub-{key[0]}", f"ses-{key[1]}", signal, tuple(notes), file.location)


def stack(file: File, signals: dict[str, Array], names: tuple[str, ...]) -> Array:
    """Put named channels of one length side by side, shape ``(time, channel)``.

    Raises:
        DataError: One is missing or of another length.
    """
    absent = [name for name in names if name not in signals]
    if absent:
        raise DataError(
            f"{file.location}: expected channel '{absent[0]}', it holds {len(signals)} others; "
            f"it does not belong to its channels.tsv"
        )
    lengths = {len(signals[name]) for name in names}
    if len(lengths) != 1:
        raise DataError(f"{file.location}: expected channels of one length, got {sorted(lengths)}")
    return np.stack([signals[name] for name in names], axis=1)


def _check_rate(file: File, rate: float) -> None:
    if rate != _RATE:
        raise DataError(f"{file.location}: expected {_RATE:g} Hz, got {rate:g} Hz")
