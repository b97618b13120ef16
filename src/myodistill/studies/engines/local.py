"""The work of a run on this machine: one process a core, each with whole folds where possible."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch

import myodistill.models  # noqa: F401  registers every family
from myodistill.config import Settings
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.data import FoldData
from myodistill.distillation.digests import KnownDigests
from myodistill.processes import worker_pool
from myodistill.signals.disk_cache import give_back_memory, scratch
from myodistill.splits import make_split
from myodistill.studies.runner import ExperimentRunner, Row, Until

Item = tuple[int, int, str]
"""Fold, seed and subject."""

_SCRATCH = ".scratch"
"""Folder within a run's own, there while it runs."""


def run_items(
    settings: Settings,
    until: Until,
    items: list[Item],
    known: KnownDigests,
    tick: Callable[[], None],
) -> list[Row]:
    """Do what folds and seeds share, then their subjects, in ``settings.processes`` processes.

    A process does whole folds and seeds, one after another; where there are too few of these for
    all processes, subjects are shared out, too.

    Args:
        settings: Of the run.
        until: How far to go.
        items: Fold, seed and subject of all that is to be scored.
        known: Digests of the recordings of everybody who takes part.
        tick: Called once for each fold and seed, once for each subject.
    """
    try:
        with scratch(settings.out / _SCRATCH):
            return _in_processes(settings, until, items, known, tick)
    finally:
        for kept in (_work, _fold_data):  # the next run may find other recordings
            kept.cache_clear()


def _in_processes(
    settings: Settings,
    until: Until,
    items: list[Item],
    known: KnownDigests,
    tick: Callable[[], None],
) -> list[Row]:
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
    with worker_pool(processes) as pool:
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


@lru_cache(maxsize=1)
def _fold_data(text: str, known: KnownDigests, fold: int) -> FoldData:
    settings = Settings.model_validate_json(text)
    torch.set_num_threads(settings.threads)
    give_back_memory()
    dataset = open_dataset(settings.dataset)
    outputs = settings.out / f"fold-{fold}" / "teacher-outputs"
    split = make_split(dataset, fold, settings.cross_validation)
    return FoldData(dataset, split, settings, outputs, known, settings.out / _SCRATCH)


@lru_cache(maxsize=1)
def _work(text: str, known: KnownDigests, fold: int, seed: int) -> ExperimentRunner:
    return ExperimentRunner(Settings.model_validate_json(text), _fold_data(text, known, fold), seed)


def _prepare(settings: str, known: KnownDigests, until: Until, item: tuple[int, int]) -> None:
    _work(settings, known, *item).prepare(until)


def _subject(settings: str, known: KnownDigests, until: Until, item: Item) -> list[Row]:
    return _work(settings, known, *item[:2]).subject(until, item[2])


def _of(pair: tuple[int, int], items: list[Item]) -> list[Item]:
    return [item for item in items if item[:2] == pair]


def _whole(
    text: str, known: KnownDigests, until: Until, pair: tuple[int, int], items: list[Item]
) -> list[list[Row]]:
    _prepare(text, known, until, pair)
    return [_subject(text, known, until, item) for item in items]
