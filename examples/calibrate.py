"""One more person: pre-train on many people once, calibrate the next one, decode, export.

    python examples/calibrate.py

With recordings of your own, put a described dataset in the place of the generated people.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import myodistill as md
from myodistill.datasets.synthetic import Synthetic

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--people", type=int, default=6, help="in the population")
parser.add_argument("--epochs", type=int, default=5, help="of every stage")
parser.add_argument("--out", type=Path, default=Path("runs/calibrate"))
args = parser.parse_args()

# Once: teachers and a student learn from everybody. The folder holds all that calibration needs.
everybody = Synthetic(subjects=args.people)
brief = {"num_epochs": args.epochs}
md.pretrain(
    everybody,
    out=args.out / "population",
    pretrain=brief,
    pretrain_student=brief,
    finetune=brief,
    distill=brief,
)

# For each person: one repetition of every gesture. This one is in no population.
stranger = Synthetic(subjects=1, seed=1)
recordings = stranger.recordings("Person1")
train, test = (
    [
        md.Recording(
            subject="Anna",
            session=recording.session,
            signal=recording.signal,
            sampling_rate=recording.sampling_rate,
            electrodes=recording.electrodes,
            gestures=recording.gestures,
            annotations=recording.annotations,
            unit=recording.unit,
        )
        for recording in recordings
        if recording.session == session
    ]
    for session in ("train", "test")
)
bundle = md.calibrate(args.out / "population", train, k=1)
bundle.save(args.out / "anna")

# In use: chunks of any size in, decisions out.
decoder = md.Decoder.from_bundle(args.out / "anna")
decisions = [d for chunk in np.array_split(test[0].signal, 100) for d in decoder.push(chunk)]
print(f"{len(decisions)} decisions, the last: {bundle.spec.gestures[decisions[-1].gesture]}")

right = [
    bundle.spec.gestures[decision.prediction] == test[0].gestures[note.gesture]
    for decision in decisions
    for note in test[0].annotations
    if note.start <= decision.sample - bundle.spec.samples and decision.sample <= note.stop
]
print(f"right in {np.mean(right):.1%} of the windows within a gesture")

# On a device: C sources without a dependency.
print(f"C sources: {bundle.export('c', args.out / 'c')}")
