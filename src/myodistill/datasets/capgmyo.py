"""CapgMyo DB-a, DB-b and DB-c: 128 electrodes, 16 columns of 8 around the forearm (Du et al. 2017).

``SSS-GGG-TTT.mat`` holds one trial: ``data`` ``(1000, 128)`` and its ``subject``, ``gesture`` and
``trial``. Subjects 2k-1 and 2k of DB-b are one person on two days. The trials of the other two lie
in one session: the first five calibrate, the last five are scored. Gestures 100 and 101, the
strongest contractions, are left out.
"""

from __future__ import annotations

import re

import numpy as np

from myodistill.datasets.dataset import Facts, FilePerGesture
from myodistill.datasets.foreign import as_signal, guarded, read_mat
from myodistill.datasets.recording import Electrodes, Signal
from myodistill.datasets.trees import File, find_files
from myodistill.errors import DataError

_PATTERN = re.compile(r"(?:^|/)(\d{3})-(0\d\d)-(\d{3})\.mat$")
_TRIALS = 10
_EIGHT = (
    "thumb up",
    "index and middle extended",
    "ring and little flexed",
    "thumb to base of little finger",
    "fingers abducted",
    "fist",
    "index pointing",
    "extended fingers adducted",
)
_TWELVE = tuple(
    f"{finger} {way}"
    for finger, ways in (
        ("index", ("flexion", "extension")),
        ("middle", ("flexion", "extension")),
        ("ring", ("flexion", "extension")),
        ("little finger", ("flexion", "extension")),
        ("thumb", ("adduction", "abduction", "flexion", "extension")),
    )
    for way in ways
)
# Each module holds two columns of eight electrodes; channels run down a column, then around.
_ORDER = tuple(8 * column + row for row in range(8) for column in range(16))


def facts_of(letter: str) -> Facts:
    """Return the facts of database ``"a"``, ``"b"`` or ``"c"``."""
    days = letter == "b"
    return Facts(
        name=f"capgmyo-db{letter}",
        title=f"CapgMyo DB-{letter}",
        electrodes=Electrodes("ring", 8, 16, _ORDER),
        sampling_rate=1000.0,
        gestures=_TWELVE if letter == "c" else _EIGHT,
        unit="2.5 mV",
        samples=150,
        step=50,
        passband=(20.0, 380.0),
        mains=50.0,
        repetitions=_TRIALS if days else _TRIALS // 2,
        calibration_session="session1" if days else "calibration",
        test_sessions=("session2",) if days else ("test",),
        licence="none stated; free for research with citation",
        citation=(
            "Y. Du et al., Surface EMG-based inter-session gesture recognition enhanced by "
            "deep domain adaptation, Sensors 17(3), 2017"
        ),
        home="https://figshare.com/articles/dataset/7210397"
        if letter == "a"
        else "http://zju-capg.org/research_en_electro_capgmyo.html",
    )


class CapgMyo(FilePerGesture):
    """One of the CapgMyo databases; subjects are ``subject1``, ``subject2``, ...

    Args:
        letter: ``"a"``, ``"b"`` or ``"c"``.
    """

    def __init__(self, letter: str) -> None:
        days = letter == "b"
        self.facts = facts_of(letter)
        prefixes = (self.facts.name, f"capgmyo_db{letter}", f"db{letter}-")
        matches = find_files(prefixes, _PATTERN, title=self.facts.title)
        files: dict[tuple[str, str, int, int], File] = {}
        for (subject, gesture, trial), file in matches.items():
            person, day = int(subject), 0
            if days:
                person, day = (person + 1) // 2, (person + 1) % 2
            index = int(trial) - 1
            if not days:
                day, index = divmod(index, _TRIALS // 2)
            if not (1 <= int(gesture) <= len(self.facts.gestures) and 1 <= int(trial) <= _TRIALS):
                raise DataError(
                    f"{file.location}: expected gesture 1 to {len(self.facts.gestures)} and trial "
                    f"1 to {_TRIALS} in its name; this is a file of another database"
                )
            session = (self.facts.calibration_session, *self.facts.test_sessions)[day]
            files[f"subject{person}", session, index, int(gesture) - 1] = file
        super().__init__(files)

    def parse(self, file: File) -> Signal:
        """Read one trial and check it against its file's name."""
        variables = read_mat(file, "data", "subject", "gesture", "trial")
        stated = guarded(
            file,
            "numbers for subject, gesture and trial",
            lambda: tuple(
                int(np.ravel(variables[name])[0]) for name in ("subject", "gesture", "trial")
            ),
        )
        match = _PATTERN.search(file.name)
        named = tuple(map(int, match.groups())) if match else ()
        if stated != named:
            raise DataError(
                f"{file.location}: expected subject, gesture and trial as in its name, it holds "
                f"{stated}; fetch it again"
            )
        return as_signal(file, variables["data"])
