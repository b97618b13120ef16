"""3DC: ten channels around the forearm, eleven gestures, 22 people (Côté-Allard et al. 2019).

Each file holds one gesture of one repetition, one comma-separated row a sample:
``ParticipantP/{train,test}/EMG/3dc_EMG_gesture_R_G.txt`` with repetition R and gesture G.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from pyarrow import csv

from myodistill.datasets.dataset import Facts, FilePerGesture
from myodistill.datasets.recording import Signal, ring
from myodistill.datasets.trees import File, find_files
from myodistill.errors import DataError

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
        content = file.read()
        if not content.strip():
            raise DataError(f"{file.location}: expected samples, got an empty file; fetch it again")
        try:
            table = csv.read_csv(
                pa.BufferReader(content),
                read_options=csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
            )
            signal = np.empty((table.num_rows, table.num_columns), dtype=np.float32)
            for channel, column in enumerate(table.columns):
                signal[:, channel] = column.to_numpy()
        except (pa.ArrowInvalid, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0][:120]
            raise DataError(
                f"{file.location}: expected rows of {self.facts.electrodes.channels} "
                f"comma-separated numbers, got: {reason}; the file is truncated or damaged, "
                f"fetch it again"
            ) from error
        return signal
