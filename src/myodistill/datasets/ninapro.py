"""Ninapro DB1, DB2, DB5 and DB6: continuous exercises with refined labels (Atzori et al. 2014).

Each ``.mat`` file holds ``emg`` ``(time, channel)`` and, sample by sample, ``restimulus`` (0 for
rest) and ``rerepetition`` (from 1). DB1: ``S1_A1_E1.mat``; DB2 and DB5: ``S1_E1_A1.mat``; DB6:
``S1_D1_T1.mat`` (day, time of day).

DB1, DB2 and DB5 have one session. Its first half of the repetitions calibrates and its second is
scored, so that nothing recorded after a scored repetition is learned from. The continuous signal
is cut in the middle of the rest between the two halves, so that no recording holds both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.foreign import Array, as_signal, read_mat
from myodistill.datasets.recording import Annotation, Electrodes, Recording, Signal, grid
from myodistill.datasets.trees import File, find_files, natural
from myodistill.errors import DataError

_CITATION = (
    "M. Atzori et al., Electromyography data for non-invasive naturally-controlled robotic hand "
    "prostheses, Scientific Data 1:140053, 2014"
)
_DB5 = (
    "S. Pizzolato et al., Comparison of six electromyography acquisition setups on hand movement "
    "classification tasks, PLOS ONE 12(10), 2017"
)
_DB6 = (
    "F. Palermo et al., Repeatability of grasp recognition for robotic hand prosthesis control "
    "based on sEMG data, IEEE ICORR, 2017"
)
_LICENCE = "free for research with citation; registration at the home page"
_DAYS = tuple(f"D{day}T{time}" for day in range(1, 6) for time in (1, 2))


def _movements(*counts: int) -> tuple[str, ...]:
    """Movements by the letter of their exercise in the authors' figures, after rest."""
    return (
        "rest",
        *(
            f"{letter}{i}"
            for letter, n in zip("ABC", counts, strict=False)
            for i in range(1, n + 1)
        ),
    )


@dataclass(frozen=True)
class _Layout:
    """What differs between the databases.

    Attributes:
        facts: Of the dataset.
        pattern: Groups: subject and exercise, or subject, day and time.
        label: Our label of each of theirs, by exercise (0 where it does not matter).
        repetitions: In a file.
    """

    facts: Facts
    pattern: re.Pattern[str]
    label: dict[int, dict[int, int]]
    repetitions: int


def _facts(
    number: int,
    electrodes: Electrodes,
    rate: float,
    gestures: tuple[str, ...],
    *,
    samples: int,
    step: int,
    passband: tuple[float, float],
    repetitions: int,
    sessions: tuple[str, ...] = ("calibration", "test"),
    unit: str = "V",
    citation: str = _CITATION,
) -> Facts:
    return Facts(
        name=f"ninapro-db{number}",
        title=f"Ninapro DB{number}",
        electrodes=electrodes,
        sampling_rate=rate,
        gestures=gestures,
        unit=unit,
        samples=samples,
        step=step,
        passband=passband,
        mains=50.0 if rate > 100 else 0.0,
        repetitions=repetitions,
        calibration_session=sessions[0],
        test_sessions=sessions[1:],
        licence=_LICENCE,
        citation=citation,
        home=f"https://ninapro.hevs.ch/instructions/DB{number}.html",
    )


def _ranges(*counts: int, restart: bool) -> dict[int, dict[int, int]]:
    """Labels by exercise: each counts from 1 again, or goes on where the last one ended."""
    labels, before = {}, 0
    for exercise, count in enumerate(counts, start=1):
        first = 1 if restart else before + 1
        labels[exercise] = {first + i: before + 1 + i for i in range(count)} | {0: 0}
        before += count
    return labels


_ACQUISITION_FIRST = re.compile(r"(?:^|/)S(\d+)_A\d_E(\d)\.mat$")
_EXERCISE_FIRST = re.compile(r"(?:^|/)S(\d+)_E(\d)_A\d\.mat$")
_GRASPS = {0: 0, 1: 1, 3: 2, 4: 3, 6: 4, 9: 5, 10: 6, 11: 7}

_LAYOUTS = {
    # Eight electrodes around the forearm and two on single muscles: no ring that could be turned.
    1: _Layout(
        _facts(
            1, grid(1, 10), 100.0, _movements(12, 17, 23), samples=20, step=5,
            passband=(0.5, 50.0), repetitions=5,
        ),
        _ACQUISITION_FIRST, _ranges(12, 17, 23, restart=True), 10,
    ),
    2: _Layout(
        _facts(
            2, grid(1, 12), 2000.0, _movements(17, 23, 9), samples=400, step=100,
            passband=(20.0, 450.0), repetitions=3,
        ),
        _EXERCISE_FIRST, _ranges(17, 23, 9, restart=False), 6,
    ),
    # Two Myo armbands side by side, the lower one turned by half an electrode.
    5: _Layout(
        _facts(
            5, Electrodes("ring", 2, 8), 200.0, _movements(12, 17, 23), samples=52, step=10,
            passband=(5.0, 95.0), repetitions=3, unit="counts", citation=_DB5,
        ),
        _EXERCISE_FIRST, _ranges(12, 17, 23, restart=True), 6,
    ),
    6: _Layout(
        _facts(
            6, grid(1, 14), 2000.0,
            ("rest", *(f"grasp {code}" for code in _GRASPS if code)),
            samples=400, step=100, passband=(20.0, 450.0), repetitions=12, sessions=_DAYS,
            citation=_DB6,
        ),
        re.compile(r"(?:^|/)S(\d+)_D(\d)_T(\d)\.mat$"), {0: _GRASPS}, 12,
    ),
}  # fmt: skip


def facts_of(number: int) -> Facts:
    """Return the facts of database 1, 2, 5 or 6."""
    return _LAYOUTS[number].facts


class Ninapro(Dataset):
    """One of the Ninapro databases; subjects are ``S1``, ``S2``, ...

    Args:
        number: 1, 2, 5 or 6.
    """

    def __init__(self, number: int) -> None:
        self._layout = _LAYOUTS[number]
        self.facts = self._layout.facts
        prefixes = (self.facts.name, f"ninapro_db{number}", f"db{number}")
        self._files = find_files(prefixes, self._layout.pattern, title=self.facts.title)

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects at hand."""
        return tuple(sorted({f"S{key[0]}" for key in self._files}, key=natural))

    def recordings(self, subject: str) -> list[Recording]:
        """Read all files of one subject, cut where calibration and test meet."""
        self._check_subject(subject)
        recordings: list[Recording] = []
        for key, file in sorted(self._files.items()):
            if f"S{key[0]}" == subject:
                recordings.extend(self._file(subject, key, file))
        return recordings

    def _file(self, subject: str, key: tuple[str, ...], file: File) -> list[Recording]:
        variables = read_mat(file, "emg", "restimulus", "rerepetition")
        signal = self._signal(file, variables["emg"])
        movements, repetitions = (
            np.ravel(variables[name]).astype(np.int64) for name in ("restimulus", "rerepetition")
        )
        shortest = min(len(signal), len(movements), len(repetitions))
        if shortest < 0.99 * max(len(signal), len(movements), len(repetitions)):
            raise DataError(
                f"{file.location}: expected a label for each of {len(signal)} samples, got "
                f"{len(movements)} and {len(repetitions)}; the file is truncated, fetch it again"
            )
        days = len(key) == 3
        labels = self._layout.label.get(0 if days else int(key[1]))
        if labels is None:
            raise DataError(f"{file.location}: expected exercise 1 to 3, got {key[1]}")
        runs = self._runs(file, movements[:shortest], repetitions[:shortest], labels)
        recordings = []
        for session, begin, stop, notes in self._pieces(runs, shortest, f"D{key[1]}T{key[-1]}"):
            kept = tuple(note for note in notes if note.stop - note.start >= self.facts.samples)
            piece = signal[begin:stop]
            recordings.append(self._make(subject, session, piece, kept, file.location))
        return recordings

    def _signal(self, file: File, emg: Array) -> Signal:
        signal = as_signal(file, emg)
        wanted = self.facts.electrodes.channels
        if self.facts.name == "ninapro-db6" and signal.shape[1] == wanted + 2:
            # Two of the sixteen columns were never connected and hold zeros.
            return np.ascontiguousarray(signal[:, np.flatnonzero(np.ptp(signal, axis=0))])
        return signal

    def _runs(
        self, file: File, movements: Array, repetitions: Array, labels: dict[int, int]
    ) -> list[tuple[int, int, int, int]]:
        """List ``(start, stop, gesture, repetition from 0)`` of every movement, without rest."""
        edges = np.flatnonzero((np.diff(movements) != 0) | (np.diff(repetitions) != 0)) + 1
        starts = np.concatenate([[0], edges])
        stops = np.concatenate([edges, [len(movements)]])
        runs = []
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            movement, repetition = int(movements[start]), int(repetitions[start])
            if movement not in labels:
                raise DataError(
                    f"{file.location}: expected one of the movements {sorted(labels)}, "
                    f"got {movement} at sample {start}; this is a file of another exercise"
                )
            if movement == 0:
                continue
            if not 1 <= repetition <= self._layout.repetitions:
                raise DataError(
                    f"{file.location}: expected repetition 1 to {self._layout.repetitions} of "
                    f"movement {movement}, got {repetition} at sample {start}"
                )
            runs.append((start, stop, labels[movement], repetition - 1))
        if not runs:
            raise DataError(f"{file.location}: expected movements, the labels are all rest")
        return runs

    def _pieces(
        self, runs: list[tuple[int, int, int, int]], length: int, day: str
    ) -> list[tuple[str, int, int, list[Annotation]]]:
        """Cut at the middle of the rest wherever the session changes; shift annotations, too.

        Rest belongs to the repetition of the movement that it is nearer to.
        """
        middles = [(left[1] + right[0]) // 2 for left, right in pairwise(runs)]
        begins, ends = [0, *middles], [*middles, length]
        half = self.facts.repetitions
        pieces: list[tuple[str, int, int, list[Annotation]]] = []
        for (start, stop, gesture, repetition), begin, end in zip(runs, begins, ends, strict=True):
            session, index = day, repetition
            if day not in _DAYS or self.facts.name != "ninapro-db6":
                session, index = ("calibration", "test")[repetition // half], repetition % half
            if not pieces or pieces[-1][0] != session:
                pieces.append((session, begin, end, []))
            name, first, _, notes = pieces[-1]
            for a, b, label in ((begin, start, 0), (start, stop, gesture), (stop, end, 0)):
                if b > a:
                    notes.append(Annotation(a - first, b - first, label, index))
            pieces[-1] = (name, first, end, notes)
        return pieces
