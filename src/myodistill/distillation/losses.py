"""Distillation losses: one function each, over logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_target(
    student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float, temperature: float
) -> Tensor:
    """Soft-target distillation.

    ``alpha * CE(student, label) + (1 - alpha) * T² * KL(softmax(teacher / T) || softmax(student /
    T))`` (Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015, section
    2). T² keeps the gradient of the soft part at the same size for every temperature.

    Args:
        student: Logits, shape ``(window, gesture)``.
        teacher: Logits, same shape; no gradient flows into them.
        labels: Gestures, shape ``(window,)``, or their probabilities, ``(window, gesture)``.
        alpha: Weight of the hard-label loss, 0 to 1.
        temperature: Above 0.

    Returns:
        The mean over windows, a scalar.
    """
    soft = F.kl_div(
        torch.log_softmax(student / temperature, dim=1),
        torch.log_softmax(teacher.detach() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    hard = F.cross_entropy(student, labels)
    return alpha * hard + (1 - alpha) * temperature**2 * soft
