"""Windows as an array: the catalogue's methods and distillation as scikit-learn estimators.

python examples/scikit_learn.py
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.model_selection import GroupKFold, cross_val_score

import myodistill as md
from myodistill.datasets.synthetic import Synthetic

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--people", type=int, default=1, help="one by one")
parser.add_argument("--epochs", type=int, default=30, help="of every network")
args = parser.parse_args()

SAMPLES, STEP = 200, 100
people = Synthetic(subjects=args.people)
rate = people.facts.sampling_rate
models = {
    "LDA on log-covariances": md.EMGClassifier(sampling_rate=rate),
    "a small network": md.EMGClassifier(
        "log-power-10k", sampling_rate=rate, num_epochs=args.epochs
    ),
    "the same, distilled": md.DistilledClassifier(
        "covariance", "log-power-10k", sampling_rate=rate, num_epochs=args.epochs
    ),
}
for person in people.subjects():
    recording = people.recordings(person)[0]
    windows = [
        (recording.signal[begin : begin + SAMPLES].T, note.gesture, note.repetition)
        for note in recording.annotations
        for begin in range(note.start, note.stop - SAMPLES + 1, STEP)
    ]
    X, y, repetition = map(np.array, zip(*windows, strict=True))
    for name, model in models.items():
        # Windows of one repetition overlap: they are never split between training and test.
        scores = cross_val_score(model, X, y, groups=repetition, cv=GroupKFold(2))
        print(f"{person}, {name}: {scores.mean():.1%}")
