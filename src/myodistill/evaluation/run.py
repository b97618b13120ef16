"""A run folder, read back: what figures and the report are made of."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from myodistill.datasets.catalogue import facts_of, open_dataset
from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import Recording
from myodistill.datasets.trees import natural
from myodistill.deploy.rungs import Ladder
from myodistill.errors import DataError
from myodistill.evaluation import results
from myodistill.evaluation.results import STAGES
from myodistill.splits import Split

T = TypeVar("T")
Method = tuple[str, str, str]
"""Stage, model and loss, as in a results table."""
Answers = tuple[NDArray[np.integer], NDArray[np.floating]]
"""Labels ``(window,)`` and probabilities ``(window, gesture)`` of one person."""

Confusion = dict[Method, dict[int, NDArray[np.int64]]]
Counts = tuple[tuple[str, ...], Confusion]


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
        events: Event metrics of every score, see :mod:`myodistill.evaluation.wearing`.
        sessions: Accuracy in each test session, for every score.
        ladders: Of the students that were taken down the parity ladder, in order of their folders.
        absent: What is not there, and what it would have been good for.
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
    ladders: tuple[Ladder, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def facts(self) -> Facts | None:
        """What is known of the dataset: what the run left, else what the catalogue says."""
        path = self.folder / "facts.json"
        if path.is_file():
            try:
                return Facts.from_dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: expected facts, got: {str(error)[:120]}") from error
        return facts_of(str(self.results["dataset"].iloc[0])) if len(self.results) else None

    @cached_property
    def recordings(self) -> list[Recording]:
        """The calibration session of the first subject who was scored, read when first asked for.

        Raises:
            DataError: The dataset is not at hand, or the run names no split.
        """
        if not self.splits:
            raise DataError(
                "recordings: expected splits/fold-1.json to name a subject, there is none"
            )
        split = self.splits[0]
        # One of your own is opened by its path, which the settings have; its name is not enough.
        name = str(self.settings.get("dataset", split.dataset))
        every = open_dataset(name).recordings(split.heldout[0])
        return [r for r in every if r.session == split.calibration_session] or every

    def answers(self, methods: Iterable[Method], k: int) -> dict[Method, list[Answers]]:
        """Read what some methods answered to each window, for every subject, with the first seed.

        Args:
            methods: Which.
            k: Calibration repetitions.

        Raises:
            DataError: They were not kept, or a file is damaged.
        """
        found: dict[Method, list[Answers]] = {}
        for method in methods:
            rows = self.results[self.results["seed"] == self.results["seed"].min()]
            for name, value in zip(results.METHOD, method, strict=True):
                rows = rows[rows[name] == value]
            found[method] = [
                _answers(
                    self.folder
                    / f"fold-{row['fold']}/seed-{row['seed']}/{row['subject']}/k-{k}/scores"
                    / f"{results.folder(*method)}.npz"
                )
                for row in rows[rows["k"] == k].to_dict("records")
            ]
        return found

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

    def optional(name: str, purpose: str, read: Callable[[Any], T], empty: T) -> T:
        path = folder / name
        if not path.is_file():
            absent.append(f"{name} ({purpose})")
            return empty
        try:
            return read(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path}: expected {purpose}, got: {str(error)[:120]}; the file is damaged, "
                f"remove it or run again"
            ) from error

    table = results.read(folder / "results.parquet")
    settings: dict[str, Any] = optional("settings.json", "settings of the run", dict, {})
    nothing: Counts = ((), {})
    gestures, confusion = optional("confusion.json", "counts of confusions", _counts, nothing)
    if gestures and not confusion:
        absent.append("confusion.json (of this version: run again to have confusions shown)")
    splits = []
    for path in sorted((folder / "splits").glob("fold-*.json"), key=lambda p: (len(p.name), p)):
        try:
            splits.append(Split.load(path))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: expected a split, got: {error}; run again") from error
    if not splits:
        absent.append("splits/fold-N.json (who was trained on and who was scored)")
    return Run(
        folder=folder,
        results=table,
        settings=settings,
        splits=tuple(splits),
        confusion=confusion,
        gestures=gestures,
        environment=optional("environment.json", "versions, machine and command", dict, {}),
        flops=optional(
            "models.json",
            "operations of each model",
            lambda models: {name: int(entry["flops"]) for name, entry in models.items()},
            {},
        ),
        ladders=tuple(Ladder.read(path) for path in _ladders(folder)),
        events=_part(
            folder / "events.parquet", "delays, false activations, missed gestures", absent
        ),
        sessions=_part(folder / "sessions.parquet", "scores of each test session", absent),
        absent=tuple(absent),
    )


def _counts(content: dict[str, Any]) -> Counts:
    """Gestures, and counts by method and K."""
    found: Confusion = {}
    for one in content.get("counts", ()):
        method = (str(one["stage"]), str(one["model"]), str(one["loss"]))
        found.setdefault(method, {})[int(one["k"])] = np.asarray(one["windows"], dtype=np.int64)
    return tuple(str(name) for name in content["gestures"]), found


def _part(path: Path, purpose: str, absent: list[str]) -> pd.DataFrame | None:
    if not path.is_file():
        absent.append(f"{path.name} ({purpose})")
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: expected {purpose}, got: {str(error)[:120]}; the file is damaged, "
            f"remove it or run again"
        ) from error


def _answers(path: Path) -> Answers:
    try:
        with np.load(path, allow_pickle=False) as stored:
            probabilities = stored["probabilities"].astype(np.float64)
            labels = stored["labels"].astype(np.intp)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"answers: expected the probabilities of each window beside every score, "
            f"{path.name} is missing or damaged; a report over several runs has none, else run "
            f"again"
        ) from error
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)  # kept in 16 bits


def _ladders(folder: Path) -> list[Path]:
    """The files that ``myodistill deploy-report`` left beside bundles."""
    return sorted(folder.glob("fold-*/seed-*/*/k-*/*/ladder.json"), key=lambda p: natural(str(p)))


def _scalars(log: Path) -> list[tuple[str, int, float]]:
    # Seconds to import, and needed for one figure only.
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found: list[tuple[str, int, float]] = []
    for path in sorted(log.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            found.extend(
                (value.tag, event.step, float(make_ndarray(value.tensor)))
                for value in event.summary.value
                if value.HasField("tensor")
            )
    return found
