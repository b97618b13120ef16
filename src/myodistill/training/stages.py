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
from functools import cache, lru_cache, partial

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
from myodistill.training.loop import Batches, Inputs, Joined, Picked, Where, train
from myodistill.training.people import People, Person, inputs, recentre, split_network
from myodistill.training.tasks import DistillationTask, Task


@dataclass(frozen=True)
class Answer:
    """What was decided for some windows: labels and predictions, each of shape ``(window,)``."""

    labels: NDArray[np.integer]
    predicted: NDArray[np.integer]


@dataclass(frozen=True)
class Own:
    """Windows to learn from, as one network reads them.

    Attributes:
        inputs: Of every window.
        labels: Gesture of every window.
        late: Whether a window is of the last repetition of its session.
    """

    inputs: Inputs
    labels: Tensor
    late: Tensor


@dataclass(frozen=True)
class Cohort(Own):
    """The training subjects.

    Attributes:
        people: Number of the subject of every window.
        seen: All their repetitions.
    """

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
        self.person = cache(self.people.heldout)
        self.opinion = lru_cache(maxsize=8)(self._opinion)
        self._cohorts: dict[type | None, Cohort] = {}
        self.recordings = lru_cache(maxsize=1)(dataset.recordings)
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
            self._fit(network, self.settings.pretrain, cohort, where)
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
            own = self._calibration(network, person, k)
            if isinstance(head, PopulationHead):
                head.calibrate(_tensor(own.inputs), own.labels, k)
            else:
                settings = self.settings.finetune
                share = settings.rehearsal / (settings.rehearsal + k)
                others = self.cohort(teacher.model)
                self._fit(network, settings, own, where, others=others, share=share)
        seen = teacher.seen | person.preprocessing.seen | self._labelled(subject, k)
        return self._bundle(teacher.model, network, seen, person=person, k=k, stage="finetune")

    # Stage 3

    def pretrain_student(self, teachers: Sequence[Bundle], where: Where) -> Bundle:
        """Train the student across the training subjects: under ``teachers``, or with none."""
        model = self.settings.student_model
        network = build(model, self.spec, seed=self.seed)
        cohort = self.cohort(model)
        answers = self._answers(teachers, None, 0)
        self._fit(network, self.settings.pretrain_student, cohort, where, answers=answers)
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
            settings = self.settings.distill
            own = self._calibration(network, person, k)
            others = self.cohort(model) if student else None
            answers = self._answers(teachers, person, k, others=others is not None)
            share = settings.rehearsal / (settings.rehearsal + k) if student else 0.0
            self._fit(network, settings, own, where, answers=answers, others=others, share=share)
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
        opinion = sum(self.opinion(bundle, subject) for bundle in bundles)
        return Answer(windows.labels, np.argmax(opinion, axis=1))

    def _opinion(self, bundle: Bundle, subject: str) -> NDArray[np.float32]:
        windows = self.people.filtered(subject).select(self.split.test(subject))
        return _log_softmax(bundle.logits(windows))

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
        return FLOORS[name](self.recordings(subject), self.dataset.facts)

    # What the stages share

    def _fit(
        self,
        network: nn.Module,
        settings: Training,
        own: Own,
        where: Where,
        *,
        answers: Tensor | None = None,
        others: Cohort | None = None,
        share: float = 0.0,
    ) -> None:
        """Train what is trained of a network, from labels or from a teacher's answers.

        With ``settings.patience`` the last repetition is held out, if there is more than one.
        """
        read, labels, late = own.inputs, own.labels, own.late
        if others is not None:
            read, labels = Joined(read, others.inputs), torch.cat([labels, others.labels])
        _, head = split_network(network)
        task = (
            Task(head, labels, self.spec.classes, label_smoothing=settings.label_smoothing)
            if answers is None
            else DistillationTask(
                head,
                labels,
                answers,
                alpha=self.settings.alpha,
                temperature=self.settings.temp,
                label_smoothing=settings.label_smoothing,
            )
        )
        hold_out = settings.patience > 0 and bool(late.any()) and not bool(late.all())
        early = torch.nonzero(~late)[:, 0] if hold_out else torch.arange(len(late))
        batches = Batches(
            read,
            settings.batch_size,
            primary=early,
            others=len(late),
            rehearsal=share,
            mixup=settings.mixup,
        )
        train(
            task,
            batches,
            settings,
            seed=self.seed,
            validate=partial(_accuracy, own, torch.nonzero(late)[:, 0]) if hold_out else None,
            precision=self.settings.precision,
            where=where,
        )

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
                own = self._calibration(teacher.network, person, k)
                parts.append(_logits(head, own.inputs))
            if others:
                parts.append(_logits(head, self.cohort(teacher.model).inputs))
            total = total + torch.log_softmax(torch.cat(parts), dim=1)
        return total / len(teachers)

    def _calibration(self, network: nn.Module, person: Person, k: int) -> Own:
        windows = person.windows.select(self.split.calibration(person.subject, k))
        read = inputs(network, [person], [windows], device=self.settings.device)
        return Own(read, torch.from_numpy(windows.labels), _last_repetition([windows]))

    def cohort(self, model: str) -> Cohort:
        """Return the training subjects as a model reads them; models with one front share it."""
        network = build(model, self.spec)
        front, _ = split_network(network)
        kind = type(front) if front is not None else None
        if kind not in self._cohorts:
            self._cohorts[kind] = self._cohort(network)
        return self._cohorts[kind]

    def _cohort(self, network: nn.Module) -> Cohort:
        people = self.people.training()
        windows = [person.windows for person in people]
        return Cohort(
            inputs=inputs(network, people, windows, device=self.settings.device),
            labels=torch.from_numpy(np.concatenate([part.labels for part in windows])),
            late=_last_repetition(windows),
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


def _last_repetition(windows: Sequence[Windows]) -> Tensor:
    """Say of each window whether its session has no later repetition."""
    parts = []
    for part in windows:
        last: dict[tuple[str, str], int] = {}
        for r in part.seen():
            last[r.subject, r.session] = max(r.index, last.get((r.subject, r.session), 0))
        late = np.array([r.index == last.get((r.subject, r.session)) for r in part.repetitions])
        parts.append(torch.from_numpy(late[part.owners]))
    return torch.cat(parts)


def _accuracy(own: Own, places: Tensor, head: nn.Module) -> float:
    answers = _logits(head, Picked(own.inputs, places)).argmax(dim=1)
    return float((answers == own.labels[places]).float().mean())


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
