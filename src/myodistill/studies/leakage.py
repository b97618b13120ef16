"""How much a leaking split flatters each method: what others publish, beside an honest score.

The way through here is apart from that of runs. It makes no split and no bundle that a run would
take, only a table, a text and a figure that are stamped ``LEAKING``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import myodistill.models  # noqa: F401  registers every family
from myodistill.datasets.dataset import Dataset, require_names
from myodistill.datasets.registry import open_dataset
from myodistill.errors import ModelError, SettingsError, unknown_name
from myodistill.evaluation import results
from myodistill.evaluation.leaking_results import (
    ACCURACY,
    BALANCED,
    FILE,
    HONEST,
    SPLITS,
    TABLE,
    markdown,
    ordered,
)
from myodistill.evaluation.streams import balanced_accuracy
from myodistill.files import LEAKING, write_text
from myodistill.lock import locked_folder
from myodistill.models.classical import CLASSICAL
from myodistill.models.registry import MODELS
from myodistill.processes import worker_pool
from myodistill.reporting.figures.leaking import leaking_splits
from myodistill.signals.disk_cache import scratch
from myodistill.signals.windows import Indices
from myodistill.splits import Split, make_split
from myodistill.studies.leaking_methods import PersonFiles, predict
from myodistill.studies.leaking_splits import (
    LeakingFold,
    personal_folds,
    pooled_fold,
    shuffled,
    subject_fold,
    verdict,
)
from myodistill.studies.preflight import ScoredFold, check_recordings

METHODS = (
    *("lda-time-domain", "lda-log-covariance", "svm-time-domain"),
    *("log-power-30k", "covariance"),
)
"""Two classical baselines, one that remembers windows, a student and a teacher."""
_PERSONAL = ("protocol", "repetition", "random-windows")


@dataclass(frozen=True)
class LeakageStudy:
    """What is compared.

    Attributes:
        dataset: Name of the dataset.
        splits: Some of :data:`~myodistill.evaluation.leaking_results.SPLITS`; the honest ones
            beside which these stand are added.
        methods: Classical ones and networks by name.
        k: Repetitions that calibrate; None for all of a session.
        seed: Of everything that is drawn.
        subjects: Who is scored; none for everybody.

    Raises:
        SettingsError: There is no such split or method, or one is named twice.
    """

    dataset: str
    splits: Sequence[str] = tuple(SPLITS)
    methods: Sequence[str] = METHODS
    k: int | None = None
    seed: int = 0
    subjects: Sequence[str] = ()

    def __post_init__(self) -> None:
        for what in ("splits", "methods", "subjects"):
            names = getattr(self, what)
            if len(set(names)) < len(names) or (not names and what != "subjects"):
                raise SettingsError(f"{what}: expected one or more names, each given once")
        for split in self.splits:
            if split not in SPLITS:
                raise SettingsError(unknown_name("split", split, SPLITS))
        for method in self.methods:
            if method not in CLASSICAL and method not in MODELS:
                raise ModelError(unknown_name("method", method, [*CLASSICAL, *MODELS]))
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed: expected 0 to {2**32 - 1}, got {self.seed:.6g}")

    @property
    def compared(self) -> list[str]:
        """The splits with the honest ones that they need, in the order of tables."""
        wanted = {*self.splits, *(HONEST[split] for split in self.splits if split in HONEST)}
        return [split for split in SPLITS if split in wanted]


@dataclass(frozen=True)
class _Decided:
    """What a method decided for one person's scored windows of one fold."""

    split: str
    method: str
    person: str
    guard: str
    trained: int
    labels: Indices
    decisions: Indices


def evaluate_leakage(study: LeakageStudy, out: Path, *, processes: int = 1) -> pd.DataFrame:
    """Score every method under every split; return a row for each person, split and method.

    Args:
        study: What is compared.
        out: Folder of its own; all files in it begin with ``LEAKING``.
        processes: How many work at once; the result does not depend on it.

    Raises:
        MyoDistillError: A name is unknown, recordings are missing or copied, or ``out`` holds
            anything else.
    """
    dataset = require_names(open_dataset(study.dataset))
    held = _held_out(study, dataset)
    _check(study, dataset, held)
    with (
        locked_folder(out, leaking=True),
        scratch(out / f"{LEAKING}-scratch") as folder,
    ):
        decided = _decide(_Work(study, folder), held, processes)
        frame = _table(study, dataset, decided)
        results.write(frame, out / FILE)
        write_text(out / TABLE, markdown(frame))
        leaking_splits(frame).save(out)
    return frame


def _held_out(study: LeakageStudy, dataset: Dataset) -> dict[str, Split]:
    """Return whom each fold of the dataset's protocol holds out, as far as they are scored."""
    first = make_split(dataset, 1)
    k = first.repetitions if study.k is None else study.k
    first.calibration(first.heldout[0], k)  # refuses a K that there is not
    folds = [first, *(make_split(dataset, fold) for fold in range(2, first.folds + 1))]
    held = {person: split for split in folds for person in split.heldout}
    for person in study.subjects:
        if person not in held:
            raise SettingsError(unknown_name("held-out subject", person, held))
    chosen = study.subjects or [one for one in dataset.subjects() if one in held]
    return {person: held[person] for person in chosen}


def _check(study: LeakageStudy, dataset: Dataset, held: dict[str, Split]) -> None:
    """Check the recordings as a run does: a copied one would make the honest splits leak, too."""
    folds = []
    for split in {split.fold: split for split in held.values()}.values():
        scored = [person for person, own in held.items() if own.fold == split.fold]
        k = split.repetitions if study.k is None else study.k
        folds.append(ScoredFold(split, scored, (k,)))
    check_recordings(dataset, folds)


@dataclass(frozen=True)
class _Work:
    """The parts of a study, each for any process."""

    study: LeakageStudy
    folder: Path

    def prepare(self, person: str, split: Split | None) -> list[_Decided]:
        """Keep one person's windows and features; score what is within the person, if scored."""
        files = self._files((person,))
        windows = {person: files[person].windows()}
        for name in self.study.methods:
            if name in CLASSICAL:
                files[person].features(CLASSICAL[name].features)
        if split is None:
            return []
        folds = [
            fold
            for name in _PERSONAL
            if name in self.study.compared
            for fold in personal_folds(
                name, split, person, windows[person], k=self._k(split), seed=self.study.seed
            )
        ]
        return [row for m in self.study.methods for fold in folds for row in self._score(m, fold)]

    def pool(self, method: str, held: dict[str, Split]) -> list[_Decided]:
        """Score one method on everybody's windows, shuffled together."""
        files = self._files(tuple(held))
        parts = {
            person: shuffled(
                split, person, files[person].windows(), k=self._k(split), seed=self.study.seed
            )
            for person, split in held.items()
        }
        return self._score(method, pooled_fold(parts, seed=self.study.seed))

    def others(self, method: str, split: Split, scored: tuple[str, ...]) -> list[_Decided]:
        """Score one method that has learned from other people."""
        files = self._files((*split.pretraining, *scored))
        windows = {person: one.windows() for person, one in files.items()}
        return self._score(method, subject_fold(split, scored, windows, seed=self.study.seed))

    def _k(self, split: Split) -> int:
        return split.repetitions if self.study.k is None else self.study.k

    def _files(self, people: Sequence[str]) -> dict[str, PersonFiles]:
        torch.set_num_threads(1)
        dataset = _opened(self.study.dataset)
        return {person: PersonFiles(dataset, person, self.folder) for person in people}

    def _score(self, method: str, fold: LeakingFold) -> list[_Decided]:
        files = self._files(tuple(fold.parts))
        windows = {person: one.windows() for person, one in files.items()}
        guard = verdict(fold, windows)
        trained = sum(len(part.train) for part in fold.parts.values())
        return [
            _Decided(
                fold.split, method, person, guard, trained,
                windows[person].labels[fold.parts[person].test], decisions,
            )
            for person, decisions in predict(method, fold, files, seed=self.study.seed).items()
        ]  # fmt: skip


@lru_cache(maxsize=1)
def _opened(name: str) -> Dataset:
    return open_dataset(name)


def _decide(work: _Work, held: dict[str, Split], processes: int) -> list[_Decided]:
    """Do all of the work: everybody by themselves, then what needs several people."""
    compared, methods = work.study.compared, work.study.methods
    people: dict[str, Split | None] = dict(held)
    folds = {split.fold: split for split in held.values()}
    later: list[Callable[[], list[_Decided]]] = []
    if "subject" in compared:
        for fold in folds.values():
            for person in fold.pretraining:
                people.setdefault(person, None)
            scored = tuple(person for person, split in held.items() if split.fold == fold.fold)
            later += [partial(work.others, method, fold, scored) for method in methods]
    if "pooled-windows" in compared:
        later += [partial(work.pool, method, held) for method in methods]
    first = [partial(work.prepare, person, split) for person, split in people.items()]
    _opened.cache_clear()  # the recordings may have changed since
    decided: list[_Decided] = []
    with tqdm(total=len(first) + len(later), desc=LEAKING, disable=None, unit="part") as bar:
        for parts in (first, later):
            for rows in _results(parts, processes):
                decided += rows
                bar.update()
    return decided


def _results(parts: Sequence[Callable[[], Any]], processes: int) -> Any:
    """Yield what calls return, in their order, from several processes if that is asked for."""
    if processes == 1 or len(parts) < 2:
        for part in parts:
            yield part()
        return
    with worker_pool(processes) as pool:
        futures: list[Future[Any]] = [pool.submit(part) for part in parts]
        for future in futures:
            yield future.result()


def _table(study: LeakageStudy, dataset: Dataset, decided: Sequence[_Decided]) -> pd.DataFrame:
    groups: dict[tuple[str, str, str], list[_Decided]] = {}
    for one in decided:
        groups.setdefault((one.method, one.split, one.person), []).append(one)
    rows = []
    for (method, split, person), folds in groups.items():
        labels = np.concatenate([fold.labels for fold in folds])
        decisions = np.concatenate([fold.decisions for fold in folds])
        rows.append(
            {
                "dataset": dataset.facts.name,
                "subject": person,
                "split": split,
                "method": method,
                "guard": folds[0].guard,
                "k": dataset.facts.repetitions if study.k is None else study.k,
                "seed": study.seed,
                "trained": round(np.mean([fold.trained for fold in folds])),
                "windows": len(labels),
                ACCURACY: float((decisions == labels).mean()),
                BALANCED: balanced_accuracy(decisions, labels),
            }
        )
    frame = pd.DataFrame(rows)
    ranks = {name: rank for rank, name in enumerate(study.methods)}
    by_method = frame.sort_values("method", key=lambda c: c.map(ranks), kind="stable")
    return ordered(by_method)
