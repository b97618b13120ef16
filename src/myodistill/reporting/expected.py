"""What people whom a run held out reached, as a population's card tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from myodistill.config import Settings, digest
from myodistill.distillation.model_card import Expected
from myodistill.errors import SettingsError, Wanted, shown
from myodistill.evaluation.results import interval, per_subject
from myodistill.readers import read_json
from myodistill.reporting.run import read_run

_WANTED = Wanted("the settings of a run", SettingsError, "give the folder of a finished run")
_RECIPE = (
    *("dataset", "recentre", "adapt_batch_norm", "alpha", "temperature", "feature_weight"),
    *("teacher_model", "teacher_merge", "calibrate_teachers", "views", "augmentation"),
    *("pretrain", "pretrain_student", "finetune", "distill"),
)
"""Settings that a population shares with a run whose accuracy is to be expected of it."""


def expected_of(folder: Path, settings: Settings) -> tuple[Expected, ...]:
    """Return the accuracy of a run's distilled, pre-trained student by K.

    Args:
        folder: Of the run.
        settings: Of the population; its first student and loss are looked for.

    Raises:
        DataError: The folder is no run, or a file of it is damaged.
        SettingsError: The run is of another recipe, or has no such student.
    """
    run = Settings.load(read_json(folder / "settings.json", _WANTED))
    for name in _RECIPE:
        here, there = getattr(settings, name), getattr(run, name)
        if digest(str(here)) != digest(str(there)):
            raise SettingsError(
                f"expected: expected a run with the {name} {shown(str(here), 60)} of the "
                f"population, {folder} has {shown(str(there), 60)}; run with the same settings"
            )
    table = read_run(folder).table
    mine = table[
        (table["stage"] == "pretrained_distilled")
        & (table["model"] == settings.student_model[0])
        & (table["loss"] == settings.loss[0])
    ]
    if not len(mine):
        raise SettingsError(
            f"expected: expected a run with the student {settings.student_model[0]}, {folder} has "
            f"none; run with --student-model {settings.student_model[0]}"
        )
    return tuple(_by_k(mine))


def _by_k(table: pd.DataFrame) -> Iterator[Expected]:
    for k, rows in table.groupby("k"):
        scores = per_subject(rows)["accuracy"].to_numpy()
        low, high = interval(scores)
        yield Expected(int(str(k)), len(scores), float(scores.mean()), low, high, scores.min())
