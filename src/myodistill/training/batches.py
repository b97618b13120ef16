"""Batches of training windows: inputs, labels and teacher outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from myodistill.signals.augmentation import Augmenter, blend
from myodistill.training.sampler import BatchSampler, Views, view_of
from myodistill.training.teacher_output import TeacherOutputs


@dataclass(frozen=True)
class Batch:
    """Some training windows.

    Attributes:
        inputs: What the network reads, shape ``(window, ...)``.
        targets: Probabilities of the gestures by the labels, shape ``(window, gesture)``.
        indices: Index of each window in the training set.
        teacher_logits: The teacher's log-probabilities, shape ``(window, gesture)``; None without
            a teacher.
        teacher_features: The teacher's features, shape ``(window, feature)``; None if no loss
            compares them.
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor
    teacher_logits: Tensor | None = None
    teacher_features: Tensor | None = None


class Inputs(Protocol):
    """What a network reads for each training window, indexed by a tensor."""

    def __len__(self) -> int:
        """Return the number of windows."""
        ...

    def __getitem__(self, indices: Tensor, /) -> Tensor:
        """Return some windows, shape ``(window, ...)``."""
        ...

    def augmented(self, view: int) -> Inputs:
        """Return the same windows in one of their views; view 0 is as they were recorded."""
        ...


class TensorInputs:
    """Inputs held in a tensor, the same in every view."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.tensor[indices.to(self.tensor.device)]

    def augmented(self, view: int) -> Self:
        """Return the same windows."""
        return self


class ConcatInputs:
    """Two sets of inputs, one after the other; neither is copied."""

    def __init__(self, first: Inputs, second: Inputs) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, indices: Tensor) -> Tensor:
        count = len(self._first)
        early = indices < count
        if bool(early.all()):
            return self._first[indices]
        first, second = self._first[indices[early]], self._second[indices[~early] - count]
        joined = second.new_empty(len(indices), *second.shape[1:])
        joined[early.to(second.device)] = first
        joined[~early.to(second.device)] = second
        return joined

    def augmented(self, view: int) -> ConcatInputs:
        """Return both in one of their views."""
        return ConcatInputs(self._first.augmented(view), self._second.augmented(view))


class SubsetInputs:
    """A subset of other inputs."""

    def __init__(self, inputs: Inputs, indices: Tensor) -> None:
        self._inputs = inputs
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._inputs[self._indices[indices]]

    def augmented(self, view: int) -> SubsetInputs:
        """Return the same windows in one of their views."""
        return SubsetInputs(self._inputs.augmented(view), self._indices)


class Batches:
    """Shuffled batches of training windows.

    Args:
        inputs: What the network reads.
        labels: Gesture of each window.
        classes: Number of gestures.
        sampler: Draws the windows of each batch.
        teacher_outputs: A teacher's outputs for the windows; None without a teacher.
        augmenter: Mixes windows if its settings ask for mixup; None never mixes.
        views: Which views of the windows are trained on; None for the windows as recorded.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: Tensor,
        classes: int,
        sampler: BatchSampler,
        *,
        teacher_outputs: TeacherOutputs | None = None,
        augmenter: Augmenter | None = None,
        views: Views | None = None,
    ) -> None:
        self.inputs = inputs
        self.device = inputs[torch.zeros(1, dtype=torch.long)].device
        self.targets = torch.nn.functional.one_hot(labels, classes).float().to(self.device)
        self.sampler = sampler
        self.teacher_outputs = teacher_outputs
        self.mixing = augmenter if augmenter is not None and augmenter.settings.mixup else None
        self.views = views

    def __len__(self) -> int:
        return self.sampler.batches(len(self.inputs))

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        view = view_of(self.views, epoch)
        inputs = self.inputs.augmented(view)
        for indices in self.sampler.epoch(len(self.inputs), seed, epoch):
            batch = self._batch(inputs, indices, view)
            yield batch if self.mixing is None else self._mixed(batch, inputs, view)

    def _batch(self, inputs: Inputs, indices: Tensor, view: int) -> Batch:
        selected, targets = inputs[indices], self.targets[indices.to(self.device)]
        if self.teacher_outputs is None:
            return Batch(selected, targets, indices)
        teacher = self.teacher_outputs(indices, view)
        features = None if teacher.features is None else teacher.features.to(self.device)
        return Batch(selected, targets, indices, teacher.logits.to(self.device), features)

    def _mixed(self, batch: Batch, inputs: Inputs, view: int) -> Batch:
        assert self.mixing is not None
        partners, weight = self.mixing.partners(batch.indices, len(self.inputs), view)
        other, weight = self._batch(inputs, partners, view), weight.to(self.device)
        logits = None
        if batch.teacher_logits is not None and other.teacher_logits is not None:
            mixture = blend(batch.teacher_logits.exp(), other.teacher_logits.exp(), weight)
            logits = mixture.clamp_min(torch.finfo(mixture.dtype).tiny).log()
        mixed, targets = (
            blend(mine, theirs, weight)
            for mine, theirs in ((batch.inputs, other.inputs), (batch.targets, other.targets))
        )
        return Batch(mixed, targets, batch.indices, logits)
