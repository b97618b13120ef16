"""Students for days to come: what each recipe reaches on the 30-day recordings of three people.

    MYODISTILL_DATA=~/recordings python benchmarks/long_term_recipes.py --recipe distilled

Windows of 52 samples every 13. Trials 2-4 of a day are scored, each window by itself; a day is
re-centred by its first trial, without labels. 10 and 20 are the labelled days before it; K1 adds
the first trial's labels to ten of them (networks only); ``first`` is day 1 alone, for days 2-30.
"""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from myodistill.datasets.recording import SignalSpec, ring
from myodistill.models.covariance import LogCovariances, matrix_log
from myodistill.models.log_covariance import LogCovariance
from myodistill.models.registry import build
from myodistill.signals.filters import apply, design

ARCHIVE = "Wearable_Sensor_Long-term_sEMG_Dataset-005b70c.zip"
DAYS, GESTURES, TRIALS, SAMPLES, STEP = 30, 22, 4, 52, 13
SPEC = SignalSpec(ring(8), SAMPLES, 200.0, tuple(f"M{m}" for m in range(1, GESTURES + 1)))
FRONT = LogCovariances(SPEC)
TEST_DAYS = {10: (11, 16, 21, 26, 30), 20: (21, 26, 30)}
Decide = Callable[[Tensor], Tensor]


def covariances(archive: zipfile.ZipFile, person: int) -> Tensor:
    """Band covariances, ``(day, trial, gesture, window, band, channel, channel)``."""
    root = archive.namelist()[0].split("/")[0]
    sections = design(200.0, (5.0, 95.0))
    days = []
    for day in range(1, DAYS + 1):
        windows = []
        for trial in range(1, TRIALS + 1):
            for gesture in range(1, GESTURES + 1):
                name = f"{root}/data/sub{person}/day{day}/D{day}M{gesture}T{trial}.csv"
                numbers = archive.read(name).replace(b"\n", b",").strip(b",").split(b",")
                signal = np.array(numbers, dtype=np.float32).reshape(-1, 8)
                filtered = torch.from_numpy(apply(sections, signal))
                windows.append(filtered.unfold(0, SAMPLES, STEP))
        shape = (TRIALS, GESTURES, -1, FRONT.bands, 8, 8)
        days.append(FRONT.covariances(torch.cat(windows)).reshape(shape))
    return torch.stack(days)


def features(matrices: Tensor, trials: int) -> Tensor:
    """Features ``(trial, gesture, window, feature)`` of a day, re-centred by its first trials."""
    mean = matrix_log(matrices[:trials]).mean(dim=(0, 1, 2))
    values, vectors = torch.linalg.eigh(mean)
    whitening = (vectors * torch.exp(-values / 2)[:, None]) @ vectors.mT
    logarithms = matrix_log(whitening @ matrices @ whitening).flatten(0, 2)
    return FRONT.permuted(logarithms, np.arange(8)).reshape(*matrices.shape[:3], -1)


def put_on_again(matrices: Tensor, random: torch.Generator) -> Tensor:
    """One day as if the band sat a little turned, and each electrode a little looser or tighter."""
    turn = 0.3 * torch.randn((), generator=random).item()
    near, eye = int(np.floor(turn)), torch.eye(8)
    map_ = (1 - turn + near) * eye.roll(near, 1) + (turn - near) * eye.roll(near + 1, 1)
    map_ = torch.exp(0.15 * torch.randn(8, 1, generator=random)) * map_
    return map_ @ matrices @ map_.T


def discriminant(rows: Tensor, labels: Tensor, shrinkage: float) -> Decide:
    """Linear discriminant analysis; logits over a temperature of 4."""
    means = torch.stack([rows[labels == g].mean(dim=0) for g in range(GESTURES)])
    away = (rows - means[labels]).double()
    scatter = away.T @ away / len(away)
    scatter = (1 - shrinkage) * scatter + shrinkage * torch.diag(scatter.diagonal())
    weight = torch.linalg.solve(scatter, means.double().T).float()
    bias = -0.5 * (means.T * weight).sum(dim=0)
    return lambda x: (x @ weight + bias) / 4


def trained(
    network: nn.Module, rows: Tensor, targets: Tensor, *, steps: int, rate: float = 3e-3
) -> nn.Module:
    """Train a network on soft targets; ``targets`` holds probabilities."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.2)
    network.train()
    for _ in range(steps):
        some = torch.randint(len(rows), (256,))
        loss = functional.cross_entropy(network(rows[some]), targets[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def student() -> nn.Module:
    """The trained part of ``log-covariance-30k``; it adds noise to its inputs by itself."""
    network = build("log-covariance-30k", SPEC)
    assert isinstance(network, LogCovariance)
    return network.head


def wide_teacher() -> nn.Module:
    """A wider student."""
    return LogCovariance(SPEC, width=256, dropout=0.3).head


@torch.no_grad()
def probabilities(decide: Decide, rows: Tensor) -> Tensor:
    """Softened decisions."""
    return torch.cat([decide(part).softmax(dim=-1) for part in rows.split(4096)])


def learn(rows: Tensor, labels: Tensor, recipe: str, steps: int) -> Decide:
    """Make what decides from all rows, real and imagined."""
    if recipe == "lda":
        return discriminant(rows, labels, 0.1)
    smooth = 0.9 * functional.one_hot(labels, GESTURES) + 0.1 / GESTURES
    if recipe == "student":
        return trained(student(), rows, smooth, steps=steps)
    wide = trained(wide_teacher(), rows, smooth, steps=steps)
    teachers: list[Decide] = [discriminant(rows, labels, 0.3), wide]
    taught = torch.stack([probabilities(one, rows) for one in teachers]).mean(dim=0)
    return trained(student(), rows, 0.3 * smooth + 0.7 * taught, steps=steps)


def one_more_trial(decide: nn.Module, rows: Tensor, labels: Tensor, trial: Tensor) -> Decide:
    """Continue with the first trial's labels; half of every batch is the history."""
    own = torch.arange(GESTURES).repeat_interleave(trial.shape[1])
    some = torch.randint(len(rows), (len(own),))
    both = torch.cat((rows[some], trial.flatten(0, 1)))
    smooth = 0.9 * functional.one_hot(torch.cat((labels[some], own)), GESTURES) + 0.1 / GESTURES
    return trained(decide, both, smooth, steps=80, rate=1e-3)


def score(decide: Decide, day: Tensor) -> float:
    """Accuracy in % on trials 2-4."""
    labels = torch.arange(GESTURES)[None, :, None].expand(day[1:].shape[:3])
    with torch.no_grad():
        return float((decide(day[1:].flatten(0, 2)).argmax(-1) == labels.flatten()).float().mean())


def history(matrices: Tensor, days: Sequence[int], copies: int) -> tuple[Tensor, Tensor]:
    """Features and labels of labelled days, and of copies of them that were put on again."""
    random = torch.Generator().manual_seed(days[0])
    rows = [features(matrices[d], TRIALS) for d in days]
    for _ in range(copies):
        rows += [features(put_on_again(matrices[d], random), TRIALS) for d in days]
    labels = torch.arange(GESTURES)[None, :, None].expand(rows[0].shape[:3]).flatten()
    return torch.cat([r.flatten(0, 2) for r in rows]), labels.repeat(len(rows))


def person_scores(matrices: Tensor, recipe: str, steps: int, copies: int) -> dict[str, float]:
    """Mean accuracy over days for each condition."""
    today = [features(day, 1) for day in matrices]
    found: dict[str, list[float]] = {}
    first = history(matrices, [0], 16 * copies)
    decide = learn(*first, recipe, steps)
    found["first"] = [score(decide, day) for day in today[1:]]
    for length, test_days in TEST_DAYS.items():
        for day in test_days:
            rows = history(matrices, range(day - 1 - length, day - 1), copies)
            decide = learn(*rows, recipe, steps)
            found.setdefault(str(length), []).append(score(decide, today[day - 1]))
            if length == 10 and isinstance(decide, nn.Module):
                decide = one_more_trial(decide, *rows, today[day - 1][0])
                found.setdefault("K1", []).append(score(decide, today[day - 1]))
    return {condition: 100 * float(np.mean(values)) for condition, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", choices=("lda", "student", "distilled"), default="distilled")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument(
        "--copies", type=int, default=1, help="of each day; 16 times of day 1 alone"
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    archive = zipfile.ZipFile(Path(os.environ["MYODISTILL_DATA"]) / ARCHIVE)
    table = []
    for person in (1, 2, 3):
        matrices = covariances(archive, person)
        scores = person_scores(matrices, options.recipe, options.steps, options.copies)
        print(person, {name: round(value, 1) for name, value in scores.items()}, flush=True)
        table.append(list(scores.values()))
    print("mean", dict(zip(scores, np.mean(table, axis=0).round(1).tolist(), strict=True)))


if __name__ == "__main__":
    main()
