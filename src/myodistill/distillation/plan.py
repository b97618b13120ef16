"""The plan of one training: a network's task, its batches, and what validates it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from myodistill.config import Training
from myodistill.distillation.data import FoldData
from myodistill.distillation.teacher_outputs import predict_outputs
from myodistill.distillation.window_sets import TrainingSet, WindowSet
from myodistill.models.base import split_network
from myodistill.training.batches import Batches, ConcatInputs
from myodistill.training.loop import Validate
from myodistill.training.sampler import BatchSampler
from myodistill.training.tasks import Task
from myodistill.training.teacher_output import TeacherOutputs


@dataclass(frozen=True)
class TrainingPlan:
    """What one network is about to learn, and from what."""

    task: Task
    batches: Batches
    settings: Training
    validate: Validate | None


def plan_training(
    data: FoldData,
    make_task: Callable[..., Task],
    network: nn.Module,
    settings: Training,
    window_set: WindowSet,
    *,
    teacher_outputs: TeacherOutputs | None = None,
    rehearsed: TrainingSet | None = None,
    rehearsal: float = 0.0,
) -> TrainingPlan:
    """Plan the training of a network's head.

    With ``settings.patience`` the last repetition validates, if there is more than one.

    Args:
        data: Of the fold.
        make_task: Takes the head and ``label_smoothing``.
        network: Whose head is trained; a fixed front stays.
        settings: Of the stage.
        window_set: Its windows make an epoch.
        teacher_outputs: Of the windows of both sets; None without a teacher.
        rehearsed: Windows that are rehearsed; None for none.
        rehearsal: Share of every batch that is rehearsed.
    """
    inputs, labels, last = window_set.inputs, window_set.labels, window_set.in_last_repetition
    if rehearsed is not None:
        inputs = ConcatInputs(inputs, rehearsed.inputs)
        labels = torch.cat([labels, rehearsed.labels])
    hold_out = settings.patience > 0 and bool(last.any()) and not bool(last.all())
    primary = torch.nonzero(~last)[:, 0] if hold_out else torch.arange(len(last))
    _, head = split_network(network)
    batches = Batches(
        inputs,
        labels,
        data.spec.classes,
        BatchSampler(settings.batch_size, primary, len(last), rehearsal),
        teacher_outputs=teacher_outputs,
        augmenter=data.augmenter,
        views=data.views,
    )
    return TrainingPlan(
        make_task(head, label_smoothing=settings.label_smoothing),
        batches,
        settings,
        partial(_accuracy, window_set, torch.nonzero(last)[:, 0]) if hold_out else None,
    )


def _accuracy(window_set: WindowSet, indices: Tensor, head: nn.Module) -> float:
    outputs = predict_outputs(head, window_set.inputs, indices, features=False)
    correct = outputs.logits.argmax(dim=1).cpu() == window_set.labels[indices]
    return float(correct.float().mean())
