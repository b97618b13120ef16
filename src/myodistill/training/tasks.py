"""Training tasks: a network and its losses in one module, so that the loop knows neither.

For a batch a task returns ``{"loss": ..., "output": logits}`` and the named parts of the loss:
``task_loss`` (hard labels), ``kd_loss`` (soft targets), ``feature_loss``. The loop minimises
``loss`` and logs all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from myodistill.errors import ModelError, SettingsError, unknown_name
from myodistill.models.base import GestureModel, with_features
from myodistill.training.batches import Batch
from myodistill.training.feature_losses import Hint, relational
from myodistill.training.losses import (
    FEATURE_LOSSES,
    LOSSES,
    require_temperature,
    require_weight,
    smoothed,
)


class Task(nn.Module):
    """Learns from hard labels.

    Args:
        network: Maps inputs to logits.
        label_smoothing: Share of the target spread over all gestures.

    Attributes:
        stacked: Number of leading axes of every parameter that count networks; 0 for one network.
    """

    stacked = 0

    def __init__(self, network: nn.Module, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, ``task_loss`` and the logits as ``output``."""
        output = self.network(batch.inputs)
        task_loss = F.cross_entropy(output, self.targets(batch, output))
        return {"loss": task_loss, "task_loss": task_loss, "output": output}

    def targets(self, batch: Batch, output: Tensor) -> Tensor:
        """Return the labels' probabilities, smoothed, in the precision of the output."""
        return smoothed(batch.targets, self.label_smoothing).to(output.dtype)


class DistillationTask(Task):
    """Learns from hard labels and from a teacher's output.

    ``loss = alpha * task_loss + (1 - alpha) * kd_loss + feature_weight * feature_loss`` (Hinton,
    Vinyals and Dean, Distilling the knowledge in a neural network, 2015, section 2); the last term
    only with a loss of :data:`FEATURE_LOSSES`.

    Args:
        network: The student.
        loss: Name of a loss over logits, or one of :data:`FEATURE_LOSSES`.
        alpha: Weight of the hard-label loss.
        temperature: Of the soft targets.
        label_smoothing: Of the hard-label loss.
        feature_weight: Weight of the loss over features.
        features: Number of the teacher's features; 0 if none are compared.

    Raises:
        SettingsError: The loss is unknown, or a number is outside its range.
        ModelError: The loss compares features and the student declares none.
    """

    alpha: Tensor
    temperature: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        loss: str = "soft-target",
        alpha: float = 0.0,
        temperature: float,
        label_smoothing: float = 0.0,
        feature_weight: float = 1.0,
        features: int = 0,
    ) -> None:
        require_weight(alpha)
        require_temperature(temperature)
        if loss not in (*LOSSES, *FEATURE_LOSSES):
            raise SettingsError(unknown_name("loss", loss, (*LOSSES, *FEATURE_LOSSES)))
        super().__init__(network, label_smoothing=label_smoothing)
        self.kd_loss = LOSSES[loss if loss in LOSSES else "soft-target"]
        # Buffers, so that students with different ones can be stacked.
        self.register_buffer("alpha", torch.tensor(float(alpha)), persistent=False)
        self.register_buffer("temperature", torch.tensor(float(temperature)), persistent=False)
        self.feature_weight = feature_weight
        self.compares_features = loss in FEATURE_LOSSES
        student = require_features(network, loss) if self.compares_features else None
        self.hint: Hint | None = None
        if student is not None and loss == "hint":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(features)  # the same initial projection in every run
                self.hint = Hint(student.num_features, features)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, its named parts, and the logits as ``output``."""
        assert batch.teacher_logits is not None
        output, feature_loss = self._forward(batch)
        targets = self.targets(batch, output)
        kd_loss = self.kd_loss(output, batch.teacher_logits, targets, self.temperature)
        task_loss = F.cross_entropy(output, targets)
        loss = self.alpha * task_loss + (1 - self.alpha) * kd_loss
        parts = {"task_loss": task_loss, "kd_loss": kd_loss}
        if feature_loss is not None:
            loss = loss + self.feature_weight * feature_loss
            parts["feature_loss"] = feature_loss
        return {"loss": loss, "output": output, **parts}

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the logits, and the loss over features if they are compared."""
        if not self.compares_features:
            return self.network(batch.inputs), None
        student = self.network
        assert isinstance(student, GestureModel)
        assert batch.teacher_features is not None
        features = student.forward_features(batch.inputs)
        output = student.forward_head(features)
        return output, (self.hint or relational)(features, batch.teacher_features)


def require_features(network: nn.Module, loss: str) -> GestureModel:
    """Refuse to compare the features of a network that declares none.

    Raises:
        ModelError: It has none; the message names what it would have to be.
    """
    model = with_features(network)
    if model is None:
        raise ModelError(
            f"loss {loss}: expected a student with features, {type(network).__name__} has none; "
            f"make it a myodistill.models.base.GestureModel with forward_features, forward_head "
            f"and num_features, or take a loss over logits"
        )
    return model
