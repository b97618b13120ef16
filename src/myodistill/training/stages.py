"""The whole method, from top to bottom.

1. ``pretrain``: teachers learn from the subjects who are not held out.
2. ``finetune``: each teacher calibrates on a held-out subject's first K repetitions.
3. ``distill``: the teachers' knowledge goes into a student, in one of two ways. As published, the
   student learns only on the calibration windows, from scratch (stage ``distill``). The stronger
   way first distills it across the training subjects, and then lets this subject's teachers label
   everybody's windows, so that it sees far more than one repetition (stage ``full``). The same
   student without any teacher stands beside each: ``scratch`` and ``transfer``.

Whatever is trained is a :class:`~myodistill.deploy.bundle.Bundle` that knows which repetitions it
has seen; ``evaluate`` refuses to score those.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from myodistill.config import Settings, Training
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Repetition
from myodistill.deploy.bundle import Bundle
from myodistill.evaluation.results import Stage
from myodistill.models.catalogue import build
from myodistill.models.classical import FLOORS, shrinkage_lda
from myodistill.models.population import PopulationHead
from myodistill.signals.features import Features
from myodistill.signals.windows import Windows
from myodistill.splits import Split, require_unseen
from myodistill.training.loop import Batches, Inputs, Joined, Where, train
from myodistill.training.people import People, Person, inputs, recentre, split_network
from myodistill.training.tasks import DistillationTask, Task

MIXUP = 0.3
"""Beta parameter of the mixup that students are trained with."""


@dataclass(frozen=True)
class Answer:
    """What was decided for some windows: labels and predictions, each of shape ``(window,)``."""

    labels: NDArray[np.integer]
    predicted: NDArray[np.integer]


@dataclass(frozen=True)
class Cohort:
    """The training subjects, as one kind of network reads them.

    Attributes:
        inputs: Of every window.
        labels: Gesture of every window.
        people: Number of the subject of every window.
        seen: All their repetitions.
    """

    inputs: Inputs
    labels: Tensor
    people: Tensor
    seen: frozenset[Repetition]


class Fold:
    """One fold with one seed: the stages, and what they share.

    Args:
        dataset: Whose recordings.
        split: Who is held out.
        settings: Of the run.
        seed: Of weights, order and dropout.
    """

    def __init__(self, dataset: Dataset, split: Split, settings: Settings, seed: int) -> None:
        self.dataset = dataset
        self.split = split
        self.settings = settings
        self.seed = seed
        self.spec = dataset.facts.spec()
        self.people = People(dataset, split, recentre=settings.recentre)
        self.cohort = cache(self._cohort)
        self.person = cache(self.people.heldout)
        self.features = lru_cache(maxsize=len(FLOORS))(self._features)

    # Stage 1

    def pretrain(self, model: str, where: Where) -> Bundle:
        """Train a teacher across the training subjects."""
        network = build(model, self.spec, seed=self.seed)
        cohort = self.cohort(model)
        _, head = split_network(network)
        if isinstance(head, PopulationHead):
            head.learn(_tensor(cohort.inputs), cohort.labels, cohort.people)
        else:
            self._fit_labels(head, self.settings.pretrain, cohort.inputs, cohort.labels, where)
        return self._bundle(model, network, cohort.seen, stage="pretrain")

    # Stage 2

    def finetune(self, teacher: Bundle, subject: str, k: int, where: Where) -> Bundle:
        """Calibrate a teacher on a held-out subject's first ``k`` repetitions.

        With ``k`` = 0 it only meets the subject: re-centred, without labels.
        """
        person = self.person(subject, k)
        network = copy.deepcopy(teacher.network)
        recentre(network, person)
        if k:
            _, head = split_network(network)
            own, labels = self._calibration(network, person, k)
            if isinstance(head, PopulationHead):
                head.calibrate(_tensor(own), labels, k)
            else:
                others = self.cohort(teacher.model)
                self._fit_labels(head, self.settings.finetune, own, labels, where, others)
        seen = teacher.seen | person.preprocessing.seen | self._labelled(subject, k)
        return self._bundle(teacher.model, network, seen, person=person, k=k, stage="finetune")

    # Stage 3

    def pretrain_student(self, teachers: Sequence[Bundle], where: Where) -> Bundle:
        """Train the student across the training subjects: under ``teachers``, or with none."""
        model = self.settings.student_model
        network = build(model, self.spec, seed=self.seed)
        cohort = self.cohort(model)
        answers = self._answers(teachers, None, 0)
        self._fit_student(
            network, self.settings.pretrain, cohort.inputs, cohort.labels, answers, where
        )
        seen = cohort.seen.union(*(teacher.seen for teacher in teachers))
        return self._bundle(model, network, seen, stage="pretrain-student")

    def distill(
        self,
        student: Bundle | None,
        teachers: Sequence[Bundle],
        subject: str,
        k: int,
        where: Where,
    ) -> Bundle:
        """Calibrate a student for a held-out subject.

        Args:
            student: Pre-trained across subjects, whose windows are then rehearsed; None begins
                from scratch with the calibration windows alone.
            teachers: Fine-tuned to the subject; none for a student that learns from labels.
            subject: Who.
            k: Calibration repetitions; 0 only re-centres a pre-trained student.
            where: Checkpoint and log.
        """
        model = self.settings.student_model
        person = self.person(subject, k)
        begin = student.network if student else build(model, self.spec, seed=self.seed)
        network = copy.deepcopy(begin)
        recentre(network, person)
        if k:
            own, labels = self._calibration(network, person, k)
            others = self.cohort(model) if student else None
            answers = self._answers(teachers, person, k, others=others is not None)
            self._fit_student(network, self.settings.distill, own, labels, answers, where, others)
        seen = self._labelled(subject, k) | person.preprocessing.seen
        seen = seen.union(*(b.seen for b in (*teachers, *([student] if student else []))))
        stage = _STAGE[bool(student), bool(teachers)]
        return self._bundle(model, network, seen, person=person, k=k, stage=stage)

    # Evaluation

    def evaluate(self, bundles: Sequence[Bundle], subject: str) -> Answer:
        """Decide the subject's test sessions by a bundle, or the mean opinion of several.

        Raises:
            LeakageError: One of them has seen a test repetition.
        """
        test = self.split.test(subject)
        for bundle in bundles:
            require_unseen(test, bundle.seen, what=f"{bundle.origin['stage']} {bundle.model}")
        windows = self.people.filtered(subject).select(test)
        opinion = sum(_log_softmax(bundle.logits(windows)) for bundle in bundles)
        return Answer(windows.labels, np.argmax(opinion, axis=1))

    def floor(self, name: str, subject: str, k: int) -> Answer:
        """Calibrate a classical method as everything else is, and decide the test sessions."""
        windows, features = self.features(name, subject)
        calibration, test = (
            np.isin(windows.owners, [i for i, r in enumerate(windows.repetitions) if r in part])
            for part in (self.split.calibration(subject, k), self.split.test(subject))
        )
        fitted = shrinkage_lda().fit(features[calibration], windows.labels[calibration])
        return Answer(windows.labels[test], fitted.predict(features[test]))

    def _features(self, name: str, subject: str) -> tuple[Windows, Features]:
        return FLOORS[name](self.dataset.recordings(subject), self.dataset.facts)

    # What the stages share

    def _fit_labels(
        self,
        head: nn.Module,
        settings: Training,
        own: Inputs,
        labels: Tensor,
        where: Where,
        others: Cohort | None = None,
    ) -> None:
        everything, every_label = _beside(own, labels, others)
        task = Task(head, every_label, self.spec.classes, label_smoothing=settings.label_smoothing)
        batches = Batches(
            everything, settings.batch_size, primary=len(own), rehearsal=settings.rehearsal
        )
        train(task, batches, settings, seed=self.seed, where=where)

    def _fit_student(
        self,
        network: nn.Module,
        settings: Training,
        own: Inputs,
        labels: Tensor,
        answers: Tensor | None,
        where: Where,
        others: Cohort | None = None,
    ) -> None:
        everything, every_label = _beside(own, labels, others)
        _, head = split_network(network)
        task = (
            Task(head, every_label, self.spec.classes, label_smoothing=settings.label_smoothing)
            if answers is None
            else DistillationTask(
                head,
                every_label,
                answers,
                alpha=self.settings.alpha,
                temperature=self.settings.temp,
                label_smoothing=settings.label_smoothing,
            )
        )
        batches = Batches(
            everything,
            settings.batch_size,
            primary=len(own),
            rehearsal=settings.rehearsal,
            mixup=MIXUP,
        )
        train(task, batches, settings, seed=self.seed, where=where)

    def _answers(
        self, teachers: Sequence[Bundle], person: Person | None, k: int, *, others: bool = True
    ) -> Tensor | None:
        """Mean log-probabilities of the teachers for the subject's windows, then the cohort's."""
        if not teachers:
            return None
        total = torch.zeros(())
        for teacher in teachers:
            _, head = split_network(teacher.network)
            parts = []
            if person is not None:
                own, _ = self._calibration(teacher.network, person, k)
                parts.append(_logits(head, own))
            if others:
                parts.append(_logits(head, self.cohort(teacher.model).inputs))
            total = total + torch.log_softmax(torch.cat(parts), dim=1)
        return total / len(teachers)

    def _calibration(self, network: nn.Module, person: Person, k: int) -> tuple[Inputs, Tensor]:
        windows = person.windows.select(self.split.calibration(person.subject, k))
        own = inputs(network, [person], [windows], device=self.settings.device)
        return own, torch.from_numpy(windows.labels)

    def _cohort(self, model: str) -> Cohort:
        people = self.people.training()
        windows = [person.windows for person in people]
        return Cohort(
            inputs=inputs(build(model, self.spec), people, windows, device=self.settings.device),
            labels=torch.from_numpy(np.concatenate([part.labels for part in windows])),
            people=torch.from_numpy(np.repeat(np.arange(len(people)), [len(w) for w in windows])),
            seen=frozenset().union(*(part.seen() for part in windows)),
        )

    def _labelled(self, subject: str, k: int) -> frozenset[Repetition]:
        return self.split.calibration(subject, k) if k else frozenset()

    def _bundle(
        self,
        model: str,
        network: nn.Module,
        seen: frozenset[Repetition],
        *,
        stage: str,
        person: Person | None = None,
        k: int | None = None,
    ) -> Bundle:
        facts = self.dataset.facts
        origin = {
            "dataset": facts.name,
            "licence": facts.licence,
            "fold": self.split.fold,
            "split": self.split.hash,
            "subject": person.subject if person else None,
            "k": k,
            "seed": self.seed,
            "stage": stage,
        }
        preprocessing = person.preprocessing if person else None
        return Bundle(model, self.spec, network.eval(), preprocessing, seen, origin)


_STAGE: dict[tuple[bool, bool], Stage] = {
    (False, False): "scratch",
    (True, False): "transfer",
    (False, True): "distill",
    (True, True): "full",
}
"""Name of a student's stage by (pre-trained, taught)."""


def _beside(own: Inputs, labels: Tensor, others: Cohort | None) -> tuple[Inputs, Tensor]:
    """Put the cohort's windows after a subject's own."""
    if others is None:
        return own, labels
    return Joined(own, others.inputs), torch.cat([labels, others.labels])


def _tensor(read: Inputs) -> Tensor:
    """All of some inputs at once, for what is solved in closed form."""
    return read if isinstance(read, Tensor) else read[torch.arange(len(read))]


@torch.no_grad()
def _logits(head: nn.Module, read: Inputs, *, batch: int = 8192) -> Tensor:
    head.eval()
    places = torch.split(torch.arange(len(read)), batch)
    return torch.cat([head(read[place]) for place in places])


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.log_softmax(torch.from_numpy(logits), dim=1).numpy()
