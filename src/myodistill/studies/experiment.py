"""A whole run: every stage for chosen folds, seeds and subjects; nothing valid is done twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pandas as pd
import torch

import myodistill.models  # noqa: F401  registers every family
from myodistill.config import Settings
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.registry import open_dataset
from myodistill.errors import ModelError, SettingsError, unknown_name
from myodistill.evaluation.protocol import CLASSICAL as CLASSICAL_STAGES
from myodistill.evaluation.protocol import at_chance, method_name
from myodistill.lock import locked_folder
from myodistill.models.classical import CLASSICAL
from myodistill.models.registry import build, entry, models
from myodistill.plugins import load_plugins
from myodistill.signals.augmentation import require_augmentations
from myodistill.splits import Split, make_split
from myodistill.studies.engines import local
from myodistill.studies.engines.local import Item
from myodistill.studies.preflight import ScoredFold, check_recordings
from myodistill.studies.run_writer import RunWriter
from myodistill.studies.runner import Until, scored
from myodistill.training.losses import FEATURE_LOSSES, require_loss
from myodistill.training.tasks import require_features

_log = logging.getLogger(__name__)


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
    load_plugins(settings.plugin)
    dataset = open_dataset(settings.dataset)
    splits = _splits(settings, dataset)
    known = check_recordings(
        dataset, [ScoredFold(s, scored(settings, s), settings.k) for s in splits]
    )
    record = RunWriter(settings, dataset, known, add=until == "baseline")
    record.check()
    with locked_folder(settings.out):
        items = _items(settings, splits)
        rows = local.run_items(settings, until, items, known, tick)
        table = record.finish(rows, splits)
    _warn_of_chance(table, len(dataset.facts.gestures))
    return table


def _warn_of_chance(table: pd.DataFrame, gestures: int) -> None:
    """Warn in one line of networks that are no better than chance."""
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
    load_plugins(settings.plugin)
    dataset = open_dataset(settings.dataset)
    items = _items(settings, _splits(settings, dataset))
    return len(items) + len({item[:2] for item in items})


def _items(settings: Settings, splits: Sequence[Split]) -> list[Item]:
    """Return fold, seed and subject of all that is to be scored."""
    return [
        (split.fold, seed, subject)
        for split in splits
        for seed in settings.seed
        for subject in scored(settings, split)
    ]


def _splits(settings: Settings, dataset: Dataset) -> list[Split]:
    """Refuse unusable settings before any work is done; return the folds.

    Raises:
        SettingsError: A fold, subject, K or device does not exist.
        ModelError: A model is unknown.
    """
    for model in (*settings.teacher_model, *settings.student_model):
        entry(model)
    for name in settings.baseline:
        if "@" in name:
            entry(name)
        elif name not in CLASSICAL and name not in models():
            raise ModelError(unknown_name("baseline", name, (*CLASSICAL, *models())))
    for loss in settings.loss:
        require_loss(loss, len(dataset.facts.gestures))
    require_augmentations(name for name, _ in settings.augmentation.extra)
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
        raise SettingsError(
            f"device: expected one of this machine, got '{settings.device}'; use cpu"
        )
    kind = settings.cross_validation
    all_folds = range(1, make_split(dataset, 1, kind).folds + 1)
    splits = [make_split(dataset, fold, kind) for fold in settings.fold or all_folds]
    heldout = [who for split in splits for who in split.heldout]
    for subject in settings.subjects:
        if subject not in heldout:
            raise SettingsError(unknown_name("held-out subject", subject, heldout))
    return splits


def _require_models(settings: Settings, dataset: Dataset) -> None:
    """Build each model once, before hours are spent on training.

    Raises:
        ModelError: It does not fit the signal, or has no features and a loss compares them.
    """
    compared = set(settings.loss) & set(FEATURE_LOSSES)
    students = settings.student_model
    for name in dict.fromkeys((*settings.teacher_model, *students, *settings.baseline)):
        if name in CLASSICAL:
            continue
        with torch.device("meta" if entry(name).ours else "cpu"):
            network = build(name, dataset.facts.spec())
        for loss in sorted(compared) if name in students else ():
            require_features(network, loss)
