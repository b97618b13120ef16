"""The outputs of teachers for the windows that a student learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from myodistill.distillation.cache import CachedOutputs
from myodistill.distillation.ensemble import averaged, confidence_weighted
from myodistill.models.base import with_features
from myodistill.training.batches import Inputs
from myodistill.training.teacher_output import TeacherOutput

MERGES = {"mean": averaged, "confidence": confidence_weighted}
"""Functions that merge the log-probabilities ``(teacher, window, gesture)``, by name."""


@dataclass(frozen=True, eq=False)
class CachedTeacher:
    """Teachers whose outputs are cached.

    Attributes:
        teachers: For each teacher the outputs of each window set, in their order.
        temperatures: Of each teacher, which calibrate its confidence.
        merge: Name of the function that merges them.
        clean: Give the outputs for the windows as recorded, whatever the view.
    """

    teachers: Sequence[Sequence[CachedOutputs]]
    temperatures: Sequence[float]
    merge: str
    clean: bool
    _views: dict[int, TeacherOutput] = field(default_factory=dict, init=False)

    def __call__(self, indices: Tensor, view: int) -> TeacherOutput:
        """Return the merged output for some windows in one view."""
        view = 0 if self.clean else view
        if view not in self._views:
            outputs = [
                _concatenated([part.view(view) for part in parts]) for parts in self.teachers
            ]
            self._views[view] = _merged(outputs, self.temperatures, self.merge)
        all_windows = self._views[view]
        features = None if all_windows.features is None else all_windows.features[indices]
        return TeacherOutput(all_windows.logits[indices], features)


@dataclass(frozen=True, eq=False)
class OnlineTeacher:
    """Teachers that run on every batch.

    Attributes:
        teachers: For each teacher the trained part of its network, and its inputs.
        temperatures: Of each teacher, which calibrate its confidence.
        merge: Name of the function that merges them.
        features: Whether features are returned, too.
        precision: Of the forward pass.
    """

    teachers: Sequence[tuple[nn.Module, Inputs]]
    temperatures: Sequence[float]
    merge: str
    features: bool
    precision: str

    def __call__(self, indices: Tensor, view: int) -> TeacherOutput:
        """Return the merged output for some windows in one view."""
        outputs = [
            predict_outputs(
                network, inputs.augmented(view), indices, self.features, self.precision
            ).half()
            for network, inputs in self.teachers
        ]
        return _merged(outputs, self.temperatures, self.merge)


@torch.no_grad()
def predict_outputs(
    network: nn.Module, inputs: Inputs, indices: Tensor, features: bool, precision: str = "float32"
) -> TeacherOutput:
    """Return the output of a network for some windows.

    A network that declares no features gives logits only.

    Args:
        network: The trained part of a teacher.
        inputs: What it reads.
        indices: Of the windows.
        features: Whether features are returned, too.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast).
    """
    network.eval()
    model = with_features(network) if features else None
    logits, features_of_batches = [], []
    for some in torch.split(indices, _BATCH):
        batch = inputs[some]
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            if model is not None:
                of_batch = model.forward_features(batch)
                features_of_batches.append(of_batch.float())
                logits.append(model.forward_head(of_batch).float())
            else:
                logits.append(network(batch).float())
    return TeacherOutput(
        torch.log_softmax(torch.cat(logits), dim=1),
        torch.cat(features_of_batches) if features_of_batches else None,
    )


def has_features(network: nn.Module) -> bool:
    """Return whether a network has features to compare."""
    return with_features(network) is not None


def feature_count(networks: Sequence[nn.Module]) -> int:
    """Return the sum of some teachers' numbers of features; 0 if none has any."""
    return sum(model.num_features for model in map(with_features, networks) if model is not None)


def _concatenated(parts: Sequence[TeacherOutput]) -> TeacherOutput:
    features = [part.features.float() for part in parts if part.features is not None]
    logits = torch.cat([part.logits.float() for part in parts])
    return TeacherOutput(logits, torch.cat(features) if features else None)


def _merged(
    outputs: Sequence[TeacherOutput], temperatures: Sequence[float], merge: str
) -> TeacherOutput:
    """Merge several teachers: logits by the named function, features side by side."""
    logits = torch.stack(
        [
            torch.log_softmax(output.logits.float() / temperature, dim=1)
            for output, temperature in zip(outputs, temperatures, strict=True)
        ]
    )
    features = [out.features.float() for out in outputs if out.features is not None]
    return TeacherOutput(MERGES[merge](logits), torch.cat(features, dim=1) if features else None)


_BATCH = 512
