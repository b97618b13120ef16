"""What a subject's teachers say of the windows that a student learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from myodistill.distillation.cache import CachedOutputs, TeacherOutput
from myodistill.distillation.ensemble import averaged, confidence_weighted
from myodistill.models.base import with_features
from myodistill.training.batches import Inputs

MERGES = {"mean": averaged, "confidence": confidence_weighted}
"""How several teachers become one: by name, a function of ``(teacher, window, gesture)``."""


@dataclass(frozen=True, eq=False)
class CachedTeacher:
    """Answers from the cache.

    Attributes:
        teachers: For each teacher its outputs, the subject's windows first, then the others'.
        temperatures: That calibrate each teacher's confidence.
        merge: Name of how they become one.
        clean: Answer for the windows as they were recorded, whatever view is asked for.
    """

    teachers: Sequence[Sequence[CachedOutputs]]
    temperatures: Sequence[float]
    merge: str
    clean: bool
    _views: dict[int, TeacherOutput] = field(default_factory=dict, init=False)

    def __call__(self, places: Tensor, view: int) -> TeacherOutput:
        """Return what the teachers say of some windows in one view."""
        view = 0 if self.clean else view
        if view not in self._views:
            said = [_joined([part.view(view) for part in parts]) for parts in self.teachers]
            self._views[view] = _merged(said, self.temperatures, self.merge)
        every = self._views[view]
        features = None if every.features is None else every.features[places]
        return TeacherOutput(every.logits[places], features)


@dataclass(frozen=True, eq=False)
class OnlineTeacher:
    """Answers of teachers who are asked anew for every batch.

    Attributes:
        teachers: For each teacher the trained part of its network, and its inputs.
        temperatures: That calibrate each teacher's confidence.
        merge: Name of how they become one.
        features: Whether features are asked for, too.
        precision: Of the forward pass.
    """

    teachers: Sequence[tuple[nn.Module, Inputs]]
    temperatures: Sequence[float]
    merge: str
    features: bool
    precision: str

    def __call__(self, places: Tensor, view: int) -> TeacherOutput:
        """Return what the teachers say of some windows in one view."""
        said = [
            predict_outputs(
                network, inputs.augmented(view), places, self.features, self.precision
            ).half()
            for network, inputs in self.teachers
        ]
        return _merged(said, self.temperatures, self.merge)


@torch.no_grad()
def predict_outputs(
    network: nn.Module, inputs: Inputs, places: Tensor, features: bool, precision: str = "float32"
) -> TeacherOutput:
    """Return what a network says of some windows, and the features that it says it by.

    A network that declares no features has logits only.

    Args:
        network: The trained part of a teacher.
        inputs: What it reads.
        places: Of the windows.
        features: Whether they are asked for.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast).
    """
    network.eval()
    model = with_features(network) if features else None
    logits, kept = [], []
    for some in torch.split(places, _BATCH):
        read = inputs[some]
        with torch.autocast(read.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            if model is not None:
                seen = model.forward_features(read)
                kept.append(seen.float())
                logits.append(model.forward_head(seen).float())
            else:
                logits.append(network(read).float())
    return TeacherOutput(
        torch.log_softmax(torch.cat(logits), dim=1), torch.cat(kept) if kept else None
    )


def has_features(network: nn.Module) -> bool:
    """Say whether a network has features to compare."""
    return with_features(network) is not None


def feature_count(networks: Sequence[nn.Module]) -> int:
    """Return the number of features that some teachers give together; 0 if none has any."""
    return sum(model.num_features for model in map(with_features, networks) if model is not None)


def _joined(parts: Sequence[TeacherOutput]) -> TeacherOutput:
    features = [part.features.float() for part in parts if part.features is not None]
    logits = torch.cat([part.logits.float() for part in parts])
    return TeacherOutput(logits, torch.cat(features) if features else None)


def _merged(
    said: Sequence[TeacherOutput], temperatures: Sequence[float], merge: str
) -> TeacherOutput:
    """Make one teacher of several: logits by the rule, features side by side."""
    logits = torch.stack(
        [
            torch.log_softmax(one.logits.float() / temperature, dim=1)
            for one, temperature in zip(said, temperatures, strict=True)
        ]
    )
    features = [one.features.float() for one in said if one.features is not None]
    return TeacherOutput(MERGES[merge](logits), torch.cat(features, dim=1) if features else None)


_BATCH = 512
