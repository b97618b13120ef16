"""Small datasets of people who do not exist: .npz files and the YAML file that describes them.

Tests change the takes before they write them, so that two datasets differ in nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml

from myodistill.bundle import Bundle

GESTURES = ("rest", "fist", "open")
CHANNELS = 4
CALIBRATION, TEST = "day1", "day2"
IGNORED = 9

DecisionStream = dict[str, np.ndarray]
"""``emg`` (time, channel); ``label`` and ``turn`` (repetition) of every sample."""
Takes = dict[tuple[str, str], DecisionStream]
"""The takes by subject and session."""


def record(
    *,
    subjects: int = 5,
    repetitions: int = 2,
    hold: int = 250,
    contrast: float = 3.0,
    seed: int = 0,
) -> Takes:
    """Record white noise, a channel of which is louder in each gesture.

    Args:
        subjects: Number of people, ``P1`` and so on.
        repetitions: Of every gesture, in each of two sessions.
        hold: Samples of each performance.
        contrast: How many times louder the gesture's channel is; 1 tells gestures apart in nothing.
        seed: Of all noise.
    """
    rng = np.random.default_rng(seed)
    takes: Takes = {}
    for subject in range(1, subjects + 1):
        for session in (CALIBRATION, TEST):
            label, turn = [], []
            for repetition in range(repetitions):
                for gesture in range(len(GESTURES)):
                    label += [gesture] * hold + [IGNORED] * 30
                    turn += [repetition] * (hold + 30)
            emg = rng.standard_normal((len(label), CHANNELS))
            for gesture in range(len(GESTURES)):
                emg[np.array(label) == gesture, gesture] *= contrast
            takes[f"P{subject}", session] = {
                "emg": emg.astype(np.float32),
                "label": np.array(label),
                "turn": np.array(turn),
            }
    return takes


def write(folder: Path, takes: Takes, **changes: object) -> Path:
    """Write the takes and their description; return the path of the YAML file.

    Args:
        folder: Where they go; it is made.
        takes: What was recorded.
        changes: Keys of the description that are to be other than usual.
    """
    folder.mkdir(parents=True)
    for (subject, session), take in takes.items():
        np.savez(folder / f"{subject}_{session}.npz", allow_pickle=False, **take)
    about = {
        "files": "{subject}_{session}.npz",
        "signal": "emg",
        "labels": "label",
        "repetitions_of": "turn",
        "sampling_rate": 500,
        "electrodes": {"layout": "ring", "columns": CHANNELS},
        "gestures": dict(enumerate(GESTURES)),
        "ignore": [IGNORED],
        "calibration_session": CALIBRATION,
        "test_sessions": [TEST],
        "repetitions": 1 + max(int(take["turn"].max()) for take in takes.values()),
        "samples": 50,
        "step": 25,
    }
    path = folder / "people.yaml"
    path.write_text(yaml.safe_dump(about | changes))
    return path


def require_another_frame(made: Bundle, worn: Bundle) -> None:
    """Fail unless a bundle was re-centred: its map of channels is another one than before."""
    assert worn.preprocessing is not None
    assert made.preprocessing is not None
    assert not np.allclose(made.preprocessing.matrix, worn.preprocessing.matrix)


def require_the_same_but_centred(made: Bundle, worn: Bundle) -> None:
    """Fail unless nothing else than the frame has changed, and that has."""
    require_another_frame(made, worn)
    for name, weights in made.network.state_dict().items():
        same = torch.equal(weights, worn.network.state_dict()[name])
        assert same == (name != "front.whitening")
