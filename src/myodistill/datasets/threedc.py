"""3DC: ten channels around the forearm, eleven gestures, 22 people (Côté-Allard et al. 2019).

Each file holds one gesture of one repetition, one comma-separated row a sample:
``ParticipantP/{train,test}/EMG/3dc_EMG_gesture_R_G.txt`` with repetition R and gesture G.
"""

from __future__ import annotations

import re

from myodistill.datasets.arrays import comma_separated
from myodistill.datasets.dataset import Facts, FilePerGesture
from myodistill.datasets.recording import Signal, ring
from myodistill.datasets.trees import File, find_files

_PATTERN = re.compile(r"(Participant\d+)/(train|test)/EMG/3dc_EMG_gesture_(\d+)_(\d+)\.txt$")


class ThreeDC(FilePerGesture):
    """The 3DC dataset; subjects are ``Participant1`` and so on."""

    facts = Facts(
        name="3dc",
        title="3DC",
        electrodes=ring(10),
        sampling_rate=1000.0,
        gestures=(
            "no motion",
            "radial deviation",
            "wrist flexion",
            "ulnar deviation",
            "wrist extension",
            "supination",
            "pronation",
            "power grip",
            "open hand",
            "chuck grip",
            "pinch grip",
        ),
        unit="counts",
        samples=151,
        step=51,
        passband=(20.0, 495.0),
        mains=60.0,
        repetitions=4,
        calibration_session="train",
        test_sessions=("test",),
        licence="none stated in its repository, which asks to credit the paper",
        citation=(
            "U. Côté-Allard et al., Deep learning for electromyographic hand gesture signal "
            "classification using transfer learning, IEEE TNSRE 27(4), 2019"
        ),
        home="https://github.com/LibEMG/3DCDataset",
    )

    def __init__(self) -> None:
        files = find_files("3DCDataset", _PATTERN, title=self.facts.title)
        super().__init__(
            {
                (subject, session, int(repetition), int(gesture)): file
                for (subject, session, repetition, gesture), file in files.items()
            }
        )

    def parse(self, file: File) -> Signal:
        """Read one comma-separated file."""
        return comma_separated(file, self.facts.electrodes.channels)
