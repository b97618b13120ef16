"""flexemg: 64 electrodes in a 16×4 array, five gestures, sessions of re-donning (Moin et al. 2018).

``data/SSS-SessionX{Train,Test}/SSS-TTT.mat`` hold one trial: ``raw``, uint16 ``(28000, 96)`` with
the electrodes in the first 64 columns, and ``p.sequence``, the order of its four gestures. Gesture
j of the sequence lasts from row 5000 + 5000 j to 10000 + 5000 j; the rest is rest. A second around
each change belongs to no gesture, nor does the first, in which the amplifiers settle.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.foreign import as_signal, guarded, read_mat
from myodistill.datasets.recording import Annotation, Recording, grid
from myodistill.datasets.trees import File, find_files, natural
from myodistill.errors import DataError

_TRIALS = re.compile(r"(?:^|/)(\d+)-(Session\d+(?:Train|Test))/(\d+)-(\d+)\.mat$")
_MAP = re.compile(r"(?:^|/)(arraymap)\.mat$")
_ROWS, _EDGE = 5000, 1000
_CALIBRATION = "Session1Train"


def _order() -> tuple[int, ...]:
    """Channel at each position of the array, row by row, as its map says."""
    upper = [4 * (7 - row) + column for row in range(8) for column in range(4)]
    lower = [63 - 4 * row - column for row in range(8) for column in range(4)]
    return tuple(upper + lower)


class FlexEmg(Dataset):
    """The flexemg dataset; subjects are ``001``, ``002``, ...; each trial is a repetition."""

    facts = Facts(
        name="flexemg",
        title="flexemg",
        electrodes=grid(16, 4, order=_order()),
        sampling_rate=1000.0,
        gestures=("rest", "fist", "raise", "lower", "open"),
        unit="mV",
        samples=200,
        step=50,
        passband=(20.0, 495.0),
        mains=60.0,
        repetitions=2,
        calibration_session=_CALIBRATION,
        test_sessions=("Session1Test", "Session2Test", "Session3Test"),
        licence="GNU General Public License v3, as the repository of its authors",
        citation=(
            "A. Moin et al., An EMG gesture recognition system with flexible high-density sensors "
            "and brain-inspired high-dimensional classifier, IEEE ISCAS, 2018"
        ),
        home="https://github.com/a-moin/flexemg",
    )

    def __init__(self) -> None:
        files = find_files("flexemg", _TRIALS, title=self.facts.title)
        self._files: dict[tuple[str, str], dict[int, File]] = {}
        for (subject, session, again, trial), file in files.items():
            if subject != again:
                raise DataError(
                    f"{file.location}: expected a trial of subject {subject} in its folder, "
                    f"its name says {again}; put it where it belongs"
                )
            self._files.setdefault((subject, session), {})[int(trial)] = file
        sessions = {session for _, session in self._files}
        tests = tuple(sorted(s for s in sessions if s.endswith("Test")))
        self.facts = replace(
            self.facts,
            repetitions=min(map(len, self._files.values())),
            test_sessions=tests or self.facts.test_sessions,
        )
        self._check_map()

    def _check_map(self) -> None:
        """Check the array map that came with the files against the one that this loader knows."""
        try:
            file = find_files("flexemg", _MAP, title=self.facts.title)[("arraymap",)]
        except DataError:
            return
        ours = self.facts.electrodes.positions() + 1
        if not np.array_equal(read_mat(file, "arraymap")["arraymap"], ours):
            raise DataError(
                f"{file.location}: expected the 16×4 map of the 2018 array, got another; "
                f"fetch the dataset again"
            )

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects at hand."""
        return tuple(sorted({subject for subject, _ in self._files}, key=natural))

    def recordings(self, subject: str) -> list[Recording]:
        """Read all trials of one subject, session by session."""
        self._check_subject(subject)
        return [
            self._trial(subject, session, repetition, file)
            for (other, session), files in sorted(self._files.items())
            if other == subject
            for repetition, (_, file) in enumerate(sorted(files.items()))
        ]

    def _trial(self, subject: str, session: str, repetition: int, file: File) -> Recording:
        variables = read_mat(file, "raw", "p")
        raw = variables["raw"]
        sequence = guarded(
            file,
            "the order of its gestures in p.sequence",
            lambda: [int(value) for value in np.ravel(variables["p"]["sequence"][0, 0])],
        )
        scale = guarded(
            file,
            "the scale in p.lsbmV",
            lambda: float(np.ravel(variables["p"]["lsbmV"][0, 0])[0]),
        )
        channels = self.facts.electrodes.channels
        rows = _ROWS * (len(sequence) + 1)
        if raw.ndim != 2 or raw.shape[0] < rows or raw.shape[1] < channels:
            raise DataError(
                f"{file.location}: expected raw of at least {rows} rows and {channels} columns, "
                f"got shape {raw.shape}; the file is truncated, fetch it again"
            )
        if not all(1 <= gesture < len(self.facts.gestures) for gesture in sequence):
            raise DataError(
                f"{file.location}: expected gestures 1 to {len(self.facts.gestures) - 1} in "
                f"p.sequence, got {sequence}; fetch it again"
            )
        notes = [Annotation(_EDGE, _ROWS - _EDGE, 0, repetition)]
        for position, gesture in enumerate(sequence, start=1):
            begin = _ROWS * position
            notes.append(Annotation(begin + _EDGE, begin + _ROWS - _EDGE, gesture, repetition))
        if raw.shape[0] > rows + _EDGE:
            notes.append(Annotation(rows + _EDGE, raw.shape[0], 0, repetition))
        signal = as_signal(file, raw[:, :channels], unit_scale=scale)
        return self._make(subject, session, signal, tuple(notes), file.location)
