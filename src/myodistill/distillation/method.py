"""The whole method, from top to bottom.

1. ``pretrain``: teachers learn from the subjects who are not held out.
2. ``finetune``: each teacher calibrates on a held-out subject's first K repetitions.
3. ``distill``: the teachers' knowledge goes into a student, in one of two ways. As published, the
   student learns only on the calibration windows, from scratch (stage ``distill``). The stronger
   way first distills it across the training subjects, and then lets this subject's teachers label
   everybody's windows, so that it sees far more than one repetition (stage ``pretrained_distilled``). The same
   student without any teacher stands beside each: ``supervised`` and ``pretrained``.

Whatever is trained is a :class:`~myodistill.bundle.Bundle` that knows which repetitions it
has seen; ``scoring.evaluate`` refuses to score those.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from myodistill.bundle import Bundle
from myodistill.config import Settings, Training
from myodistill.datasets.recording import Repetition
from myodistill.distillation.cache import TeacherOutputs
from myodistill.distillation.data import FoldData, TrainingSet, WindowSet, placed
from myodistill.distillation.subjects import Subject, recentre
from myodistill.distillation.teacher_outputs import predict_outputs
from myodistill.distillation.temperature import fit_temperature
from myodistill.evaluation.results import Stage
from myodistill.models.base import split_network
from myodistill.models.population import Population
from myodistill.models.registry import MODELS, build
from myodistill.plugins import plugin_of
from myodistill.training.batch_norm import adapt_batch_norm
from myodistill.training.batches import Batches, BatchSampler, ConcatInputs, Inputs
from myodistill.training.loop import (
    NO_PATHS,
    ExecutionConfig,
    RunPaths,
    Validate,
    require_finite,
    train,
)
from myodistill.training.losses import FEATURE_LOSSES, LOSSES
from myodistill.training.stacked import train_stacked
from myodistill.training.tasks import DistillationTask, Task


@dataclass(frozen=True)
class StudentSpec:
    """A student to be calibrated for a held-out subject.

    Attributes:
        model: Name of the student's model.
        student: Pre-trained across subjects, whose windows are then rehearsed; None begins from
            scratch with the calibration windows alone.
        teachers: Fine-tuned to the subject; none for a student that learns from labels.
        subject: Who.
        k: Calibration repetitions; 0 only re-centres a pre-trained student.
        loss: Name of the distillation loss.
    """

    model: str
    student: Bundle | None
    teachers: Sequence[Bundle]
    subject: str
    k: int
    loss: str = "soft-target"


@dataclass(frozen=True)
class TrainingPlan:
    """What one network is about to learn, and from what."""

    task: Task
    batches: Batches
    settings: Training
    validate: Validate | None


class DistillationPipeline:
    """One fold with one seed: the stages, and what they share.

    Args:
        material: What is learned from.
        settings: Of the run.
        seed: Of weights, order and dropout.
    """

    def __init__(self, material: FoldData, settings: Settings, seed: int) -> None:
        self.material = material
        self.dataset = material.dataset
        self.split = material.split
        self.spec = material.spec
        self.settings = settings
        self.seed = seed

    # Stage 1

    def pretrain(self, model: str, where: RunPaths) -> Bundle:
        """Train a teacher across the training subjects."""
        network = self._new(model)
        cohort = self.material.cohort(model)
        if isinstance(network, Population):
            network.head.learn(cohort.inputs, cohort.labels, cohort.people)
            require_finite(network.head, model, advice=_SILENT)
        else:
            self._fit(self._lesson(Task, network, self.settings.pretrain, cohort), where)
        return self._bundle(model, network, cohort.seen, stage="pretrain")

    # Stage 2

    def finetune(self, teacher: Bundle, subject: str, k: int, where: RunPaths) -> Bundle:
        """Calibrate a teacher on a held-out subject's first ``k`` repetitions.

        With ``k`` = 0 it only meets the subject: re-centred, without labels.
        """
        person = self.material.person(subject, k)
        network = self._meet(teacher.network, person)
        if k:
            self._calibrate(teacher.model, network, person, k, where)
        temperature = 1.0
        if self.settings.calibrate_teachers and k > 1:
            temperature = self._temperature(teacher, person, k)
        seen = teacher.seen | person.preprocessing.seen | self._labelled(subject, k)
        made = self._bundle(teacher.model, network, seen, person=person, k=k, stage="finetune")
        made.origin["temperature"] = temperature
        return made

    def _calibrate(
        self, model: str, network: nn.Module, person: Subject, k: int, where: RunPaths
    ) -> None:
        own = self.material.own(network, person, k)
        if isinstance(network, Population):
            read = _every(own.inputs)
            network.head.calibrate(read, own.labels.to(read.device), k)
            require_finite(network.head, model, advice=_SILENT)
            return
        settings = self.settings.finetune
        share = settings.rehearsal / (settings.rehearsal + k)
        others = self.material.cohort(model)
        self._fit(self._lesson(Task, network, settings, own, others=others, share=share), where)

    def _temperature(self, teacher: Bundle, person: Subject, k: int) -> float:
        """Fit a temperature on the last repetition, to a teacher that learned from the others."""
        network = self._meet(teacher.network, person)
        self._calibrate(teacher.model, network, person, k - 1, NO_PATHS)
        own = self.material.own(network, person, k)
        places = torch.nonzero(own.late)[:, 0]
        said = predict_outputs(split_network(network)[1], own.inputs, places, features=False)
        return fit_temperature(said.logits.cpu(), own.labels[places])

    # Stage 3

    def pretrain_student(
        self, model: str, teachers: Sequence[Bundle], where: RunPaths, *, loss: str = "soft-target"
    ) -> Bundle:
        """Train a student across the training subjects: under ``teachers``, or with none."""
        network = self._new(model)
        cohort = self.material.cohort(model)
        answers = self.material.answers(
            teachers, None, 0, others=True, features=loss in FEATURE_LOSSES
        )
        settings = self.settings.pretrain_student
        task = self._task(teachers, loss)
        self._fit(self._lesson(task, network, settings, cohort, answers=answers), where)
        seen = cohort.seen.union(*(teacher.seen for teacher in teachers))
        return self._bundle(
            model, network, seen, stage="pretrain-student", loss=loss if teachers else ""
        )

    def distill(self, job: StudentSpec, where: RunPaths) -> Bundle:
        """Calibrate a student for a held-out subject."""
        made, lesson = self._begin(job)
        if lesson is not None:
            self._fit(lesson, where)
        return made

    def distill_stacked(self, jobs: Sequence[StudentSpec]) -> list[Bundle]:
        """Calibrate several students as one batched computation, where their models allow it.

        As :meth:`distill` of each, but for what is drawn inside a network (dropout); see
        :func:`~myodistill.training.stacked.train_stacked`.
        """
        begun = [self._begin(job) for job in jobs]
        lessons = [lesson for _, lesson in begun if lesson is not None]
        if lessons:
            train_stacked(
                [lesson.task for lesson in lessons],
                [lesson.batches for lesson in lessons],
                self.settings.distill,
                seeds=[self.seed] * len(lessons),
                speed=self._speed(),
                title=f"{jobs[0].model} of {len(lessons)} subjects at K={jobs[0].k}",
            )
        return [made for made, _ in begun]

    def _begin(self, job: StudentSpec) -> tuple[Bundle, TrainingPlan | None]:
        """Return a student as it begins, and what it has to learn: nothing at ``k`` = 0."""
        student, teachers, k, loss = job.student, job.teachers, job.k, job.loss
        person = self.material.person(job.subject, k)
        network = self._meet(student.network if student else self._new(job.model), person)
        seen = self._labelled(job.subject, k) | person.preprocessing.seen
        seen = seen.union(*(b.seen for b in (*teachers, *([student] if student else []))))
        stage = _STAGE[bool(student), bool(teachers)]
        used = loss if teachers else ""
        made = self._bundle(job.model, network, seen, person=person, k=k, stage=stage, loss=used)
        if not k:
            return made, None
        settings = self.settings.distill
        others = self.material.cohort(job.model) if student else None
        answers = self.material.answers(
            teachers, person, k, others=others is not None, features=loss in FEATURE_LOSSES
        )
        return made, self._lesson(
            self._task(teachers, loss),
            network,
            settings,
            self.material.own(network, person, k),
            answers=answers,
            others=others,
            share=settings.rehearsal / (settings.rehearsal + k) if student else 0.0,
        )

    # What the stages share

    def _new(self, model: str) -> nn.Module:
        return placed(build(model, self.spec, seed=self.seed), self.settings)

    def _meet(self, network: nn.Module, person: Subject) -> nn.Module:
        """Copy a network for a person: re-centred, and no label is used."""
        mine = placed(copy.deepcopy(network), self.settings)
        recentre(mine, person)
        if self.settings.adapt_batch_norm:
            adapt_batch_norm(split_network(mine)[1], self.material.unlabelled(mine, person))
        return mine

    def _task(self, teachers: Sequence[Bundle], loss: str) -> Callable[..., Task]:
        """Return what makes the task of a student."""
        if not teachers:
            return Task
        settings = self.settings
        return partial(
            DistillationTask,
            loss=loss,
            alpha=settings.alpha,
            temperature=settings.temperature,
            feature_weight=settings.feature_weight,
            features=self.material.feature_count(teachers) if loss in FEATURE_LOSSES else 0,
        )

    def _fit(self, lesson: TrainingPlan, where: RunPaths) -> None:
        train(
            lesson.task,
            lesson.batches,
            lesson.settings,
            seed=self.seed,
            validate=lesson.validate,
            speed=self._speed(),
            where=where,
        )

    def _speed(self) -> ExecutionConfig:
        return ExecutionConfig(self.settings.precision, self.settings.compile)

    def _lesson(
        self,
        make_task: Callable[..., Task],
        network: nn.Module,
        settings: Training,
        own: WindowSet,
        *,
        answers: TeacherOutputs | None = None,
        others: TrainingSet | None = None,
        share: float = 0.0,
    ) -> TrainingPlan:
        """Return what is trained of a network, and from what: labels or teachers' answers.

        With ``settings.patience`` the last repetition is held out, if there is more than one.
        """
        read, labels, late = own.inputs, own.labels, own.late
        if others is not None:
            read, labels = ConcatInputs(read, others.inputs), torch.cat([labels, others.labels])
        hold_out = settings.patience > 0 and bool(late.any()) and not bool(late.all())
        early = torch.nonzero(~late)[:, 0] if hold_out else torch.arange(len(late))
        _, trained = split_network(network)
        batches = Batches(
            read,
            labels,
            self.spec.classes,
            BatchSampler(settings.batch_size, early, len(late), share),
            answers=answers,
            augmenter=self.material.augmenter,
            views=self.material.views,
        )
        return TrainingPlan(
            make_task(trained, label_smoothing=settings.label_smoothing),
            batches,
            settings,
            partial(_accuracy, own, torch.nonzero(late)[:, 0]) if hold_out else None,
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
        person: Subject | None = None,
        k: int | None = None,
        loss: str = "",
    ) -> Bundle:
        facts = self.dataset.facts
        origin = {
            "dataset": facts.name,
            "opened": self.settings.dataset,
            "identity": self.dataset.identity(),
            "licence": facts.licence,
            "fold": self.split.fold,
            "split": self.split.narrowed(person.subject if person else None).hash,
            "subject": person.subject if person else None,
            "k": k,
            "seed": self.seed,
            "stage": stage,
            "loss": loss,
        }
        if needed := plugin_of(((MODELS, model), (LOSSES, loss))):
            origin["plugin"] = needed
        preprocessing = person.preprocessing if person else None
        return Bundle(
            model, self.spec, network.eval(), preprocessing, seen, origin, facts.unit, facts.step
        )


_SILENT = "look for silent or equal channels with 'myodistill data inspect'"
_STAGE: dict[tuple[bool, bool], Stage] = {
    (False, False): "supervised",
    (True, False): "pretrained",
    (False, True): "distilled",
    (True, True): "pretrained_distilled",
}
"""Name of a student's stage by (pre-trained, taught)."""


def _accuracy(own: WindowSet, places: Tensor, trained: nn.Module) -> float:
    said = predict_outputs(trained, own.inputs, places, features=False)
    return float((said.logits.argmax(dim=1).cpu() == own.labels[places]).float().mean())


def _every(read: Inputs) -> Tensor:
    """All inputs at once, as they were recorded: for what is solved in closed form."""
    return read[torch.arange(len(read))]
