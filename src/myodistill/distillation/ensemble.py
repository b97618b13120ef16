"""Several teachers merged into one."""

from __future__ import annotations

import torch
from torch import Tensor


def averaged(log_probabilities: Tensor) -> Tensor:
    """The geometric mean of the teachers' probabilities.

    Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015, section 2, allows
    the arithmetic or the geometric mean; the latter is the mean of logits at every temperature.

    Args:
        log_probabilities: Shape ``(teacher, window, gesture)``.

    Returns:
        Log-probabilities, shape ``(window, gesture)``.
    """
    return torch.log_softmax(log_probabilities.mean(dim=0), dim=1)


def confidence_weighted(log_probabilities: Tensor) -> Tensor:
    """The geometric mean of the teachers' probabilities, weighted window by window.

    The weights are those of :func:`confidence_weights`.

    Args:
        log_probabilities: Shape ``(teacher, window, gesture)``.

    Returns:
        Log-probabilities, shape ``(window, gesture)``.
    """
    weights = confidence_weights(log_probabilities)
    return torch.log_softmax((weights[..., None] * log_probabilities).sum(dim=0), dim=1)


def confidence_weights(log_probabilities: Tensor) -> Tensor:
    """Weight of each teacher for each window: the lower its entropy, the more it counts.

    Weighting by entropy, which needs no labels, is from Kwon et al., Adaptive knowledge
    distillation based on entropy, ICASSP 2020. The form of the weights,
    ``(1 - softmax(entropy)) / (teachers - 1)``, is that of Zhang et al., Confidence-aware
    multi-teacher knowledge distillation, ICASSP 2022, section 2, with the entropy in the place of
    their cross-entropy with the label.

    Args:
        log_probabilities: Shape ``(teacher, window, gesture)``.

    Returns:
        Shape ``(teacher, window)``; sums to one over the teachers.
    """
    entropy = torch.special.entr(log_probabilities.exp()).sum(dim=2)
    if len(entropy) == 1:
        return torch.ones_like(entropy)
    return (1 - torch.softmax(entropy, dim=0)) / (len(entropy) - 1)
