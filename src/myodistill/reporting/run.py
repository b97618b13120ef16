"""A run folder, read back: what figures and the report are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import Recording
from myodistill.datasets.registry import facts_of, open_dataset
from myodistill.datasets.trees import natural
from myodistill.deploy.parity_table import ParityTable
from myodistill.errors import DataError, Wanted
from myodistill.evaluation import results
from myodistill.evaluation.event_metrics import EVENT_COLUMNS
from myodistill.evaluation.results import STAGES, WHOSE
from myodistill.readers import read_json, read_npz
from myodistill.reporting.bundles import Bundles
from myodistill.splits import Split
from myodistill.validation import checked

Names = tuple[str, ...]
Methods = dict[str, dict[int, str]]
MethodKey = tuple[str, str, str]
"""Stage, model and loss, as in a results table."""
Probabilities = tuple[NDArray[np.integer], NDArray[np.floating]]
"""Labels ``(window,)`` and predicted probabilities ``(window, gesture)`` of one person."""

Confusion = dict[MethodKey, dict[int, NDArray[np.int64]]]

Count = Annotated[int, Field(ge=0, lt=2**62)]


@dataclass(frozen=True)
class _Cost:
    flops: Count


_GESTURES = TypeAdapter(tuple[str, ...])
_MODELS = TypeAdapter(dict[str, _Cost])
_FELT = dict.fromkeys(
    (*EVENT_COLUMNS, "threshold", "onsets", "transitions", "rest_minutes"), "number"
)
EVENTS = {**WHOSE, "votes": "integer", **_FELT}
"""Columns of ``events.parquet`` and what they hold."""
SESSIONS = {**WHOSE, "session": "text", "accuracy": "number"}
"""Columns of ``sessions.parquet`` and what they hold."""


class _Counts(BaseModel):
    """An entry of ``confusion.json``: one method at one K."""

    model_config = ConfigDict(extra="forbid")

    stage: str
    model: str
    loss: str
    k: int
    windows: list[list[Count]]


_COUNTS = TypeAdapter(list[_Counts])


@dataclass(frozen=True)
class Run:
    """What one run left in its folder; parts that it did not leave are empty.

    Attributes:
        folder: Where it is.
        results: The results table.
        settings: Its settings, nested.
        splits: Its folds, in order.
        confusion: Counts ``(gesture performed, decided)`` by method and K.
        gestures: Names that belong to the counts.
        environment: Versions, machine, command.
        flops: Operations for one window by model.
        events: Event metrics of every score, see :mod:`myodistill.evaluation.event_metrics`.
        sessions: Accuracy in each test session, for every score.
        parity_tables: Of the students whose deployed forms were measured, by folder.
        absent: What is missing, and what it would have been used for.
    """

    folder: Path
    results: pd.DataFrame = field(repr=False)
    settings: dict[str, Any] = field(default_factory=dict)
    splits: tuple[Split, ...] = ()
    confusion: Confusion = field(default_factory=dict)
    gestures: tuple[str, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    events: pd.DataFrame | None = field(default=None, repr=False)
    sessions: pd.DataFrame | None = field(default=None, repr=False)
    parity_tables: tuple[ParityTable, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The results table: one row per subject, method, K and seed; accuracies from 0 to 1."""
        return self.results

    def report(self) -> Path:
        """Write ``report.html`` into the folder and return its path.

        Raises:
            DataError: The results are empty, or a file is damaged.
            OutputError: It cannot be written.
        """
        from myodistill.reporting.report import report  # which reads runs

        return report(self.folder)

    @cached_property
    def bundles(self) -> Bundles:
        """The subjects' bundles by ``(subject, K, method)``, each loaded when it is asked for.

        A method is named as its folder: ``run.bundles["Person1", 1,
        "pretrained_distilled-log-power-30k"]``.
        """
        return Bundles(self.folder)

    @property
    def facts(self) -> Facts | None:
        """What is known of the dataset: what the run left, else what the catalogue says."""
        path = self.folder / "facts.json"
        if path.is_file():
            wanted = _damaged("facts of the dataset")
            with wanted.reading(path):
                return Facts.from_dict(read_json(path, wanted))
        return facts_of(str(self.results["dataset"].iloc[0])) if len(self.results) else None

    @cached_property
    def recordings(self) -> list[Recording]:
        """The calibration session of the first subject who was scored, read when first asked for.

        Raises:
            DataError: The dataset is not at hand, or the run names no split.
        """
        if not any(split.heldout for split in self.splits):
            raise DataError(
                "recordings: expected splits/fold-1.json to name a subject, there is none"
            )
        split = next(split for split in self.splits if split.heldout)
        # One of your own is opened by its path, which the settings have; its name is not enough.
        name = str(self.settings.get("dataset", split.dataset))
        recordings = open_dataset(name).recordings(split.heldout[0])
        return [r for r in recordings if r.session == split.calibration_session] or recordings

    def predictions(
        self, methods: Iterable[MethodKey], k: int
    ) -> dict[MethodKey, list[Probabilities]]:
        """Read what some methods predicted for each window, for every subject, with the first seed.

        Args:
            methods: Which.
            k: Calibration repetitions.

        Raises:
            DataError: They were not kept, or a file is damaged.
        """
        result: dict[MethodKey, list[Probabilities]] = {}
        for method in methods:
            rows = self.results[self.results["seed"] == self.results["seed"].min()]
            for name, value in zip(results.METHOD, method, strict=True):
                rows = rows[rows[name] == value]
            result[method] = [
                _predictions(
                    self.folder
                    / f"fold-{row['fold']}/seed-{row['seed']}/{row['subject']}/k-{k}/scores"
                    / f"{results.folder(*method)}.npz"
                )
                for row in rows[rows["k"] == k].to_dict("records")
            ]
        return result

    def calibration_seconds(self) -> float:
        """Return the length of one calibration repetition, all gestures, of the first subject.

        Raises:
            DataError: As :attr:`recordings`.
        """
        notes = [(r.sampling_rate, note) for r in self.recordings for note in r.annotations]
        repetitions = {note.repetition for _, note in notes}
        return sum((note.stop - note.start) / rate for rate, note in notes) / len(repetitions)

    def histories(self) -> pd.DataFrame:
        """Read the training curves from TensorBoard logs anywhere below the folder.

        Returns:
            Columns ``run, phase, stage, measure, epoch, value``. The name of a log's folder begins
            with its stage; what begins with ``pretrain`` belongs to the phase ``across people``,
            all else to ``for one person``.
        """
        rows: list[tuple[str, str, str, str, int, float]] = []
        for log in sorted({path.parent for path in self.folder.rglob("events.out.tfevents.*")}):
            name = "/".join(log.relative_to(self.folder).parts)
            phase, stage = _stage_of(log.name)
            rows.extend(
                (name, phase, stage, measure, epoch, value)
                for measure, epoch, value in _scalars(log)
            )
        columns = ["run", "phase", "stage", "measure", "epoch", "value"]
        return pd.DataFrame(rows, columns=columns)


def _stage_of(name: str) -> tuple[str, str]:
    """Return the phase and the stage of a log by the name of its folder."""
    across = name.startswith("pretrain-")
    rest = name.removeprefix("pretrain-") if across else name
    stage = next((stage for stage in STAGES if rest.startswith(f"{stage}-")), None)
    if across:
        return "across people", stage or "pretrain"
    return "for one person", stage or name


def read_run(folder: Path) -> Run:
    """Read a run folder; only ``results.parquet`` must be there.

    Raises:
        DataError: The results are missing, or a file is damaged.
    """
    absent: list[str] = []
    table = results.read(folder / "results.parquet")
    splits = sorted((folder / "splits").glob("fold-*.json"), key=lambda p: (len(p.name), p))
    if not splits:
        absent.append("splits/fold-N.json (who was trained on and who was scored)")
    settings = _stated(folder / "settings.json", "settings of the run", absent)
    counts = _stated(folder / "confusion.json", "counts of confusions", absent)
    gestures, confusion = _confusions(folder / "confusion.json", counts)
    models = _stated(folder / "models.json", "operations of each model", absent)
    costs = checked(_MODELS, models, folder / "models.json", _damaged("operations of each model"))
    mean_events, sessions = (
        "delays, false activations, missed gestures",
        "scores of each test session",
    )
    return Run(
        folder=folder,
        results=table,
        settings=settings,
        splits=tuple(Split.load(path) for path in splits),
        confusion=confusion,
        gestures=gestures,
        environment=_stated(folder / "environment.json", "versions, machine and command", absent),
        flops={name: cost.flops for name, cost in costs.items()},
        events=_part(folder / "events.parquet", mean_events, EVENTS, absent),
        sessions=_part(folder / "sessions.parquet", sessions, SESSIONS, absent),
        parity_tables=tuple(ParityTable.read(path) for path in _parity_files(folder)),
        absent=tuple(absent),
    )


def _damaged(purpose: str) -> Wanted:
    return Wanted(purpose, advice="the file is damaged, remove it or run again")


def _stated(path: Path, purpose: str, absent: list[str]) -> dict[str, Any]:
    """Read an optional JSON file."""
    if not path.exists():
        absent.append(f"{path.name} ({purpose})")
        return {}
    return read_json(path, _damaged(purpose))


def _confusions(path: Path, content: dict[str, Any]) -> tuple[tuple[str, ...], Confusion]:
    """Return gestures, and counts by method and K; every matrix must be one over the gestures."""
    wanted = _damaged("counts of confusions")
    gestures = checked(_GESTURES, content.get("gestures", []), path, wanted)
    counts = checked(_COUNTS, content.get("counts", []), path, wanted)
    shape = (len(gestures), len(gestures))
    confusion: Confusion = {}
    for one in counts:
        if len(one.windows) != len(gestures) or any(len(r) != len(gestures) for r in one.windows):
            wanted.refuse(path, f"counts at K = {one.k} that are no matrix of shape {shape}")
        by_k = confusion.setdefault((one.stage, one.model, one.loss), {})
        by_k[one.k] = np.array(one.windows, dtype=np.int64).reshape(shape)
    return gestures, confusion


def _part(
    path: Path, purpose: str, columns: dict[str, str], absent: list[str]
) -> pd.DataFrame | None:
    if not path.exists():
        absent.append(f"{path.name} ({purpose})")
        return None
    return results.read_rows(path, _damaged(purpose), columns)


def _predictions(path: Path) -> Probabilities:
    wanted = Wanted(
        "the probabilities of each window beside every score",
        advice="a report over several runs has none, else run again",
        named=f"predictions, {path.name}",  # a report tells no path
    )
    stored = read_npz(path, wanted, ("probabilities", "labels"))
    labels, probabilities = stored["labels"], stored["probabilities"].astype(np.float64)
    if labels.ndim != 1 or probabilities.ndim != 2 or len(labels) != len(probabilities):
        wanted.refuse(path, f"shapes {labels.shape} and {probabilities.shape}")
    totals = probabilities.sum(axis=1, keepdims=True)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and (totals > 0).all()):
        wanted.refuse(path, "numbers that are not probabilities")
    if labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < len(probabilities.T))).all():
        wanted.refuse(path, "labels that are not gestures")
    return labels.astype(np.intp), probabilities / totals  # kept in 16 bits


def _parity_files(folder: Path) -> list[Path]:
    """The files that ``myodistill deploy-report`` left beside bundles."""
    return sorted(folder.glob("fold-*/seed-*/*/k-*/*/parity.json"), key=lambda p: natural(str(p)))


def _scalars(log: Path) -> list[tuple[str, int, float]]:
    # Seconds to import, and needed for one figure only.
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    scalars: list[tuple[str, int, float]] = []
    for path in sorted(log.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            scalars.extend(
                (value.tag, event.step, float(make_ndarray(value.tensor)))
                for value in event.summary.value
                if value.HasField("tensor")
            )
    return scalars
