"""Windows with labels, as a network reads them: a person's own, and those that are rehearsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from myodistill.datasets.recording import Repetition
from myodistill.distillation.digests import KnownDigests
from myodistill.models.orientation import Template
from myodistill.training.batches import Inputs


@dataclass(frozen=True)
class WindowSet:
    """Windows with labels, as one network reads them.

    Attributes:
        inputs: Of every window.
        labels: Gesture of every window.
        in_last_repetition: Whether a window is of the last repetition of its session.
        digest: Hash of the windows and of their signals.
    """

    inputs: Inputs
    labels: Tensor
    in_last_repetition: Tensor
    digest: str


@dataclass(frozen=True)
class TrainingSet(WindowSet):
    """The windows of the training subjects.

    Attributes:
        subjects: Number of the subject of every window.
        seen: All repetitions of these subjects.
    """

    subjects: Tensor
    seen: frozenset[Repetition]


@dataclass(frozen=True)
class Alignment:
    """How the electrode rings of the training subjects lie.

    Attributes:
        template: What their windows look like once they are turned alike.
        seen: The repetitions that it was fitted on.
    """

    template: Template
    seen: frozenset[Repetition]


@dataclass(frozen=True)
class Rehearsal:
    """The training subjects as a calibration needs them, without their recordings.

    Attributes:
        training_sets: By model; models with equal fronts share one. The windows are as they were
            recorded in every view: augmentation is for the person's own.
        alignment: None where rings are not aligned.
        digests: Of each subject's recordings.
    """

    training_sets: Mapping[str, TrainingSet]
    alignment: Alignment | None
    digests: KnownDigests
