"""GRABMyo: 43 people, three days, 17 gestures, two rings each on forearm and wrist (Pradhan 2022).

``SessionD/sessionD_participantP/sessionD_participantP_gestureG_trialT.{hea,dat}`` are WFDB records
of five seconds with 32 signals: F1-F16 on the forearm, W1-W12 on the wrist and four unused.
"""

from __future__ import annotations

import re

import numpy as np

from myodistill.datasets.dataset import Facts, FilePerGesture
from myodistill.datasets.foreign import read_wfdb
from myodistill.datasets.recording import Electrodes, Signal
from myodistill.datasets.trees import File, find_files
from myodistill.errors import DataError

_PATTERN = re.compile(r"session(\d)_participant(\d+)_gesture(\d+)_trial(\d+)\.(hea|dat)$")
_GESTURES = (
    "lateral prehension",
    "thumb adduction",
    "thumb and little finger opposition",
    "thumb and index finger opposition",
    "thumb and little finger extension",
    "thumb and index finger extension",
    "index and middle finger extension",
    "little finger extension",
    "index finger extension",
    "thumb extension",
    "wrist flexion",
    "wrist extension",
    "forearm pronation",
    "forearm supination",
    "hand open",
    "hand close",
    "rest",
)


def facts_of(position: str) -> Facts:
    """Return the facts of the electrodes on the ``"forearm"`` or ``"wrist"``."""
    return Facts(
        name="grabmyo" if position == "forearm" else "grabmyo-wrist",
        title="GRABMyo",
        electrodes=Electrodes("ring", 2, 8 if position == "forearm" else 6),
        sampling_rate=2048.0,
        gestures=_GESTURES,
        unit="mV",
        samples=410,
        step=102,
        passband=(20.0, 450.0),
        mains=60.0,
        repetitions=7,
        calibration_session="session1",
        test_sessions=("session2", "session3"),
        licence="Creative Commons Attribution 4.0",
        citation=(
            "A. Pradhan, J. He and N. Jiang, Multi-day dataset of forearm and wrist "
            "electromyogram for hand gesture recognition and biometrics, Scientific Data 9, "
            "2022"
        ),
        home="https://physionet.org/content/grabmyo/1.1.0/",
    )


class GrabMyo(FilePerGesture):
    """GRABMyo; subjects are ``participant1``, ``participant2``, ...

    Args:
        place: ``"forearm"`` (16 electrodes) or ``"wrist"`` (12).
    """

    def __init__(self, position: str = "forearm") -> None:
        self.facts = facts_of(position)
        letter = "F" if position == "forearm" else "W"
        self._names = [f"{letter}{i + 1}" for i in range(self.facts.electrodes.channels)]
        files = find_files("grabmyo", _PATTERN, title=self.facts.title)
        self._data: dict[str, File] = {}
        headers: dict[tuple[str, str, int, int], File] = {}
        for (session, person, gesture, trial, kind), file in files.items():
            if kind == "dat":
                self._data[file.name.removesuffix(".dat")] = file
                continue
            if not 1 <= int(gesture) <= len(_GESTURES):
                raise DataError(
                    f"{file.location}: expected gesture 1 to {len(_GESTURES)} in its name, "
                    f"got {gesture}"
                )
            key = f"participant{person}", f"session{session}", int(trial) - 1, int(gesture) - 1
            headers[key] = file
        super().__init__(headers)

    def parse(self, file: File) -> Signal:
        """Read one record and keep the electrodes of this place."""
        data = self._data.get(file.name.removesuffix(".hea"))
        signal, rate, names, _ = read_wfdb(file, data)
        absent = [name for name in self._names if name not in names]
        if absent or rate != self.facts.sampling_rate:
            raise DataError(
                f"{file.location}: expected channels {self._names[0]} to {self._names[-1]} at "
                f"{self.facts.sampling_rate:g} Hz, got {len(names)} channels at {rate:g} Hz"
                + (f" without {absent[0]}" if absent else "")
            )
        return np.ascontiguousarray(signal[:, [names.index(name) for name in self._names]])
