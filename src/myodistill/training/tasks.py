"""Training tasks: a network and its loss in one module, so that the loop knows neither.

A task returns ``{"loss": scalar, "output": logits}`` for a batch, whatever it is learning from.
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
    hard_and_soft,
    require_temperature,
    require_weight,
    smoothed,
)


class Task(nn.Module):
    """Learns the labels.

    Args:
        network: Inputs to logits.
        label_smoothing: Share of the target spread over all gestures.

    Attributes:
        stacked: How many leading axes of every parameter count networks; 0 for one network.
    """

    stacked = 0

    def __init__(self, network: nn.Module, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss and the logits of a batch."""
        output = self.network(batch.inputs)
        return {"loss": self.loss(output, batch), "output": output}

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy with the labels."""
        return F.cross_entropy(output, self.targets(batch, output))

    def targets(self, batch: Batch, output: Tensor) -> Tensor:
        """Return the labels' probabilities, smoothed, in the precision of the output."""
        return smoothed(batch.targets, self.label_smoothing).to(output.dtype)


class DistillationTask(Task):
    """Learns from what teachers say of the same windows.

    Args:
        network: The student.
        loss: Name of a loss over logits, or one of :data:`FEATURE_LOSSES`.
        alpha: Weight of the hard-label loss.
        temperature: Of the soft targets.
        label_smoothing: Of the hard-label loss.
        feature_weight: Weight of a loss over features.
        features: How many features the teachers give; 0 where none are compared.

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
        self.soft = LOSSES[loss if loss in LOSSES else "soft-target"]
        # Buffers, so that students with different ones can be stacked.
        self.register_buffer("alpha", torch.tensor(float(alpha)), persistent=False)
        self.register_buffer("temperature", torch.tensor(float(temperature)), persistent=False)
        self.feature_weight = feature_weight
        self.compares = loss in FEATURE_LOSSES
        student = require_features(network, loss) if self.compares else None
        self.hint: Hint | None = None
        if student is not None and loss == "hint":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(features)  # the projection begins alike in every run
                self.hint = Hint(student.num_features, features)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss and the logits of a batch."""
        if not self.compares:
            return super().forward(batch)
        assert batch.features is not None
        student = self.network
        assert isinstance(student, GestureModel)
        seen = student.forward_features(batch.inputs)
        output = student.forward_head(seen)
        apart = (self.hint or relational)(seen, batch.features)
        return {"loss": self.loss(output, batch) + self.feature_weight * apart, "output": output}

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Labels and the teachers' answers together."""
        assert batch.answers is not None
        return hard_and_soft(
            self.soft,
            output,
            batch.answers,
            self.targets(batch, output),
            alpha=self.alpha,
            temperature=self.temperature,
        )


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
