"""A whole run: every stage for chosen folds, seeds and subjects; nothing valid is done twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

import myodistill.models  # noqa: F401  registers every family
from myodistill import __version__
from myodistill.config import Settings, digest
from myodistill.datasets.catalogue import open_dataset
from myodistill.datasets.dataset import Dataset
from myodistill.deploy.bundle import Bundle
from myodistill.errors import SettingsError, unknown_name
from myodistill.evaluation import results
from myodistill.evaluation.metrics import confusion, score
from myodistill.evaluation.results import Result, Stage
from myodistill.files import write_text
from myodistill.models.catalogue import entry
from myodistill.models.classical import FLOORS
from myodistill.models.complexity import complexity
from myodistill.splits import make_split
from myodistill.training.stages import Answer, Fold
from myodistill.training.store import Store

Until = Literal["pretrain", "finetune", "distill"]

STUDENT: tuple[Stage, ...] = ("scratch", "transfer", "distill", "full")


def execute(settings: Settings, *, until: Until = "distill") -> pd.DataFrame:
    """Run the stages up to ``until`` and return the results table; empty if nothing was scored.

    Everything goes to ``settings.out``: ``settings.json``, ``splits/``, a folder per fold and
    seed with a bundle per stage, ``results.parquet``, ``confusion.json``, ``models.json`` and
    ``environment.json``. A stage whose bundle is there and still fits its settings, data and
    teachers is not done again.

    Raises:
        MyoDistillError: A setting is wrong, data is missing or damaged, the folder is not writable.
    """
    dataset = open_dataset(settings.dataset)
    folds = _check(settings, dataset)
    write_text(settings.out / "settings.json", settings.model_dump_json(indent=1))
    for fold in folds:
        split = make_split(dataset, fold)
        write_text(settings.out / "splits" / f"fold-{fold}.json", split.to_json())
    work = [(fold, seed) for seed in settings.seed for fold in folds]
    rows = _map(partial(_one_fold, settings, until), work, settings.processes)
    found = [Result(**row["result"]) for part in rows for row in part]
    table = results.table(found)
    if not found:
        return table
    results.write(table, settings.out / "results.parquet")
    _write_confusion(settings, dataset, [row for part in rows for row in part])
    _write_models(settings, dataset)
    _write_environment(settings)
    return table


def _one_fold(settings: Settings, until: Until, work: tuple[int, int]) -> list[dict[str, Any]]:
    """Do all the work of one fold with one seed; return its rows."""
    number, seed = work
    torch.set_num_threads(settings.threads)
    dataset = open_dataset(settings.dataset)
    split = make_split(dataset, number)
    fold = Fold(dataset, split, settings, seed)
    store = Store(settings.out / f"fold-{number}" / f"seed-{seed}", resume=settings.resume)
    base = (
        split.hash,
        fold.people.digest(),
        seed,
        settings.recentre,
        settings.precision,
        __version__,
    )
    stage_keys = {
        "pretrain": digest(base, settings.pretrain.model_dump()),
        "finetune": digest(base, settings.pretrain.model_dump(), settings.finetune.model_dump()),
        "distill": digest(base, settings.model_dump(include=_DISTILL)),
    }

    teachers = [
        store.bundle(
            f"pretrain-{model}",
            digest(stage_keys["pretrain"], model),
            partial(fold.pretrain, model),
        )
        for model in settings.teacher_model
    ]
    if until == "pretrain":
        return []
    students: dict[bool, Bundle] = {}
    if until == "distill":
        for taught in (True, False):
            name = "student-taught" if taught else "student-alone"
            students[taught] = store.bundle(
                f"pretrain-{name}",
                digest(stage_keys["distill"], name),
                partial(fold.pretrain_student, teachers if taught else []),
            )

    rows: list[dict[str, Any]] = []
    for subject in _heldout(settings, split.heldout):
        for floor in FLOORS:
            for k in settings.k:
                if k:
                    answer = partial(fold.floor, floor, subject, k)
                    rows.append(_score(store, fold, subject, k, "floor", floor, [], base, answer))
        for k in settings.k:
            scored = partial(_score, store, fold, subject, k)
            tuned = [
                store.bundle(
                    f"{subject}/k-{k}/finetune-{teacher.model}",
                    digest(stage_keys["finetune"], teacher.model, k),
                    partial(fold.finetune, teacher, subject, k),
                )
                for teacher in teachers
            ]
            stage: Stage = "finetune" if k else "pretrain"
            for group in [tuned, *([[one] for one in tuned] if len(tuned) > 1 else [])]:
                rows.append(scored(stage, "+".join(b.model for b in group), group))
            if until == "distill":
                for name, student, taught in _students(students, k):
                    made = store.bundle(
                        f"{subject}/k-{k}/{name}",
                        digest(stage_keys["distill"], name, k),
                        partial(fold.distill, student, tuned if taught else [], subject, k),
                    )
                    rows.append(scored(name, made.model, [made]))
            _say(fold, subject, k, rows)
    return rows


def _students(students: dict[bool, Bundle], k: int) -> list[tuple[Stage, Bundle | None, bool]]:
    """Return the student stages at ``k``: where each begins, and whether teachers take part."""
    across: list[tuple[Stage, Bundle | None, bool]] = [
        ("transfer", students[False], False),
        ("full", students[True], True),
    ]
    alone: list[tuple[Stage, Bundle | None, bool]] = [
        ("scratch", None, False),
        ("distill", None, True),
    ]
    return [*alone, *across] if k else across


def _score(
    store: Store,
    fold: Fold,
    subject: str,
    k: int,
    stage: Stage,
    model: str,
    bundles: Sequence[Bundle],
    base: object = "",
    answer: Callable[[], Answer] | None = None,
) -> dict[str, Any]:
    """Score a subject once and remember the row."""

    def compute() -> dict[str, Any]:
        begin = time.perf_counter()
        decided = answer() if answer else fold.evaluate(bundles, subject)
        seconds = sum(b.origin["seconds"] for b in bundles) or time.perf_counter() - begin
        result = Result(
            dataset=fold.split.dataset,
            fold=fold.split.fold,
            subject=subject,
            stage=stage,
            model=model,
            k=k,
            seed=fold.seed,
            **asdict(score(decided.labels, decided.predicted)),
            parameters=sum(bundle.parameters for bundle in bundles),
            seconds=round(seconds, 3),
        )
        counts = confusion(decided.labels, decided.predicted, fold.spec.classes)
        return {"result": asdict(result), "confusion": counts.tolist()}

    key = digest(base, [bundle.origin["key"] for bundle in bundles])
    return store.value(f"{subject}/k-{k}/scores/{stage}-{model}", key, compute)


def _check(settings: Settings, dataset: Dataset) -> list[int]:
    """Refuse what no stage could use before any work is done; return the folds.

    Raises:
        SettingsError: A fold, subject, K or device is not there.
        ModelError: A model is unknown.
    """
    for model in (*settings.teacher_model, settings.student_model):
        entry(model)
    most = dataset.facts.repetitions
    for k in settings.k:
        if not 0 <= k <= most:
            raise SettingsError(
                f"k: expected 0 to {most} calibration repetitions for {dataset.facts.name}, got {k}"
            )
    try:
        available = torch.device(settings.device).type != "cuda" or torch.cuda.is_available()
    except RuntimeError:
        available = False
    if not available:
        raise SettingsError(f"device: expected one that is here, got '{settings.device}'; use cpu")
    every = range(1, make_split(dataset, 1).folds + 1)
    folds = [fold for fold in settings.fold or every if make_split(dataset, fold)]
    heldout = [s for fold in folds for s in make_split(dataset, fold).heldout]
    for subject in settings.subjects:
        if subject not in heldout:
            raise SettingsError(unknown_name("held-out subject", subject, heldout))
    return folds


def _heldout(settings: Settings, heldout: Sequence[str]) -> list[str]:
    return [s for s in heldout if not settings.subjects or s in settings.subjects]


def _map(
    function: Callable[[tuple[int, int]], list[dict[str, Any]]],
    work: list[tuple[int, int]],
    processes: int,
) -> list[list[dict[str, Any]]]:
    if processes == 1 or len(work) == 1:
        return [function(item) for item in work]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(work)), mp_context=context) as pool:
        return list(pool.map(function, work))


def _say(fold: Fold, subject: str, k: int, rows: Sequence[dict[str, Any]]) -> None:
    """Print one line a subject and K: the teachers' and the students' accuracy."""
    here = [row["result"] for row in rows]
    here = [one for one in here if one["subject"] == subject and one["k"] == k]
    text = ", ".join(f"{one['stage']} {one['model']} {one['accuracy']:.1%}" for one in here)
    where = f"fold {fold.split.fold}, seed {fold.seed}, {subject}, K={k}"
    print(f"{where}: {text}", file=sys.stderr, flush=True)


def _write_confusion(settings: Settings, dataset: Dataset, rows: Iterable[dict[str, Any]]) -> None:
    """Write the counts of each stage and K, summed over subjects and seeds.

    Of the teachers those of the whole group, which stand first.
    """
    counts: dict[str, dict[str, Any]] = {}
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        stage, k = row["result"]["stage"], str(row["result"]["k"])
        if first.setdefault((stage, k), row["result"]["model"]) != row["result"]["model"]:
            continue
        by_k = counts.setdefault(stage, {})
        by_k[k] = by_k.get(k, 0) + np.array(row["confusion"])
    content: dict[str, Any] = {
        stage: {k: table.tolist() for k, table in by_k.items()} for stage, by_k in counts.items()
    }
    content["gestures"] = list(dataset.facts.gestures)
    write_text(settings.out / "confusion.json", json.dumps(content))


def _write_models(settings: Settings, dataset: Dataset) -> None:
    """Write the operations that each model spends on one window."""
    spec = dataset.facts.spec()
    names = dict.fromkeys((*settings.teacher_model, settings.student_model))
    flops = {name: complexity(name, spec).flops for name in names}
    if len(settings.teacher_model) > 1:
        flops["+".join(settings.teacher_model)] = sum(flops[m] for m in settings.teacher_model)
    content = {name: {"flops": count} for name, count in flops.items()}
    write_text(settings.out / "models.json", json.dumps(content, indent=1))


def _write_environment(settings: Settings) -> None:
    packages = ("torch", "numpy", "scipy", "scikit-learn", "pandas")
    content = {
        "versions": {
            "myodistill": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {settings.device}",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    write_text(settings.out / "environment.json", json.dumps(content, indent=1))


_DISTILL = {
    "pretrain",
    "pretrain_student",
    "finetune",
    "distill",
    "teacher_model",
    "student_model",
    "alpha",
    "temp",
}
