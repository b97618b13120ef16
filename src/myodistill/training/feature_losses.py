"""Distillation of features, the input of the last layer.

Features are ``(window, feature)``; pool or flatten maps first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Hint(nn.Module):
    """Distance of the teacher's features from a learned projection of the student's.

    Romero et al., FitNets: hints for thin deep nets, 2015, eq. 3. The projection bridges the two
    widths; it is trained with the student and discarded afterwards.

    Args:
        student: Number of the student's features.
        teacher: Number of the teacher's.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.projection = nn.Linear(student, teacher)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return half the squared distance, averaged over windows.

        Args:
            student: Features, shape ``(window, student)``.
            teacher: Features, shape ``(window, teacher)``; no gradient flows into them.
        """
        difference: Tensor = self.projection(student) - teacher.detach()
        return difference.square().sum(dim=1).mean() / 2


def relational(
    student: Tensor,
    teacher: Tensor,
    *,
    distance: float = 25.0,
    angle: float = 50.0,
    windows: int = 64,
) -> Tensor:
    """Relational distillation: match distances and angles between windows.

    Park et al., Relational knowledge distillation, 2019, sections 3.2.1 (distances, in units of
    their mean) and 3.2.2 (angles of all triplets), both under Huber's loss; averaged over pairs
    and triplets, where the paper sums. Rotating or scaling a feature space changes nothing.

    Args:
        student: Features or logits, shape ``(window, feature)``.
        teacher: The same windows, any number of features; no gradient flows into them.
        distance: Weight of the distances; the paper's for classification.
        angle: Weight of the angles; likewise.
        windows: Only the first so many of a batch are compared: triplets grow with the cube.
    """
    ours = _differences(student[:windows])
    theirs = _differences(teacher.detach()[:windows])
    count = len(ours)
    distance_loss = F.smooth_l1_loss(_distances(ours), _distances(theirs), reduction="sum")
    angle_loss = F.smooth_l1_loss(_cosines(ours), _cosines(theirs), reduction="sum")
    pairs = max(count * (count - 1), 1)
    triplets = max(pairs * (count - 2), 1)
    return distance * distance_loss / pairs + angle * angle_loss / triplets


def _differences(points: Tensor) -> Tensor:
    """``(window, feature)`` to ``(from, to, feature)``."""
    return points[None] - points[:, None]


def _distances(differences: Tensor) -> Tensor:
    """Distances ``(from, to)`` in units of their mean over pairs."""
    distances: Tensor = torch.linalg.vector_norm(differences, dim=2)
    pairs = max(len(distances) * (len(distances) - 1), 1)
    return distances / (distances.sum() / pairs).clamp_min(1e-12)


def _cosines(differences: Tensor) -> Tensor:
    """Cosine of the angle at each point between any two others, ``(at, from, to)``."""
    directions = F.normalize(differences, dim=2)
    return directions @ directions.mT
