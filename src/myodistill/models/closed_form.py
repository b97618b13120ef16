"""A teacher in closed form: what a population knows of a gesture, updated by one person.

Linear discriminant analysis on log-covariances whose means and scatter are shared across people:
a person's mean of a gesture counts as much as the K repetitions behind it, the population's as
one more; the scatter within gestures is the person's and the population's in equal parts.
``population-quadratic`` adds to the shared scatter that of each of the person's gestures, in the
eight directions where it is largest, with the weight K / (K + 80) (Friedman 1989, "Regularized
discriminant analysis").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.covariance import LogCovariances
from myodistill.models.layers import Network
from myodistill.models.moments import GroupedRows, group_means, scatter
from myodistill.models.registry import register_model

_SHRINKAGE = 0.3
_TEMPERATURE = 4.0
_LIGHT_SHRINKAGE = 0.1
_DIRECTIONS = 8
_SHARED = 80
"""Repetitions that the shared scatter counts for against a gesture's own."""


class FeatureRows(Protocol):
    """Feature vectors that are read on demand, indexed by a tensor."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, indices: Tensor, /) -> Tensor:
        """Return some of them, shape ``(window, feature)``."""
        ...


class LinearHead(nn.Module):
    """The linear decision, and the population behind it.

    Args:
        features: Length of a feature vector.
        classes: Number of gestures.
    """

    means: Tensor
    scatter: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(classes, features))
        self.register_buffer("scatter", torch.eye(features))
        self.register_buffer("weight", torch.zeros(features, classes))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(window, feature)`` to logits ``(window, gesture)``.

        They are divided by a temperature, as correlated features are not independent evidence.
        """
        return (features @ self.weight + self.bias) / _TEMPERATURE

    @torch.no_grad()
    def learn(self, features: FeatureRows, labels: Tensor, people: Tensor) -> None:
        """Estimate the population.

        Args:
            features: Of the training subjects; read twice, some at a time.
            labels: Gesture of each window.
            people: Number of the person of each window.
        """
        classes = len(self.means)
        groups, group_index = torch.unique(people * classes + labels, return_inverse=True)
        blocks = _Blocks(features, group_index)
        person_means = group_means(blocks, len(groups))
        gestures = (groups % classes).to(person_means.device)
        self.means.copy_(group_means([(person_means, gestures)], classes))
        self.scatter.copy_(scatter(blocks, person_means))
        self._decide(self.means, self.scatter)

    @torch.no_grad()
    def calibrate(self, features: Tensor, labels: Tensor, repetitions: int) -> None:
        """Update the means and the scatter by a person's calibration windows.

        Args:
            features: Shape ``(window, feature)``.
            labels: Gesture of each window.
            repetitions: How many repetitions K they come from.
        """
        person_means = group_means([(features, labels)], len(self.means))
        counts = repetitions * (torch.bincount(labels, minlength=len(person_means)) > 0)[:, None]
        known = self.means.any(dim=1, keepdim=True)  # by the population, of which each is one part
        means = (counts * person_means + self.means) / (counts + known.float()).clamp_min(1)
        self._spread(means, features - person_means[labels], labels, repetitions)

    def _spread(self, means: Tensor, deviations: Tensor, labels: Tensor, repetitions: int) -> None:
        """Update the scatter by deviations of a person's windows from their own means."""
        self._decide(means, (_scatter(deviations) + self.scatter) / 2)

    def _decide(self, means: Tensor, scatter: Tensor, shrinkage: float = _SHRINKAGE) -> Tensor:
        """Set the linear decision; return the shrunk scatter behind it."""
        diagonal = torch.diag(scatter.diagonal())
        shrunk = ((1 - shrinkage) * scatter + shrinkage * diagonal).double()
        weight = torch.linalg.solve(shrunk, means.mT.double())
        self.weight.copy_(weight)
        self.bias.copy_(-0.5 * (means.mT * weight).sum(dim=0))
        return shrunk


class QuadraticHead(LinearHead):
    """The population's decision, and the directions in which each of a person's gestures varies.

    To the scatter that gestures share, a gesture's own is added with the weight K / (K + 80), in
    the eight directions where it is the largest against the shared one (in the manner of Friedman,
    Regularized discriminant analysis, JASA 84(405), 1989). The shared scatter counts the person's
    as K parts and the population's as one, and is shrunk less than for the linear decision.

    Args:
        features: Length of a feature vector.
        classes: Number of gestures.
    """

    directions: Tensor
    centres: Tensor
    gains: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.register_buffer("directions", torch.zeros(classes, _DIRECTIONS, features))
        self.register_buffer("centres", torch.zeros(classes, _DIRECTIONS))
        self.register_buffer("gains", torch.zeros(classes, _DIRECTIONS))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(window, feature)`` to logits ``(window, gesture)``."""
        along = features @ self.directions.flatten(0, 1).mT
        away = (along - self.centres.flatten()).reshape(-1, *self.centres.shape)
        explained = (self.gains * away.square()).sum(dim=-1)
        logits: Tensor = super().forward(features) + explained / (2 * _TEMPERATURE)
        return logits

    def _spread(self, means: Tensor, deviations: Tensor, labels: Tensor, repetitions: int) -> None:
        k = repetitions
        scatter = (k * _scatter(deviations) + self.scatter) / (k + 1)
        root = torch.linalg.cholesky(self._decide(means, scatter, _LIGHT_SHRINKAGE))
        share = k / (k + _SHARED)
        self.gains.zero_()
        for gesture in set(labels.tolist()):
            mine = deviations[labels == gesture].double()
            white = torch.linalg.solve_triangular(root, mine.mT, upper=False)
            axes, sizes, _ = torch.linalg.svd(white, full_matrices=False)
            added = share * sizes[:_DIRECTIONS].square() / len(mine)
            axes = axes[:, :_DIRECTIONS]
            directions = torch.linalg.solve_triangular(root.mT, axes, upper=True).mT
            count = len(directions)
            self.directions[gesture, :count] = directions
            self.centres[gesture, :count] = directions @ means[gesture].double()
            self.gains[gesture, :count] = added / (1 + added)
            self.bias[gesture] -= 0.5 * torch.log1p(added).sum()


class _Blocks:
    """Rows and their groups in blocks, which can be iterated again."""

    def __init__(self, rows: FeatureRows, groups: Tensor) -> None:
        self._rows = rows
        self._groups = groups

    def __iter__(self) -> Iterator[GroupedRows]:
        for indices in torch.split(torch.arange(len(self._rows)), 4096):
            rows = self._rows[indices]
            yield rows, self._groups[indices].to(rows.device)


def _scatter(deviations: Tensor) -> Tensor:
    return deviations.mT @ deviations / len(deviations)


class ClosedFormNetwork(Network):
    """Log-covariances and the population's decision.

    Args:
        spec: The signal.
        head: What decides.
    """

    head: LinearHead

    def __init__(self, spec: SignalSpec, head: type[LinearHead] = LinearHead) -> None:
        super().__init__(spec)
        self.front = front = LogCovariances(spec)
        self.head = head(front.features, spec.classes)

    @property
    def fixed_front(self) -> nn.Module:
        """The log-covariances."""
        return self.front

    def after_front(self, seen: Tensor) -> Tensor:
        """Nothing stands between the front and the decision; no feature is learned."""
        return seen


@register_model("population", "teacher")
def population(spec: SignalSpec) -> nn.Module:
    """Build the closed-form teacher."""
    return ClosedFormNetwork(spec)


@register_model("population-quadratic", "teacher")
def population_quadratic(spec: SignalSpec) -> nn.Module:
    """Build the closed-form teacher that knows how each gesture varies."""
    return ClosedFormNetwork(spec, QuadraticHead)
