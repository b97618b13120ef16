"""Myo armband: eight channels, seven gestures, 22 + 18 people (Côté-Allard et al. 2019).

Each file holds one gesture of one cycle, little-endian int16 with the channels interleaved:
``{PreTraining,Evaluation}Dataset/PERSON/SESSION/classe_i.dat``; i mod 7 is the gesture, i div 7
the cycle. The protocol pre-trains on the first set of people and evaluates on the second.
"""

from __future__ import annotations

import re

import numpy as np

from myodistill.datasets.dataset import Facts, FilePerGesture
from myodistill.datasets.recording import Signal, ring
from myodistill.datasets.trees import File, find_files
from myodistill.errors import DataError

_PATTERN = re.compile(
    r"(PreTraining|Evaluation)Dataset/(\w+?\d+)/(training0|Test0|Test1)/classe_(\d+)\.dat$"
)
_PARTS = {"PreTraining": "pretraining-", "Evaluation": "evaluation-"}
_COPIES = ("pretraining-Female7", "pretraining-Female8", "pretraining-Female9")
"""Byte-for-byte copies of evaluation-Female0's sessions: who trains on them has seen her tests."""


class Myo(FilePerGesture):
    """The Myo armband dataset; subjects are ``pretraining-Male0``, ``evaluation-Female1``, ..."""

    facts = Facts(
        name="myo",
        title="Myo armband",
        electrodes=ring(8),
        sampling_rate=200.0,
        gestures=(
            "neutral",
            "radial deviation",
            "wrist flexion",
            "ulnar deviation",
            "wrist extension",
            "hand close",
            "hand open",
        ),
        unit="counts",
        samples=52,
        step=5,
        passband=(5.0, 95.0),
        mains=60.0,
        repetitions=4,
        calibration_session="training0",
        test_sessions=("Test0", "Test1"),
        licence="GNU General Public License v3, as the repository of its authors",
        citation=(
            "U. Côté-Allard et al., Deep learning for electromyographic hand gesture signal "
            "classification using transfer learning, IEEE TNSRE 27(4), 2019"
        ),
        home="https://github.com/UlysseCoteAllard/MyoArmbandDataset",
    )

    def __init__(self) -> None:
        files = find_files("MyoArmbandDataset", _PATTERN, title=self.facts.title)
        classes = len(self.facts.gestures)
        super().__init__(
            {
                (name, session, *divmod(int(index), classes)): file
                for (part, person, session, index), file in files.items()
                if (name := f"{_PARTS[part]}{person}") not in _COPIES
            }
        )

    def pretraining_only(self) -> tuple[str, ...]:
        """Return the participants of the pre-training set."""
        return tuple(name for name in self.subjects() if name.startswith("pretraining-"))

    def sessions(self, subject: str) -> tuple[str, ...]:
        """Return one session for the pre-training set and three for the evaluation set."""
        sessions = super().sessions(subject)
        return sessions[:1] if subject.startswith("pretraining-") else sessions

    def parse(self, file: File) -> Signal:
        """Read one file of interleaved int16."""
        content = file.read()
        channels = self.facts.electrodes.channels
        if len(content) == 0 or len(content) % (2 * channels):
            raise DataError(
                f"{file.location}: expected a multiple of {2 * channels} bytes ({channels} "
                f"channels of int16), got {len(content)}; the file is truncated, fetch it again"
            )
        return np.frombuffer(content, dtype="<i2").reshape(-1, channels).astype(np.float32)
