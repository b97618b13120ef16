"""Training tasks: a network and its loss in one module, so that the loop knows neither.

A task returns ``{"loss": scalar, "output": logits}`` for a batch, whatever it is learning from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from myodistill.distillation.losses import soft_target


@dataclass(frozen=True)
class Batch:
    """Some training windows, each possibly mixed with another (mixup).

    Attributes:
        inputs: What the network reads, shape ``(window, ...)``.
        indices: Place of each window in the training set.
        partners: Place of the window mixed into it; its own where there is no mixup.
        weight: Share of the first of the two, shape ``(window, 1)``.
    """

    inputs: Tensor
    indices: Tensor
    partners: Tensor
    weight: Tensor

    def mix(self, table: Tensor) -> Tensor:
        """Look up a row for each window and mix it as the windows are mixed.

        Args:
            table: One row per window of the training set, shape ``(window, n)``.
        """
        return self.weight * table[self.indices] + (1 - self.weight) * table[self.partners]


class Task(nn.Module):
    """Learns the labels.

    Args:
        network: Inputs to logits.
        labels: Gesture of every training window.
        classes: Number of gestures.
        label_smoothing: Share of the target spread over all gestures (Szegedy et al.,
            Rethinking the Inception architecture, 2016, section 7).
    """

    targets: Tensor

    def __init__(
        self, network: nn.Module, labels: Tensor, classes: int, *, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.network = network
        hard = F.one_hot(labels, classes).float()
        smooth = (1 - label_smoothing) * hard + label_smoothing / classes
        self.register_buffer("targets", smooth, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss and the logits of a batch."""
        output = self.network(batch.inputs)
        return {"loss": self.loss(output, batch), "output": output}

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy with the labels."""
        return F.cross_entropy(output, batch.mix(self.targets))


class DistillationTask(Task):
    """Learns from a teacher's logits, which were computed beforehand.

    Args:
        network: The student.
        labels: Gesture of every training window.
        teacher: The teacher's logits for every training window, shape ``(window, gesture)``.
        alpha: Weight of the hard-label loss.
        temperature: Of the soft targets.
        label_smoothing: Of the hard-label loss.
    """

    soft: Tensor

    def __init__(
        self,
        network: nn.Module,
        labels: Tensor,
        teacher: Tensor,
        *,
        alpha: float,
        temperature: float,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(network, labels, teacher.shape[1], label_smoothing=label_smoothing)
        self.register_buffer("soft", torch.softmax(teacher / temperature, dim=1), persistent=False)
        self.alpha = alpha
        self.temperature = temperature

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Soft-target loss against the teacher's answer to the same windows."""
        return soft_target(
            output,
            self.temperature * torch.log(batch.mix(self.soft)),
            batch.mix(self.targets),
            alpha=self.alpha,
            temperature=self.temperature,
        )
