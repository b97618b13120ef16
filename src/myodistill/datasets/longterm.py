"""Long-term: an armband of eight channels, 22 motions, 30 days of five people (Kanoga et al. 2020).

The armband was put on again every day. Each file holds one motion of one trial, 1.5 s at 200 Hz,
one comma-separated row a sample: ``data/subS/dayD/D<day>M<motion>T<trial>.csv``.
"""

from __future__ import annotations

import re

from myodistill.datasets.arrays import comma_separated
from myodistill.datasets.dataset import Facts, FilePerGesture
from myodistill.datasets.recording import Signal, ring
from myodistill.datasets.trees import File, find_files, natural
from myodistill.errors import DataError

_PATTERN = re.compile(r"(sub\d+)/(day(\d+))/D(\d+)M(\d+)T(\d+)\.csv$")
_DAYS = 30
_MOTIONS = 22
_PREFIX = "Wearable_Sensor_Long-term_sEMG_Dataset"


class LongTerm(FilePerGesture):
    """The long-term dataset; subjects are ``sub1`` and so on, sessions ``day1`` to ``day30``.

    The authors name two of the motions in words, rest and wrist flexion.
    """

    facts = Facts(
        name="long-term",
        title="Long-term",
        electrodes=ring(8),
        sampling_rate=200.0,
        gestures=(
            "rest",
            "wrist flexion",
            *(f"motion {number}" for number in range(3, _MOTIONS + 1)),
        ),
        unit="scaled",
        samples=52,
        step=13,
        passband=(5.0, 96.0),
        mains=50.0,
        repetitions=4,
        calibration_session="day1",
        test_sessions=tuple(f"day{number}" for number in range(2, _DAYS + 1)),
        licence="Apache License 2.0, as the repository of its authors",
        citation=(
            "S. Kanoga et al., Are armband sEMG devices dense enough for long-term use? Sensor "
            "placement shifts cause significant reduction in recognition accuracy, Biomedical "
            "Signal Processing and Control 60, 2020"
        ),
        home="https://github.com/Suguru55/Wearable_Sensor_Long-term_sEMG_Dataset",
    )

    def __init__(self) -> None:
        found = find_files(_PREFIX, _PATTERN, title=self.facts.title)
        files = {}
        for (subject, session, day, named, motion, trial), file in found.items():
            is_trial = 1 <= int(trial) <= self.facts.repetitions
            if int(day) != int(named) or int(motion) < 1 or not is_trial:
                raise DataError(
                    f"{file.location}: expected D{day}M1T1 to D{day}M{_MOTIONS}T"
                    f"{self.facts.repetitions} in folder {session:.40}; put the file where it "
                    f"belongs"
                )
            files[subject, session, int(trial) - 1, int(motion) - 1] = file
        super().__init__(files)
        days: dict[str, set[str]] = {}
        for subject, session, _, _ in files:
            days.setdefault(subject, set()).add(session)
        for subject, there in days.items():
            if gap := {f"day{number}" for number in range(1, len(there) + 1)} - there:
                raise DataError(
                    f"{self.facts.title}: expected the days of {subject:.40} in a row from day1, "
                    f"{min(gap, key=natural)} is missing; fetch the dataset again"
                )
        self._days = {name: tuple(sorted(days[name], key=natural)) for name in days}

    def sessions(self, subject: str) -> tuple[str, ...]:
        """Return the days of ``subject`` that are at hand, in order."""
        return self._days[subject]

    def parse(self, file: File) -> Signal:
        """Read one comma-separated file."""
        return comma_separated(file, self.facts.electrodes.channels)
