"""The whole method, from top to bottom.

1. ``pretrain``: teachers learn from the subjects who are not held out.
2. ``finetune``: each teacher is calibrated on a held-out subject's first K repetitions.
3. ``distill``: the teachers' knowledge goes into a student, in one of two ways. As published, the
   student learns from scratch on the calibration windows alone (stage ``distilled``). The stronger
   way first distills it across the training subjects; then the subject's teachers label the windows
   of all subjects, so that it sees far more than one repetition (stage ``pretrained_distilled``).
   Each has its control, the same student without a teacher: ``supervised`` and ``pretrained``.

Every result is a :class:`~myodistill.bundle.Bundle` that records the repetitions it has seen;
:class:`~myodistill.studies.scorer.Scorer` refuses to score those.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from myodistill.bundle import Bundle
from myodistill.config import Settings
from myodistill.datasets.recording import Repetition
from myodistill.distillation.adaptable import adaptable_to, adaptable_to_people
from myodistill.distillation.data import FoldData, placed
from myodistill.distillation.plan import TrainingPlan, plan_training
from myodistill.distillation.subjects import Subject, recentre
from myodistill.distillation.teacher_outputs import predict_outputs
from myodistill.distillation.temperature import fit_temperature
from myodistill.evaluation.results import Stage
from myodistill.models.base import split_network
from myodistill.models.closed_form import ClosedFormNetwork
from myodistill.models.registry import MODELS, build
from myodistill.plugins import plugin_of
from myodistill.training.batch_norm import adapt_batch_norm
from myodistill.training.loop import (
    NO_PATHS,
    ExecutionConfig,
    RunPaths,
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
        student: Pre-trained student, which rehearses the training subjects; None starts from
            scratch with the calibration windows alone.
        teachers: Fine-tuned to the subject; none for a student that learns from labels.
        subject: Name of the held-out subject.
        k: Calibration repetitions; 0 only re-centres a pre-trained student.
        loss: Name of the distillation loss.
    """

    model: str
    student: Bundle | None
    teachers: Sequence[Bundle]
    subject: str
    k: int
    loss: str = "soft-target"


class DistillationPipeline:
    """The three stages for one fold and one seed.

    Args:
        data: Of the fold.
        settings: Of the run.
        seed: Of weights, order and dropout.
    """

    def __init__(self, data: FoldData, settings: Settings, seed: int) -> None:
        self.data = data
        self.dataset = data.dataset
        self.split = data.split
        self.spec = data.spec
        self.settings = settings
        self.seed = seed

    # Stage 1

    def pretrain(self, model: str, paths: RunPaths) -> Bundle:
        """Train a teacher on the training subjects."""
        network = self._build(model)
        training_set = self.data.training_set(model)
        if isinstance(network, ClosedFormNetwork):
            network.head.learn(training_set.inputs, training_set.labels, training_set.subjects)
            require_finite(network.head, model, advice=_SILENT)
        else:
            self._train(
                plan_training(self.data, Task, network, self.settings.pretrain, training_set), paths
            )
        return self._bundle(model, network, training_set.seen, stage="pretrain")

    def untrained(self, model: str) -> Bundle:
        """Return a teacher that knows nothing yet, where there are no training subjects."""
        return self._bundle(model, self._build(model), frozenset(), stage="pretrain")

    # Stage 2

    def finetune(self, teacher: Bundle, subject_name: str, k: int, paths: RunPaths) -> Bundle:
        """Calibrate a teacher on a held-out subject's first ``k`` repetitions.

        With ``k`` = 0 and no history it is only re-centred to the subject, which needs no labels.
        """
        subject = self.data.subject(subject_name, k)
        network = self._recentred(teacher.network, subject)
        if self.data.calibrating(subject_name, k):
            self._calibrate(teacher.model, network, subject, k, paths)
        temperature = 1.0
        if self.settings.calibrate_teachers and k > 1:
            temperature = self._fit_temperature(teacher, subject, k)
        seen = teacher.seen | subject.preprocessing.seen
        seen |= self.data.calibrating(subject_name, k)
        bundle = self._bundle(teacher.model, network, seen, subject=subject, k=k, stage="finetune")
        bundle.origin["temperature"] = temperature
        return bundle

    def _calibrate(
        self, model: str, network: nn.Module, subject: Subject, k: int, paths: RunPaths
    ) -> None:
        calibration_set = self.data.calibration_set(network, subject, k)
        repetitions = len(self.data.calibrating(subject.name, k))
        alone = not self.split.pretraining
        if isinstance(network, ClosedFormNetwork):
            inputs = calibration_set.inputs[torch.arange(len(calibration_set.inputs))]
            labels = calibration_set.labels.to(inputs.device)
            if alone:
                network.head.learn(inputs, labels, torch.zeros_like(labels))
            network.head.calibrate(inputs, labels, repetitions)
            require_finite(network.head, model, advice=_SILENT)
            return
        settings = self.settings.finetune
        plan = plan_training(
            self.data,
            Task,
            network,
            settings,
            calibration_set,
            rehearsed=None if alone else self.data.training_set(model),
            rehearsal=0 if alone else settings.rehearsal / (settings.rehearsal + repetitions),
        )
        self._train(plan, paths)

    def _fit_temperature(self, teacher: Bundle, subject: Subject, k: int) -> float:
        """Calibrate the teacher on all but the last repetition; fit the temperature on that."""
        network = self._recentred(teacher.network, subject)
        self._calibrate(teacher.model, network, subject, k - 1, NO_PATHS)
        calibration_set = self.data.calibration_set(network, subject, k)
        indices = torch.nonzero(calibration_set.in_last_repetition)[:, 0]
        _, head = split_network(network)
        outputs = predict_outputs(head, calibration_set.inputs, indices, features=False)
        return fit_temperature(outputs.logits.cpu(), calibration_set.labels[indices])

    # Stage 3

    def pretrain_student(
        self, model: str, teachers: Sequence[Bundle], paths: RunPaths, *, loss: str = "soft-target"
    ) -> Bundle:
        """Train a student on the training subjects: distilled from ``teachers``, if any."""
        network = self._build(model)
        training_set = self.data.training_set(model)
        teacher_outputs = self.data.teacher_outputs(
            teachers, None, 0, training_set=True, features=loss in FEATURE_LOSSES
        )
        plan = plan_training(
            self.data,
            self._task(teachers, loss),
            network,
            self.settings.pretrain_student,
            training_set,
            teacher_outputs=teacher_outputs,
        )
        self._train(plan, paths)
        seen = training_set.seen.union(*(teacher.seen for teacher in teachers))
        bundle = self._bundle(
            model, network, seen, stage="pretrain-student", loss=loss if teachers else ""
        )
        return adaptable_to_people(bundle, training_set)

    def distill(self, spec: StudentSpec, paths: RunPaths) -> Bundle:
        """Calibrate a student for a held-out subject."""
        bundle, plan = self._student(spec)
        if plan is not None:
            self._train(plan, paths)
        return adaptable_to(bundle, spec.student, self.data, spec.subject, spec.k)

    def distill_stacked(
        self, specs: Sequence[StudentSpec], paths: RunPaths = NO_PATHS
    ) -> list[Bundle]:
        """Calibrate several students as one batched computation, where their models allow it.

        Each result is that of :meth:`distill`, but for random numbers inside a network (dropout);
        see :func:`~myodistill.training.stacked.train_stacked`.
        """
        students = [self._student(spec) for spec in specs]
        plans = [plan for _, plan in students if plan is not None]
        if plans:
            train_stacked(
                [plan.task for plan in plans],
                [plan.batches for plan in plans],
                self.settings.distill,
                seeds=[self.seed] * len(plans),
                execution=self._execution(),
                paths=paths,
            )
        return [
            adaptable_to(bundle, spec.student, self.data, spec.subject, spec.k)
            for (bundle, _), spec in zip(students, specs, strict=True)
        ]

    def _student(self, spec: StudentSpec) -> tuple[Bundle, TrainingPlan | None]:
        """Return a student before calibration, and its plan; None at ``k`` = 0."""
        student, teachers, k = spec.student, spec.teachers, spec.k
        subject = self.data.subject(spec.subject, k)
        network = self._recentred(student.network if student else self._build(spec.model), subject)
        labelled = self.data.calibrating(spec.subject, k)
        seen = labelled | subject.preprocessing.seen
        seen = seen.union(*(b.seen for b in (*teachers, *([student] if student else []))))
        bundle = self._bundle(
            spec.model,
            network,
            seen,
            subject=subject,
            k=k,
            stage=_STAGE[bool(student), bool(teachers)],
            loss=spec.loss if teachers else "",
        )
        if not labelled:
            return bundle, None
        settings = self.settings.distill
        rehearsed = self.data.training_set(spec.model) if student else None
        teacher_outputs = self.data.teacher_outputs(
            teachers,
            subject,
            k,
            training_set=rehearsed is not None,
            features=spec.loss in FEATURE_LOSSES,
        )
        return bundle, plan_training(
            self.data,
            self._task(teachers, spec.loss),
            network,
            settings,
            self.data.calibration_set(network, subject, k),
            teacher_outputs=teacher_outputs,
            rehearsed=rehearsed,
            rehearsal=settings.rehearsal / (settings.rehearsal + len(labelled)) if student else 0,
        )

    # Shared by the stages

    def _build(self, model: str) -> nn.Module:
        return placed(build(model, self.spec, seed=self.seed), self.settings)

    def _recentred(self, network: nn.Module, subject: Subject) -> nn.Module:
        """Return a copy of a network, adapted to a subject without labels."""
        adapted = placed(copy.deepcopy(network), self.settings)
        recentre(adapted, subject)
        if self.settings.adapt_batch_norm:
            adapt_batch_norm(split_network(adapted)[1], self.data.unlabelled(adapted, subject))
        return adapted

    def _task(self, teachers: Sequence[Bundle], loss: str) -> Callable[..., Task]:
        """Return the constructor of a student's task."""
        if not teachers:
            return Task
        settings = self.settings
        return partial(
            DistillationTask,
            loss=loss,
            alpha=settings.alpha,
            temperature=settings.temperature,
            feature_weight=settings.feature_weight,
            features=self.data.feature_count(teachers) if loss in FEATURE_LOSSES else 0,
        )

    def _train(self, plan: TrainingPlan, paths: RunPaths) -> None:
        train(
            plan.task,
            plan.batches,
            plan.settings,
            seed=self.seed,
            validate=plan.validate,
            execution=self._execution(),
            paths=paths,
        )

    def _execution(self) -> ExecutionConfig:
        return ExecutionConfig(self.settings.precision, self.settings.compile)

    def _bundle(
        self,
        model: str,
        network: nn.Module,
        seen: frozenset[Repetition],
        *,
        stage: str,
        subject: Subject | None = None,
        k: int | None = None,
        loss: str = "",
    ) -> Bundle:
        facts = self.dataset.facts
        name = subject.name if subject else None
        origin = {
            "dataset": facts.name,
            "opened": self.settings.dataset,
            "identity": self.dataset.identity(),
            "licence": facts.licence,
            "fold": self.split.fold,
            "split": self.split.narrowed(name).hash,
            "subject": name,
            "k": k,
            "seed": self.seed,
            "stage": stage,
            "loss": loss,
        }
        if needed := plugin_of(((MODELS, model), (LOSSES, loss))):
            origin["plugin"] = needed
        preprocessing = subject.preprocessing if subject else None
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
"""A student's stage by (pre-trained, distilled from teachers)."""
