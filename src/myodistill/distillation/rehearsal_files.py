"""The training subjects of a population on disk: what their calibrations rehearse, and no signal.

::

    windows.safetensors   label, subject, last repetition and place of each window; the template;
                          fingerprints, by which a copy of a recording is found
    <front>.npy           what a fixed front gives for each window, shape (window, ...)
    signal.npy            pre-processed signals end to end, for networks without a fixed front
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from safetensors.torch import save
from torch import Tensor

from myodistill.datasets.recording import Repetition
from myodistill.distillation.data import FoldData
from myodistill.distillation.digests import SubjectDigests
from myodistill.distillation.window_sets import Alignment, Rehearsal, TrainingSet
from myodistill.errors import PopulationError, Wanted
from myodistill.files import write_bytes, writing
from myodistill.models.orientation import Template
from myodistill.readers import read_tensors
from myodistill.signals.disk_cache import DiskRows, write_rows
from myodistill.signals.duplicates import DuplicateFinder
from myodistill.training.batches import Inputs
from myodistill.training.inputs import FeatureInputs, SignalInputs
from myodistill.validation import checked

_TENSORS = "windows.safetensors"
_SIGNAL = "signal"
_WANTED = Wanted("a population", PopulationError, "make it again with pretrain")
_ROWS = 1024
Size = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RehearsalCard:
    """What the card of a population says of its windows.

    Attributes:
        fronts: By model, the name of the file with what its front gives.
        samples: Length of a window.
        seen: Subject, session and number of every repetition.
        digests: Of each subject's recordings.
        stretches: Subject, session, repetition, gesture and number of fingerprints of each stretch.
        windows: Hash of the windows and of their signals.
    """

    fronts: dict[str, str]
    samples: int
    seen: list[tuple[str, str, Size]]
    digests: list[tuple[str, str]]
    stretches: list[tuple[str, str, int, int, Size]]
    windows: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, values: object, place: Path) -> RehearsalCard:
        """Return what :meth:`to_dict` made.

        Raises:
            PopulationError: It is something else.
        """
        return checked(TypeAdapter(cls), values, place, _WANTED)


def rehearsal_of(data: FoldData, models: Iterable[str]) -> Rehearsal:
    """Return the training subjects of a fold as a later calibration rehearses them.

    Args:
        data: Of the fold; its windows stay where they are.
        models: That are going to be calibrated.
    """
    return Rehearsal(
        {model: _as_recorded(data.training_set(model)) for model in models},
        data.subjects.alignment,
        tuple((who, data.digests.of(who)) for who in data.split.pretraining),
    )


def write_rehearsal(
    folder: Path, rehearsal: Rehearsal, prints: DuplicateFinder, samples: int
) -> RehearsalCard:
    """Write a rehearsal into a folder; return what the population's card says of it.

    Raises:
        OutputError: It cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    fronts: dict[str, str] = {}
    names: dict[int, str] = {}
    starts = torch.zeros(0, dtype=torch.int64)
    for model, training_set in rehearsal.training_sets.items():
        inputs = training_set.inputs
        if isinstance(inputs, SignalInputs):
            fronts[model], starts = _SIGNAL, inputs.starts.cpu()
            rows: Any = inputs.signal
        else:
            assert isinstance(inputs, FeatureInputs)
            rows = inputs
            # Models whose fronts are alike share their rows.
            fronts[model] = names.setdefault(id(inputs.rows()), f"front-{len(names) + 1}")
        if not (folder / f"{fronts[model]}.npy").exists():
            _write(folder / f"{fronts[model]}.npy", rows)
    training_set = next(iter(rehearsal.training_sets.values()))
    stretches, fingerprints = prints.to_arrays()
    tensors = {
        "labels": training_set.labels,
        "subjects": training_set.subjects,
        "in_last_repetition": training_set.in_last_repetition,
        "starts": starts,
        "fingerprints": torch.from_numpy(fingerprints.view(np.int64)),
    }
    if rehearsal.alignment is not None:
        template = rehearsal.alignment.template
        tensors |= {"means": template.means, "precision": template.precision}
    write_bytes(folder / _TENSORS, save({n: t.contiguous() for n, t in tensors.items()}))
    return RehearsalCard(
        fronts=fronts,
        samples=samples,
        seen=[(r.subject, r.session, r.index) for r in sorted(training_set.seen)],
        digests=[(subject, one.whole) for subject, one in rehearsal.digests],
        stretches=stretches,
        windows=training_set.digest,
    )


def read_rehearsal(folder: Path, card: RehearsalCard) -> tuple[Rehearsal, DuplicateFinder]:
    """Read what :func:`write_rehearsal` wrote; windows stay on disk until they are asked for.

    Raises:
        CacheError: A file of rows is damaged.
        PopulationError: Another file is damaged, or they do not go together.
    """
    tensors, _ = read_tensors(folder / _TENSORS, _WANTED)
    with _WANTED.reading(folder):
        labels = tensors["labels"]
        seen = frozenset(Repetition(*entry) for entry in card.seen)
        alignment = None
        if "means" in tensors:
            alignment = Alignment(Template(tensors["means"], tensors["precision"]), seen)
        files = {name: DiskRows.open(folder / f"{name}.npy") for name in set(card.fronts.values())}
        sets = {
            model: TrainingSet(
                inputs=_inputs(files[name], name, tensors["starts"], card.samples),
                labels=labels,
                in_last_repetition=tensors["in_last_repetition"],
                digest=card.windows,
                subjects=tensors["subjects"],
                seen=seen,
            )
            for model, name in card.fronts.items()
        }
        for one in sets.values():
            if not len(one.inputs) == len(labels) == len(one.subjects):
                raise ValueError(f"{len(one.inputs)} windows with {len(labels)} labels")
        fingerprints = tensors["fingerprints"].numpy().view(np.uint64)
        prints = DuplicateFinder.from_arrays(card.samples, card.stretches, fingerprints)
    digests = tuple((who, SubjectDigests(whole, (), "")) for who, whole in card.digests)
    return Rehearsal(sets, alignment, digests), prints


def _as_recorded(training_set: TrainingSet) -> TrainingSet:
    """Return a training set that is the same in every view."""
    inputs = training_set.inputs
    if isinstance(inputs, SignalInputs):
        return replace(training_set, inputs=replace(inputs, augmenter=None))
    assert isinstance(inputs, FeatureInputs)
    return replace(training_set, inputs=inputs.as_recorded())


def _inputs(rows: DiskRows, name: str, starts: Tensor, samples: int) -> Inputs:
    if name == _SIGNAL:
        return SignalInputs(rows, starts, samples, None)
    return FeatureInputs(lambda view: rows)


def _write(path: Path, rows: Any) -> None:
    """Write what is indexed by tensors of numbers as an ``.npy`` file, some rows at a time."""
    parts = torch.split(torch.arange(len(rows)), _ROWS)
    shape = (len(rows), *rows[torch.arange(1)].shape[1:])
    with writing(path):
        write_rows(path, shape, (rows[indices].cpu().numpy() for indices in parts))
