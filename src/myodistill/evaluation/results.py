"""The one results table: a row for every score of every subject."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from myodistill.errors import Wanted, unknown_name
from myodistill.files import write_bytes
from myodistill.readers import read_json, read_parquet

Stage = Literal[
    "baseline",
    "pretrain",
    "finetune",
    "supervised",
    "pretrained",
    "distilled",
    "pretrained_distilled",
]

STAGES: dict[str, str] = {
    "baseline": "classical baseline",
    "pretrain": "teacher, not calibrated",
    "finetune": "teacher",
    "supervised": "student, no teacher",
    "pretrained": "student, no teacher, pre-trained",
    "distilled": "student, distilled",
    "pretrained_distilled": "student, distilled, pre-trained",
}
"""The meaning of each stage, in the order of tables.

*pre-trained* students learned across the training subjects first (``pretrained`` from labels alone,
``pretrained_distilled`` from teachers); *distilled* ones learned from a teacher at every step.
"""


METHOD = ["stage", "model", "loss"]
"""The columns that identify a method."""

WHOSE = {**dict.fromkeys((*METHOD, "subject"), "text"), "k": "integer", "seed": "integer"}
"""The columns that identify a row of any table of a run, and what they hold."""


@dataclass(frozen=True)
class Result:
    """One score: a method, one subject, one K, one seed.

    Attributes:
        dataset: Name of the dataset.
        fold: From 1.
        subject: Held-out subject who was scored.
        stage: How the model came to be; one of :data:`STAGES`.
        model: Name of the model.
        loss: Name of the distillation loss; empty for methods without a teacher.
        k: Calibration repetitions.
        seed: Of the training.
        accuracy: Share of windows decided correctly.
        macro_f1: Mean F1 over gestures.
        balanced_accuracy: Mean recall over gestures.
        calibration_error: Expected calibration error of the probabilities.
        windows: How many were scored.
        parameters: Of the network; 0 for a classical method.
        seconds: Time to calibrate this subject.
    """

    dataset: str
    fold: int
    subject: str
    stage: Stage
    model: str
    loss: str
    k: int
    seed: int
    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    calibration_error: float
    windows: int
    parameters: int
    seconds: float


def table(results: Sequence[Result]) -> pd.DataFrame:
    """Return results as one row each, in the order of the stages."""
    return ordered(pd.DataFrame([asdict(result) for result in results], columns=list(_COLUMNS)))


def ordered(
    frame: pd.DataFrame, by: Sequence[str] = (*METHOD, "k", "seed", "fold", "subject")
) -> pd.DataFrame:
    """Sort a table's rows by some columns, stages in the order of :data:`STAGES`."""
    order = {stage: rank for rank, stage in enumerate(STAGES)}
    return frame.sort_values(
        list(by),
        key=lambda column: column.map(order) if column.name == "stage" else column,
        ignore_index=True,
    )


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet, whole or not at all."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_bytes(path, buffer.getvalue())


def read(path: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        DataError: The file is missing, is no Parquet file, or lacks a column of a result.
    """
    return read_rows(path, _WANTED, _COLUMNS)


def read_rows(path: Path, wanted: Wanted, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read a table whose rows belong to methods.

    Args:
        path: Parquet file.
        wanted: What it should be.
        columns: As :func:`myodistill.readers.read_parquet`.

    Raises:
        DataError: It cannot be read, lacks a column, or names an unknown stage.
    """
    frame = read_parquet(path, wanted, columns=columns)
    odd = sorted(set(frame["stage"]) - set(STAGES))
    if _EARLIER & set(odd) or _has_earlier_settings(path.parent / "settings.json"):
        wanted.refuse(path, "the layout of an earlier version; do the run again in a new folder")
    if odd:
        wanted.refuse(path, unknown_name("stage", odd[0], STAGES))
    return frame


def _has_earlier_settings(path: Path) -> bool:
    return path.is_file() and "temp" in read_json(path, _SETTINGS)


def per_subject(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Average seeds: one row per method, K and subject, ordered as :data:`STAGES`."""
    keys = [*METHOD, "k", "subject"]
    return frame.groupby(keys, sort=False, as_index=False).agg(
        **{metric: (metric, "mean"), "parameters": ("parameters", "first")}
    )


def summary(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Macro-average over subjects with a 95 % bootstrap interval.

    Returns:
        Columns ``stage, model, loss, k, mean, low, high, subjects, parameters``; scores in per
        cent.
    """
    rows = []
    for (*method, k), group in per_subject(frame, metric).groupby([*METHOD, "k"], sort=False):
        scores = 100 * group[metric].to_numpy(dtype=float)
        low, high = interval(scores)
        parameters = int(group["parameters"].iloc[0])
        rows.append((*method, k, scores.mean(), low, high, len(scores), parameters))
    names = [*METHOD, "k", "mean", "low", "high", "subjects", "parameters"]
    return pd.DataFrame(rows, columns=names)


def interval(scores: np.ndarray, *, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over subjects.

    (Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13.)

    Args:
        scores: One per subject.
        draws: Resamples.
        seed: Of the resampling.
    """
    rng = np.random.default_rng(seed)
    means = rng.choice(scores, (draws, len(scores))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def named(model: str, loss: str) -> str:
    """Return a model's name in tables: with its loss, unless that is the usual one or none."""
    return model if loss in ("", "soft-target") else f"{model}, {loss}"


def folder(stage: str, model: str, loss: str) -> str:
    """Return the name of a method's folder, and of its scores, below a subject's K."""
    return "-".join((stage, *named(model, loss).split(", ")))


@dataclass(frozen=True)
class Method:
    """What identifies a method: the columns :data:`METHOD` of a table."""

    stage: Stage
    model: str
    loss: str = ""

    @property
    def folder(self) -> str:
        """Name of its folder below a subject's K."""
        return folder(self.stage, self.model, self.loss)


def render(
    frame: pd.DataFrame, metric: str = "accuracy", *, at_chance: pd.DataFrame | None = None
) -> Table:
    """Lay the summary out for a terminal: a row per method, a column per K.

    Args:
        frame: A results table.
        metric: Of its scores.
        at_chance: Methods to mark, see :func:`myodistill.evaluation.protocol.at_chance`.
    """
    ks, rows = _cells(frame, metric, "{mean:.1f} ±{half:.1f}")
    names = [f"{method} · {model.replace('+', ' + ')}" for method, model, *_ in rows]
    longest = max(len(word) for name in ("method", *names) for word in name.split())
    shown = Table(
        title=f"{frame['dataset'].iloc[0]}: {metric.replace('_', ' ')} in %, mean of "
        f"{frame['subject'].nunique()} subjects ± half the 95 % interval",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    # Cells are broken between words only: scores in two lines where there are many Ks.
    shown.add_column("method", min_width=longest, ratio=1)
    shown.add_column("weights", justify="right", no_wrap=True)
    for k in ks:
        shown.add_column(f"K={k}", justify="right", min_width=6)
    stuck = set() if at_chance is None else {*at_chance[[*METHOD, "k"]].itertuples(index=False)}
    methods = frame[METHOD].drop_duplicates().itertuples(index=False)
    for method, name, row in zip(methods, names, rows, strict=True):
        marks = ["", "", *("*" if (*method, k) in stuck else "" for k in ks)]
        cells = [name, _short(row[2]), *row[3:]]
        shown.add_row(*(escape(cell) + mark for cell, mark in zip(cells, marks, strict=True)))
    if stuck:
        shown.caption = "* no better than guessing: nothing was learned"
    return shown


def _short(count: str) -> str:
    """Shorten a number of parameters: ``29,511`` to ``29.5k``."""
    number = int(count.replace(",", "")) if count != "–" else 0
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return count


def markdown(frame: pd.DataFrame) -> str:
    """Write the summary as a Markdown table with the whole intervals."""
    ks, rows = _cells(frame, "accuracy", "{mean:.1f} [{low:.1f}, {high:.1f}]")
    head = ["method", "model", "parameters", *(f"K={k}" for k in ks)]
    rule = ["---", "---", *["---:"] * (len(ks) + 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def _cells(frame: pd.DataFrame, metric: str, form: str) -> tuple[list[int], list[list[str]]]:
    """Return the Ks, and per method its name, model, parameters and a cell per K."""
    overview = summary(frame, metric)
    ks = sorted(overview["k"].unique())
    rows = []
    for (stage, model, loss), group in overview.groupby(METHOD, sort=False):
        numbers = zip(group["k"], group["mean"], group["low"], group["high"], strict=True)
        cells = {
            k: form.format(mean=mean, low=low, high=high, half=(high - low) / 2)
            for k, mean, low, high in numbers
        }
        parameters = int(group["parameters"].iloc[0])
        count = f"{parameters:,}" if parameters else "–"
        shown = named(str(model), str(loss))
        rows.append([STAGES[str(stage)], shown, count, *(cells.get(k, "") for k in ks)])
    return ks, rows


_COLUMNS = {
    name: {"int": "integer", "float": "number"}.get(str(field.type), "text")
    for name, field in Result.__dataclass_fields__.items()
}
_WANTED = Wanted("a results table", advice="run again")
_SETTINGS = Wanted("the settings of a run", advice="run again")
_EARLIER = {"scratch", "transfer", "full", "floor", "distill"}
"""Names of stages in the layout of earlier versions."""
