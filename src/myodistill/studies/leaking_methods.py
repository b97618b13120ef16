"""Methods as the study of leaking splits trains them: predictions, and nothing that could be kept.

No bundle is made: what has learned from a leaking split must not be scored, exported or used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from myodistill.config import Distillation, StudentPretraining
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Repetition, SignalSpec
from myodistill.distillation.subjects import Part, Subject, make_inputs
from myodistill.distillation.teacher_outputs import predict_outputs
from myodistill.models.base import split_network
from myodistill.models.classical import CLASSICAL, FEATURES, as_cut, fit, in_band
from myodistill.models.closed_form import ClosedFormNetwork
from myodistill.models.registry import build
from myodistill.signals.disk_cache import kept
from myodistill.signals.features import Features
from myodistill.signals.preprocessing import Preprocessing, recentring
from myodistill.signals.windows import Indices, Windows
from myodistill.studies.leaking_splits import LeakingFold, PersonPart
from myodistill.training.batches import Batches, Inputs, SubsetInputs
from myodistill.training.loop import train
from myodistill.training.sampler import BatchSampler
from myodistill.training.tasks import Task

ONE_PERSON = Distillation(num_epochs=12)
MANY_PEOPLE = StudentPretraining(num_epochs=15)
"""How a network is trained: within one person, and on people together."""


@dataclass(frozen=True)
class PersonFiles:
    """One person's windows and features, computed once and kept in files.

    Attributes:
        dataset: Source of the recordings.
        name: Of the person.
        folder: Of the files.
    """

    dataset: Dataset
    name: str
    folder: Path

    def windows(self) -> Windows:
        """Open the windows of the protocol, filtered."""
        facts = self.dataset.facts

        def make() -> Windows:
            return in_band(self.dataset.recordings(self.name), facts, facts.passband)

        return kept(self.folder / f"{self._number}.safetensors", make)

    def features(self, name: str) -> Features:
        """Open a classical feature set of these windows, ``(window, ...)``."""
        path = self.folder / f"{self._number}-{name}.npy"
        if not path.is_file():
            recordings = self.dataset.recordings(self.name)
            np.save(path, FEATURES[name](recordings, self.dataset.facts, as_cut)[1])
        return np.asarray(np.load(path, mmap_mode="r"))

    @property
    def _number(self) -> int:
        return self.dataset.subjects().index(self.name)


def predict(
    method: str, fold: LeakingFold, people: Mapping[str, PersonFiles], *, seed: int
) -> dict[str, Indices]:
    """Train a method on a fold; return the gesture that it decides for every scored window.

    Args:
        method: A classical one, or a network.
        fold: What trains and what is scored.
        people: Of the fold.
        seed: Of weights, order and forests.

    Raises:
        MyoDistillError: The method is unknown or cannot read such windows, fewer than two gestures
            train, or training diverged.
    """
    train_on = _classical if method in CLASSICAL else _network
    return train_on(method, fold, people, seed)


def _classical(
    name: str, fold: LeakingFold, people: Mapping[str, PersonFiles], seed: int
) -> dict[str, Indices]:
    method = CLASSICAL[name]
    features = {person: people[person].features(method.features) for person in fold.parts}
    learned = [features[person][part.train] for person, part in fold.parts.items()]
    labels = [people[person].windows().labels[part.train] for person, part in fold.parts.items()]
    classes = len(next(iter(people.values())).dataset.facts.gestures)
    fitted = fit(
        method, np.concatenate(learned), np.concatenate(labels), classes=classes, seed=seed
    )
    return {
        person: fitted(features[person][part.test]).argmax(axis=1)
        for person, part in fold.parts.items()
        if len(part.test)
    }


def _network(
    name: str, fold: LeakingFold, people: Mapping[str, PersonFiles], seed: int
) -> dict[str, Indices]:
    spec = next(iter(people.values())).dataset.facts.spec()
    network = build(name, spec, seed=seed)
    parts = [_recentred(people[person], spec, part) for person, part in fold.parts.items()]
    inputs = make_inputs(network, parts)
    # Each person's windows that train come first, those that are scored after them.
    lengths = [(len(part.train), len(part.test)) for part in fold.parts.values()]
    begins = np.cumsum([0, *map(sum, lengths)])[:-1]
    firsts = [np.arange(n) + begin for (n, _), begin in zip(lengths, begins, strict=True)]
    learned = torch.from_numpy(np.concatenate(firsts))
    labels = torch.from_numpy(
        np.concatenate(
            [
                people[person].windows().labels[np.concatenate([part.train, part.test])]
                for person, part in fold.parts.items()
            ]
        )
    )
    owners = torch.from_numpy(np.repeat(np.arange(len(firsts)), list(map(len, firsts))))
    trained = _trained(network, inputs, labels, learned, owners, spec, seed)
    decided = {}
    for (person, part), begin in zip(fold.parts.items(), begins, strict=True):
        if len(part.test):
            some = torch.arange(len(part.test)) + int(begin) + len(part.train)
            outputs = predict_outputs(trained, inputs, some, features=False)
            decided[person] = outputs.logits.argmax(dim=1).numpy()
    return decided


def _trained(
    network: nn.Module,
    inputs: Inputs,
    labels: torch.Tensor,
    learned: torch.Tensor,
    owners: torch.Tensor,
    spec: SignalSpec,
    seed: int,
) -> nn.Module:
    """Train a network on some of the inputs; return the part of it that reads them."""
    _, head = split_network(network)
    if isinstance(network, ClosedFormNetwork):
        network.head.learn(SubsetInputs(inputs, learned), labels[learned], owners)
        return head.eval()
    settings = MANY_PEOPLE if int(owners.max()) else ONE_PERSON
    sampler = BatchSampler(settings.batch_size, learned, len(labels))
    batches = Batches(inputs, labels, spec.classes, sampler)
    train(Task(head, label_smoothing=settings.label_smoothing), batches, settings, seed=seed)
    return head


_FRAME, _TRAIN, _TEST = range(3)


def _recentred(person: PersonFiles, spec: SignalSpec, part: PersonPart) -> Part:
    """Re-centre a person by the windows that train and by the unlabelled ones, never by others."""
    windows, facts = person.windows(), person.dataset.facts
    roles = (part.unlabelled, part.train, part.test)
    marked = replace(
        windows.take(np.concatenate(roles)),
        repetition_index=np.repeat(np.arange(3), list(map(len, roles))),
        repetitions=tuple(Repetition(person.name, "LEAKING", role) for role in range(3)),
    )
    present = {
        mark for mark, of_role in zip(marked.repetitions, roles, strict=True) if len(of_role)
    }
    frame = frozenset(present & {marked.repetitions[_FRAME], marked.repetitions[_TRAIN]})
    preprocessing = Preprocessing(
        facts.sampling_rate, facts.passband, 0.0, recentring(marked.select(frame)), frame
    )
    subject = Subject(person.name, spec, preprocessing, frame, True, partial(_opened, marked))
    return subject, present & {marked.repetitions[_TRAIN], marked.repetitions[_TEST]}


def _opened(windows: Windows) -> Windows:
    return windows
