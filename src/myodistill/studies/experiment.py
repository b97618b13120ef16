"""A whole run: every stage for chosen folds, seeds and subjects; nothing valid is done twice."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial

import pandas as pd
import torch

import myodistill.models  # noqa: F401  registers every family
from myodistill.config import Settings
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.data import FoldData
from myodistill.distillation.digests import KnownDigests
from myodistill.errors import ModelError, SettingsError, unknown_name
from myodistill.evaluation.protocol import CLASSICAL as CLASSICAL_STAGES
from myodistill.evaluation.protocol import at_chance, method_name
from myodistill.models.classical import CLASSICAL
from myodistill.models.registry import build, entry, models
from myodistill.signals.disk_cache import give_back_memory, scratch
from myodistill.splits import Split, make_split
from myodistill.studies.lock import locked_folder
from myodistill.studies.preflight import ScoredFold, check_recordings
from myodistill.studies.run_writer import RunWriter
from myodistill.studies.runner import ExperimentRunner, Row, Until, scored
from myodistill.training.losses import LOSSES
from myodistill.training.tasks import FEATURE_LOSSES, require_features

_log = logging.getLogger(__name__)
Item = tuple[int, int, str]
_SCRATCH = ".scratch"
"""Folder within a run's own, there while it runs."""


def run_experiment(
    settings: Settings, *, until: Until = "distill", tick: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Run the stages up to ``until`` and return the results table; empty if nothing was scored.

    Everything goes to ``settings.out``: a folder per fold and seed with a bundle per stage, and at
    the end ``results.parquet``, ``events.parquet``, ``confusion.json``, ``models.json``, and what
    describes them: ``splits/``, ``recordings.json``, ``environment.json`` and ``settings.json``. A
    stage whose bundle is there and still fits its settings, data and teachers is not done again.
    Up to ``"baseline"`` no teacher takes part, and rows are added to those that are there.

    Args:
        settings: Of the run.
        until: How far to go.
        tick: Called after each of :func:`steps`.

    Raises:
        MyoDistillError: A setting is wrong, data is missing, damaged or copied, training diverged,
            the folder is not writable or in use.
    """
    dataset = open_dataset(settings.dataset)
    splits = [make_split(dataset, fold) for fold in _check(settings, dataset)]
    known = check_recordings(
        dataset, [ScoredFold(s, scored(settings, s), settings.k) for s in splits]
    )
    record = RunWriter(settings, dataset, known, add=until == "baseline")
    record.check()
    with locked_folder(settings.out):
        items = _items(settings, splits)
        try:
            with scratch(settings.out / _SCRATCH):
                rows = _in_processes(settings, until, items, known, tick)
        finally:
            for kept in (_work, _material):  # the next run may find other recordings
                kept.cache_clear()
        table = record.finish(rows, splits)
    _warn_of_chance(table, len(dataset.facts.gestures))
    return table


def _warn_of_chance(table: pd.DataFrame, gestures: int) -> None:
    """Say in one line which networks are no better than chance."""
    networks = table[~table["stage"].isin(CLASSICAL_STAGES)]
    for row in at_chance(networks, gestures).to_dict("records") if len(networks) else ():
        _log.warning(
            "warning: %s at K=%d is no better than chance (balanced accuracy %.1f %%, guessing "
            "%.1f %%); look at the learning rates",
            method_name(row["stage"], row["model"], row["loss"]),
            row["k"],
            100 * row["balanced_accuracy"],
            100 * row["chance"],
        )


def steps(settings: Settings) -> int:
    """Return how often a whole run ticks: once for each fold and seed, once for each subject.

    Raises:
        MyoDistillError: A setting is wrong or the dataset is not at hand.
    """
    dataset = open_dataset(settings.dataset)
    items = _items(settings, [make_split(dataset, f) for f in _check(settings, dataset)])
    return len(items) + len({item[:2] for item in items})


def _items(settings: Settings, splits: Sequence[Split]) -> list[Item]:
    """Return fold, seed and subject of all that is to be scored."""
    return [
        (split.fold, seed, subject)
        for split in splits
        for seed in settings.seed
        for subject in scored(settings, split)
    ]


@lru_cache(maxsize=1)
def _material(text: str, known: KnownDigests, fold: int) -> FoldData:
    settings = Settings.model_validate_json(text)
    torch.set_num_threads(settings.threads)
    give_back_memory()
    dataset = open_dataset(settings.dataset)
    outputs = settings.out / f"fold-{fold}" / "teacher-outputs"
    split = make_split(dataset, fold)
    return FoldData(dataset, split, settings, outputs, known, settings.out / _SCRATCH)


@lru_cache(maxsize=1)
def _work(text: str, known: KnownDigests, fold: int, seed: int) -> ExperimentRunner:
    return ExperimentRunner(Settings.model_validate_json(text), _material(text, known, fold), seed)


def _prepare(settings: str, known: KnownDigests, until: Until, item: tuple[int, int]) -> None:
    _work(settings, known, *item).prepare(until)


def _subject(settings: str, known: KnownDigests, until: Until, item: Item) -> list[Row]:
    return _work(settings, known, *item[:2]).subject(until, item[2])


def _check(settings: Settings, dataset: Dataset) -> list[int]:
    """Refuse what no stage could use before any work is done; return the folds.

    Raises:
        SettingsError: A fold, subject, K or device is not there.
        ModelError: A model is unknown.
    """
    for model in (*settings.teacher_model, *settings.student_model):
        entry(model)
    for name in settings.baseline:
        if name not in CLASSICAL and name not in models():
            raise ModelError(unknown_name("baseline", name, (*CLASSICAL, *models())))
    for loss in settings.loss:
        if loss not in (*LOSSES, *FEATURE_LOSSES):
            raise SettingsError(unknown_name("loss", loss, (*LOSSES, *FEATURE_LOSSES)))
    _require_models(settings, dataset)
    if settings.augmentation.mixup and set(settings.loss) & set(FEATURE_LOSSES):
        raise SettingsError(
            "loss: expected a loss over logits with augmentation.mixup, as features of mixed "
            "windows are not known; leave one of the two out"
        )
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


def _require_models(settings: Settings, dataset: Dataset) -> None:
    """Build what somebody else registered once, before hours go into its teachers.

    Raises:
        ModelError: It does not fit the signal, or has no features and a loss compares them.
    """
    compared = set(settings.loss) & set(FEATURE_LOSSES)
    students = settings.student_model
    for name in dict.fromkeys((*settings.teacher_model, *students, *settings.baseline)):
        if name not in CLASSICAL and not entry(name).ours:
            network = build(name, dataset.facts.spec())
            for loss in sorted(compared) if name in students else ():
                require_features(network, loss)


def _in_processes(
    settings: Settings,
    until: Until,
    items: list[Item],
    known: KnownDigests,
    tick: Callable[[], None],
) -> list[Row]:
    """Do what folds and seeds share, then their subjects, in one process a core.

    A process does whole folds and seeds, one after another; where there are too few of these for
    all processes, subjects are shared out, too.
    """
    text = settings.model_dump_json()
    pairs = list(dict.fromkeys(item[:2] for item in items))
    prepare, score = partial(_prepare, text, known, until), partial(_subject, text, known, until)
    subjects = items if until != "pretrain" else []
    processes = min(settings.processes, max(len(items), 1))
    rows: list[Row] = []

    def done(part: list[Row]) -> None:
        rows.extend(part)
        tick()

    if processes == 1:
        for pair in pairs:
            prepare(pair)
            tick()
            for item in _of(pair, subjects):
                done(score(item))
        return rows
    whole = partial(_whole, text, known, until)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, context, initializer=_end_with, initargs=(os.getpid(),)
    ) as pool:
        if len(pairs) >= 2 * processes:
            for parts in pool.map(whole, pairs, [_of(pair, subjects) for pair in pairs]):
                tick()
                for part in parts:
                    done(part)
        else:
            for _ in pool.map(prepare, pairs):
                tick()
            for part in pool.map(score, subjects):
                done(part)
    return rows


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a run that is killed leaves nobody working."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _of(pair: tuple[int, int], items: list[Item]) -> list[Item]:
    return [item for item in items if item[:2] == pair]


def _whole(
    text: str, known: KnownDigests, until: Until, pair: tuple[int, int], items: list[Item]
) -> list[list[Row]]:
    _prepare(text, known, until, pair)
    return [_subject(text, known, until, item) for item in items]
