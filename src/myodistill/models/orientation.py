"""How a ring of electrodes was put on: turned, or the other way round.

People wear a ring turned by some electrodes, on the left or the right arm. Of all rotations and
mirrorings, the one is chosen under which a person's windows look most like those of others; for a
new person this needs no labels. It is a permutation of channels and becomes a part of the person's
pre-processing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myodistill.datasets.recording import Electrodes
from myodistill.errors import DataError
from myodistill.models.moments import GroupedRows, group_means, scatter

Permutation = NDArray[np.intp]

_SHRINKAGE = 0.3
_ROUNDS = 10


def orientations(electrodes: Electrodes) -> list[Permutation]:
    """Return every way to turn a ring, as the channel at each position; a grid has only its own."""
    order = electrodes.positions()[0] if electrodes.is_ring else np.arange(electrodes.channels)
    if not electrodes.is_ring or electrodes.rows > 1:
        return [np.arange(electrodes.channels)]
    count = len(order)
    result = []
    for direction in (1, -1):
        for shift in range(count):
            turned = np.empty(count, dtype=np.intp)
            turned[order] = order[(direction * np.arange(count) + shift) % count]
            result.append(turned)
    return result


@dataclass(frozen=True)
class Template:
    """The statistics of people whose electrodes are aligned.

    Attributes:
        means: Mean log-covariance of each gesture, shape ``(gesture, feature)``.
        precision: Inverse of the scatter around them, shape ``(feature, feature)``.
    """

    means: Tensor
    precision: Tensor

    def choose(self, turned: Iterable[Tensor], labels: Tensor | None = None) -> int:
        """Return which orientation of a person's windows is the most likely.

        Args:
            turned: Log-covariances of the windows in every orientation, ``(window, feature)``.
            labels: Gesture of each window, where known; else a mixture of all gestures is fitted,
                as it is where no gesture is one of the template's.
        """
        known: Tensor | slice = slice(None)
        if labels is not None:
            within = labels < len(self.means)
            labels, known = (labels[within], within) if within.any() else (None, known)
        scores = []
        for windows in turned:
            features = windows[known]
            weighted = features @ self.precision
            distance = (
                (weighted * features).sum(dim=1, keepdim=True)
                - 2 * weighted @ self.means.mT
                + ((self.means @ self.precision) * self.means).sum(dim=1)
            )
            if labels is None:
                likelihood = torch.logsumexp(-0.5 * distance, dim=1)
            else:
                likelihood = -0.5 * distance.gather(1, labels[:, None])[:, 0]
            scores.append(float(likelihood.mean()))
        return int(np.argmax(scores))


def align(means: Sequence[Tensor]) -> list[int]:
    """Turn a group of people alike, by the means of their gestures.

    Each in turn is given the orientation that agrees best with the mean of the others, from every
    person as the first guess; the most coherent result wins (generalised Procrustes analysis,
    Gower, Psychometrika 40, 1975, over a finite group).

    Args:
        means: For each person the :func:`centred_means` of the log-covariances in every
            orientation, shape ``(orientation, gesture, feature)``.

    Returns:
        The orientation of each person.
    """
    best: tuple[float, list[int]] = (-1.0, [])
    for first in means:
        chosen = [int((m * first[0]).sum(dim=(1, 2)).argmax()) for m in means]
        for _ in range(_ROUNDS):
            before = list(chosen)
            total = sum((m[c] for m, c in zip(means, chosen, strict=True)), torch.zeros(()))
            for index, m in enumerate(means):
                others = total - m[chosen[index]]
                chosen[index] = int((m * others).sum(dim=(1, 2)).argmax())
                total = others + m[chosen[index]]
            if chosen == before:
                break
        coherence = float((total**2).sum())
        if coherence > best[0]:
            best = (coherence, chosen)
    return best[1]


def template(people: Iterable[GroupedRows], classes: int) -> Template:
    """Fit the statistics of aligned people: gesture means and one shrunk scatter.

    Args:
        people: For each person the log-covariances ``(window, feature)`` and the gesture of each
            window. Passed over twice.
        classes: Number of gestures.

    Raises:
        DataError: The windows of a gesture do not differ, as where there is one of each.
    """
    means = group_means(people, classes)
    around = scatter(people, means)
    around = (1 - _SHRINKAGE) * around + _SHRINKAGE * torch.diag(around.diagonal())
    precision, singular = torch.linalg.inv_ex(around)
    if singular.any() or not torch.isfinite(precision).all():
        raise DataError(
            "orientation: expected windows of a gesture that differ from each other, got too few "
            "or equal ones; train on longer or more repetitions"
        )
    return Template(means, precision)


def centred_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the means of the gestures, ``(gesture, feature)``, relative to their own mean.

    That of a gesture without windows is 0, and counts for nothing.
    """
    means = group_means([(features, labels)], classes)
    there = torch.bincount(labels, minlength=classes) > 0
    return (means - means[there].mean(dim=0)) * there[:, None]
