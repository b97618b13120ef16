"""Training windows: what a network reads for each, what it should answer, in what order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from myodistill.distillation.cache import TeacherOutputs
from myodistill.signals.augmentation import Augmenter, blend

Views = int | Literal["fresh", "clean"]
"""Which views of a window are trained on, see :func:`view_of`."""


@dataclass(frozen=True)
class Batch:
    """Some training windows.

    Attributes:
        inputs: What the network reads, shape ``(window, ...)``.
        targets: Probabilities of the gestures by the labels, shape ``(window, gesture)``.
        places: Place of each window in the training set.
        answers: The teachers' log-probabilities, shape ``(window, gesture)``; None without any.
        features: The teachers' features, shape ``(window, feature)``, where they are compared.
    """

    inputs: Tensor
    targets: Tensor
    places: Tensor
    answers: Tensor | None = None
    features: Tensor | None = None


class Inputs(Protocol):
    """What a network reads for each training window, indexed by a tensor of places."""

    def __len__(self) -> int:
        """Return the number of windows."""
        ...

    def __getitem__(self, places: Tensor, /) -> Tensor:
        """Return some windows, shape ``(window, ...)``."""
        ...

    def augmented(self, view: int) -> Inputs:
        """Return the same windows in one of their views; view 0 is as they were recorded."""
        ...


class TensorInputs:
    """Inputs that are a tensor already, the same in every view."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, places: Tensor) -> Tensor:
        return self.tensor[places.to(self.tensor.device)]

    def augmented(self, view: int) -> Self:
        """Return the same windows: nothing is known of what they are."""
        return self


class ConcatInputs:
    """Two sets of inputs, one after the other, of which neither is copied."""

    def __init__(self, first: Inputs, second: Inputs) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, places: Tensor) -> Tensor:
        count = len(self._first)
        early = places < count
        if bool(early.all()):
            return self._first[places]
        first, second = self._first[places[early]], self._second[places[~early] - count]
        joined = second.new_empty(len(places), *second.shape[1:])
        joined[early.to(second.device)] = first
        joined[~early.to(second.device)] = second
        return joined

    def augmented(self, view: int) -> ConcatInputs:
        """Return both in one of their views."""
        return ConcatInputs(self._first.augmented(view), self._second.augmented(view))


class SubsetInputs:
    """Some of other inputs."""

    def __init__(self, inputs: Inputs, places: Tensor) -> None:
        self._inputs = inputs
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, places: Tensor) -> Tensor:
        return self._inputs[self._places[places]]

    def augmented(self, view: int) -> SubsetInputs:
        """Return the same windows in one of their views."""
        return SubsetInputs(self._inputs.augmented(view), self._places)


@dataclass(frozen=True)
class BatchSampler:
    """Which windows make a batch; it depends on seed and epoch alone.

    An epoch passes once over the ``primary`` windows. Those from place ``others`` on are rehearsed:
    a share of every batch is drawn from them (Robins, Catastrophic forgetting, rehearsal and
    pseudorehearsal, Connection Science 7(2), 1995).

    Attributes:
        size: Windows a batch.
        primary: Places of the windows that make an epoch; all where it is left out.
        others: Place of the first window that is rehearsed.
        rehearsal: Share of every batch from the windows that are rehearsed.
    """

    size: int
    primary: Tensor | None = None
    others: int | None = None
    rehearsal: float = 0.0


class Batches:
    """Shuffled batches of training windows.

    Args:
        inputs: What the network reads.
        labels: Gesture of each window.
        classes: Number of gestures.
        order: Which windows make a batch.
        answers: Of teachers.
        augmenter: Mixes windows where its settings ask for it; None leaves them apart.
        views: Which views of the windows are trained on; None for the clean ones.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: Tensor,
        classes: int,
        order: BatchSampler,
        *,
        answers: TeacherOutputs | None = None,
        augmenter: Augmenter | None = None,
        views: Views | None = None,
    ) -> None:
        self.inputs = inputs
        self.device = inputs[torch.zeros(1, dtype=torch.long)].device
        self.targets = torch.nn.functional.one_hot(labels, classes).float().to(self.device)
        self.answers = answers
        self.mixing = augmenter if augmenter is not None and augmenter.settings.mixup else None
        self.views = views
        self.primary = torch.arange(len(inputs)) if order.primary is None else order.primary
        self.others = len(inputs) if order.others is None else order.others
        rehearsed = round(order.size * order.rehearsal) if self.others < len(inputs) else 0
        self.size = min(order.size - rehearsed, len(self.primary))
        self.rehearsed = rehearsed * self.size // max(order.size - rehearsed, 1)

    def __len__(self) -> int:
        return max(1, len(self.primary) // self.size)

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield shuffled batches; windows that no whole batch takes wait for another epoch."""
        view = view_of(self.views, epoch)
        inputs = self.inputs.augmented(view)
        generator = torch.Generator().manual_seed(mix_seed(seed, epoch, 0))
        order = self.primary[torch.randperm(len(self.primary), generator=generator)]
        for number in range(len(self)):
            places = order[number * self.size : (number + 1) * self.size]
            if self.rehearsed:
                drawn = torch.randint(
                    self.others, len(self.inputs), (self.rehearsed,), generator=generator
                )
                places = torch.cat([places, drawn])
            batch = self._batch(inputs, places, view)
            yield batch if self.mixing is None else self._mixed(batch, inputs, view)

    def _batch(self, inputs: Inputs, places: Tensor, view: int) -> Batch:
        read, targets = inputs[places], self.targets[places.to(self.device)]
        if self.answers is None:
            return Batch(read, targets, places)
        said = self.answers(places, view)
        features = None if said.features is None else said.features.to(self.device)
        return Batch(read, targets, places, said.logits.to(self.device), features)

    def _mixed(self, batch: Batch, inputs: Inputs, view: int) -> Batch:
        assert self.mixing is not None
        partners, weight = self.mixing.partners(batch.places, len(self.inputs), view)
        other, weight = self._batch(inputs, partners, view), weight.to(self.device)
        answers = None
        if batch.answers is not None and other.answers is not None:
            answers = blend(batch.answers.exp(), other.answers.exp(), weight)
            answers = answers.clamp_min(torch.finfo(answers.dtype).tiny).log()
        mixed, targets = (
            blend(mine, theirs, weight)
            for mine, theirs in ((batch.inputs, other.inputs), (batch.targets, other.targets))
        )
        return Batch(mixed, targets, batch.places, answers)


def view_of(views: Views | None, epoch: int) -> int:
    """Return which view of the windows an epoch trains on.

    Args:
        views: ``k`` cycles through views 1 to k; ``"fresh"`` and ``"clean"`` give every epoch a
            view of its own; None is view 0, the windows as they were recorded.
        epoch: From 0.
    """
    if views is None:
        return 0
    return 1 + (epoch % views if isinstance(views, int) else epoch)


def mix_seed(*numbers: int) -> int:
    """Seed from several numbers, far apart for close ones."""
    mixed = 0x9E3779B97F4A7C15
    for number in numbers:
        mixed = (mixed ^ (number + 1)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed ^= mixed >> 31
    return mixed % 2**63
