"""A teacher in closed form: what a population knows of a gesture, updated by one person.

Linear discriminant analysis on log-covariances whose means and scatter are shared across people:
a person's mean of a gesture counts as much as the K repetitions behind it, the population's as
one more; the scatter within gestures is the person's and the population's in equal parts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.catalogue import register
from myodistill.models.covariance import LogCovariances
from myodistill.models.layers import Network

_SHRINKAGE = 0.3
_TEMPERATURE = 4.0


class PopulationHead(nn.Module):
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

        Divided by a temperature, as features that go together are no independent evidence.
        """
        return (features @ self.weight + self.bias) / _TEMPERATURE

    @torch.no_grad()
    def learn(self, features: Tensor, labels: Tensor, people: Tensor) -> None:
        """Estimate the population.

        Args:
            features: Of the training subjects, shape ``(window, feature)``.
            labels: Gesture of each window.
            people: Number of the person of each window.
        """
        classes = len(self.means)
        owners, owner_of = torch.unique(people * classes + labels, return_inverse=True)
        person_means = _means(features, owner_of, len(owners))
        self.means.copy_(_means(person_means, owners % classes, classes))
        self.scatter.copy_(_scatter(features - person_means[owner_of]))
        self._decide(self.means, self.scatter)

    @torch.no_grad()
    def calibrate(self, features: Tensor, labels: Tensor, repetitions: int) -> None:
        """Update the means and the scatter by a person's calibration windows.

        Args:
            features: Shape ``(window, feature)``.
            labels: Gesture of each window.
            repetitions: How many repetitions K they come from.
        """
        own = _means(features, labels, len(self.means))
        own_scatter = _scatter(features - own[labels])
        counts = repetitions * (torch.bincount(labels, minlength=len(own)) > 0)[:, None]
        means = (counts * own + self.means) / (counts + 1)
        self._decide(means, (own_scatter + self.scatter) / 2)

    def _decide(self, means: Tensor, scatter: Tensor) -> None:
        diagonal = torch.diag(scatter.diagonal())
        shrunk = ((1 - _SHRINKAGE) * scatter + _SHRINKAGE * diagonal).double()
        weight = torch.linalg.solve(shrunk, means.mT.double())
        self.weight.copy_(weight)
        self.bias.copy_(-0.5 * (means.mT * weight).sum(dim=0))


def _means(x: Tensor, groups: Tensor, count: int) -> Tensor:
    sums = torch.zeros(count, x.shape[1], device=x.device).index_add_(0, groups, x)
    return sums / torch.bincount(groups, minlength=count).clamp_min(1)[:, None]


def _scatter(deviations: Tensor) -> Tensor:
    return deviations.mT @ deviations / len(deviations)


class Population(Network):
    """Log-covariances and the population's decision."""

    signal_weights = ("front.", "head.")

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__(spec)
        self.front = LogCovariances(spec)
        self.head = PopulationHead(self.front.features, spec.classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to logits ``(window, gesture)``."""
        logits: Tensor = self.head(self.front(self.checked(windows)))
        return logits


@register("population", "teacher")
def population(spec: SignalSpec) -> nn.Module:
    """Build the closed-form teacher."""
    return Population(spec)
