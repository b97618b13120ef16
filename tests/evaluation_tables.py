"""A generated results table and run folder for the tests of statistics, figures and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from myodistill.evaluation import results
from myodistill.evaluation.results import Result
from myodistill.splits import Split

PEOPLE = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gil", "Hana", "Ivo", "Jun", "Kim", "Lea")
GESTURES = ("rest", "fist", "open hand", "pinch", "wrist flexion", "wrist extension")

_MEANS: dict[tuple[str, str, int], dict[int, float]] = {
    ("baseline", "lda-time-domain", 0): {1: 0.74, 2: 0.82, 4: 0.88},
    ("baseline", "lda-log-covariance", 0): {1: 0.82, 2: 0.89, 4: 0.922},
    ("finetune", "covariance", 131_000): {1: 0.827, 2: 0.891, 4: 0.925},
    ("pretrain", "covariance", 131_000): {0: 0.70},
    ("supervised", "log-power", 2_500): {1: 0.715, 2: 0.82, 4: 0.91},
    ("pretrained", "log-power", 2_500): {0: 0.62, 1: 0.79, 2: 0.86, 4: 0.914},
    ("distilled", "log-power", 2_500): {1: 0.765, 2: 0.85, 4: 0.913},
    ("pretrained_distilled", "log-power", 2_500): {0: 0.65, 1: 0.81, 2: 0.875, 4: 0.919},
}


def example_results(subjects: int = 12, seeds: int = 3) -> pd.DataFrame:
    """People differ by 5 points, methods by what is written above, seeds by half a point."""
    rng = np.random.default_rng(0)
    rows = []
    people = rng.normal(0, 0.05, subjects)
    for (stage, model, parameters), means in _MEANS.items():
        for k, mean in means.items():
            for place in range(subjects):
                own = rng.normal(0, 0.012)
                for seed in range(seeds):
                    share = 1 - (1 - mean) * np.exp(-4 * people[place] + own * 8)
                    share = float(np.clip(share + rng.normal(0, 0.004), 0.2, 1.0))
                    rows.append(
                        Result(
                            dataset="example",
                            fold=place % 3 + 1,
                            subject=PEOPLE[place],
                            stage=stage,  # type: ignore[arg-type]
                            model=model,
                            loss="soft-target"
                            if stage in ("distilled", "pretrained_distilled")
                            else "",
                            k=k,
                            seed=seed,
                            accuracy=share,
                            macro_f1=share - 0.01,
                            balanced_accuracy=share - 0.005,
                            calibration_error=0.05,
                            windows=1000 + place,
                            parameters=parameters,
                            seconds=0.5,
                        )
                    )
    return results.table(rows)


def example_counts(seed: int = 0, right: float = 0.8) -> list[list[int]]:
    """Counts of a confusion matrix, rows true, columns decided."""
    rng = np.random.default_rng(seed)
    n = len(GESTURES)
    counts = rng.multinomial(round(200 * (1 - right)), np.full(n, 1 / n), n)
    counts += np.diag(np.full(n, round(200 * right)))
    return [[int(count) for count in row] for row in counts]


def example_events(frame: pd.DataFrame) -> pd.DataFrame:
    """Event metrics for each row of a results table: a vote costs delay and saves activations."""
    rows = []
    for row in frame.to_dict("records"):
        whose = {name: row[name] for name in (*results.METHOD, "fold", "subject", "k", "seed")}
        for votes in (1, 5):
            for threshold in (0.0, 0.9):
                rows.append(
                    {
                        **whose,
                        "votes": votes,
                        "threshold": threshold,
                        "delay": 0.1 + 0.02 * votes,
                        "release_delay": 0.2,
                        "missed": 1 - row["accuracy"],
                        "false_activations": 10.0 / votes,
                        "transition_errors": 0.3,
                        "rejected": threshold / 9,
                        "gestures": 20,
                        "onsets": 20,
                        "rest_minutes": 0.5,
                        "transitions": 39,
                    }
                )
    return pd.DataFrame(rows)


def example_sessions(frame: pd.DataFrame) -> pd.DataFrame:
    """Two test sessions, the second ten points worse."""
    whose = frame[[*results.METHOD, "fold", "subject", "k", "seed", "windows", "accuracy"]]
    days = [
        whose.assign(session=name, accuracy=whose["accuracy"] - loss)
        for name, loss in (("day1", 0.0), ("day2", 0.1))
    ]
    return pd.concat(days, ignore_index=True)


def write_answers(folder: Path, frame: pd.DataFrame, windows: int = 60) -> None:
    """Write for each row what was predicted for each window, about as right as the row says."""
    rng = np.random.default_rng(2)
    for row in frame.to_dict("records"):
        name = results.folder(*(row[part] for part in results.METHOD))
        place = f"fold-{row['fold']}/seed-{row['seed']}/{row['subject']}/k-{row['k']}/scores"
        (folder / place).mkdir(parents=True, exist_ok=True)
        labels = rng.integers(0, len(GESTURES), windows)
        logits = rng.normal(0, 1, (windows, len(GESTURES)))
        logits[np.arange(windows), labels] += 6 * row["accuracy"] - 2
        powers = np.exp(logits)
        np.savez(
            folder / place / f"{name}.npz",
            labels=labels.astype(np.int16),
            probabilities=(powers / powers.sum(axis=1, keepdims=True)).astype(np.float16),
        )


def write_run(folder: Path, frame: pd.DataFrame, *, optional: bool = True) -> Path:
    """Write a run folder as the training side does."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(frame, folder / "results.parquet")
    settings = {
        "dataset": "example",
        "out": "runs/example",
        "k": [0, 1, 2, 4],
        "teacher_model": "covariance",
        "student_model": "log-power",
        "alpha": 0.0,
        "temperature": 20.0,
        "pretrain": {"num_epochs": 30, "batch_size": 300},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    subjects = tuple(sorted(frame["subject"].unique()))
    for fold in (1, 2, 3):
        heldout = subjects[fold - 1 :: 3]
        rest = tuple(s for s in subjects if s not in heldout)
        split = Split("example", fold, 3, rest, heldout, "train", ("test",), 4)
        (folder / "splits").mkdir(exist_ok=True)
        (folder / "splits" / f"fold-{fold}.json").write_text(split.to_json())
    if optional:
        results.write(example_events(frame), folder / "events.parquet")
        results.write(example_sessions(frame), folder / "sessions.parquet")
        methods = frame[results.METHOD].drop_duplicates().to_dict("records")
        counts = [
            method | {"k": k, "windows": example_counts(place * 9 + k, right)}
            for place, method in enumerate(methods)
            for k, right in ((1, 0.6 + 0.2 * place / len(methods)), (4, 0.9))
            if k in set(frame.loc[(frame[results.METHOD] == [*method.values()]).all(axis=1), "k"])
        ]
        (folder / "confusion.json").write_text(json.dumps({"gestures": GESTURES, "counts": counts}))
        (folder / "environment.json").write_text(
            json.dumps(
                {
                    "versions": {"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.1"},
                    "machine": "x86_64, 2 cores",
                    "command": "myodistill run --dataset example --out runs/example",
                }
            )
        )
    return folder
