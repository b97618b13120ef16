"""Training tasks: a network and its loss in one module, so that the loop knows neither.

A task returns ``{"loss": scalar, "output": logits}`` for a batch, whatever it is learning from.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from myodistill.distillation.losses import soft_target


@dataclass(frozen=True)
class Batch:
    """Some training windows.

    Attributes:
        windows: Shape ``(window, channel, time)``.
        labels: Shape ``(window,)``.
        indices: Place of each window in the training set, shape ``(window,)``.
    """

    windows: Tensor
    labels: Tensor
    indices: Tensor


class Task(nn.Module):
    """Learns the labels.

    Args:
        network: Windows to logits.
        label_smoothing: Share of the target spread over all gestures (Szegedy et al.,
            Rethinking the Inception architecture, 2016, section 7).
    """

    def __init__(self, network: nn.Module, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss and the logits of a batch."""
        output = self.network(batch.windows)
        return {"loss": self.loss(output, batch), "output": output}

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy with the labels."""
        return F.cross_entropy(output, batch.labels, label_smoothing=self.label_smoothing)


class DistillationTask(Task):
    """Learns from a teacher's logits, which were computed beforehand.

    Args:
        network: The student.
        teacher_logits: The teacher's answer to every training window, ``(window, gesture)``.
        alpha: Weight of the hard-label loss.
        temperature: Of the soft targets.
    """

    teacher_logits: Tensor

    def __init__(
        self, network: nn.Module, teacher_logits: Tensor, *, alpha: float, temperature: float
    ) -> None:
        super().__init__(network)
        self.register_buffer("teacher_logits", teacher_logits, persistent=False)
        self.alpha = alpha
        self.temperature = temperature

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Soft-target loss against the teacher's logits for the same windows."""
        teacher = self.teacher_logits[batch.indices]
        return soft_target(
            output, teacher, batch.labels, alpha=self.alpha, temperature=self.temperature
        )
