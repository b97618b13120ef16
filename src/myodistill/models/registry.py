"""The models by name, and how a new one is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Literal

import torch
from torch import nn

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import ModelError
from myodistill.models.base import GestureModel
from myodistill.plugins import Registry, foreign_code

Role = Literal["teacher", "student", "baseline"]
Build = Callable[[SignalSpec], nn.Module]


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue.

    Attributes:
        name: As given to ``--teacher-model`` and ``--student-model``.
        role: What it is meant for.
        build: Makes the network, ``(window, channel, time)`` to logits ``(window, gesture)``.
        aliases: Names that it goes by elsewhere.
        printed: Parameter count printed in its publication at the reference geometry, 0 if none.
    """

    name: str
    role: Role
    build: Build
    aliases: tuple[str, ...] = ()
    printed: int = 0

    @property
    def ours(self) -> bool:
        """Whether it is one of this package, whose tests run it on every signal."""
        return str(getattr(self.build, "__module__", "")).split(".")[0] == "myodistill"


MODELS: Registry[Entry] = Registry("model", ModelError)
"""Every model by name."""


def register_model(
    name: str, role: Role = "student", *, aliases: tuple[str, ...] = (), printed: int = 0
) -> Callable[[Build], Build]:
    """Add a model to the catalogue; decorates a function from :class:`SignalSpec` to a module.

    All of a module is trained, whatever its parts are called, and its weights are stored under its
    ``state_dict``. To be compared by its features, or to keep a part of it fixed, it must be a
    :class:`~myodistill.models.base.GestureModel`.

    Raises:
        ModelError: A name is taken, or cannot name a folder.
    """

    def add(build: Build) -> Build:
        MODELS.register(name, Entry(name, role, build, aliases, printed), aliases=aliases)
        return build

    return add


def models(pattern: str = "*", *, role: Role | None = None) -> list[str]:
    """Return the names that match a wildcard pattern, in order of registration."""
    return [
        entry.name
        for entry in MODELS.values()
        if fnmatch(entry.name, pattern) and role in (None, entry.role)
    ]


def entry(name: str) -> Entry:
    """Return the entry of a name or alias.

    Raises:
        ModelError: The name is unknown; the message suggests the nearest.
    """
    return MODELS.look_up(name)


def build(name: str, spec: SignalSpec, *, seed: int | None = None) -> nn.Module:
    """Build a model for a signal.

    Args:
        name: Name or alias.
        spec: The signal that it will read.
        seed: Seed of its initial weights; the global random state is left as it was.

    Raises:
        ModelError: The name is unknown, the signal is too small for the model, or a module that was
            registered from outside does not give logits for this signal.
    """
    model = entry(name)
    make = model.build if model.ours else partial(_checked, model)
    if seed is None:
        return make(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(spec)


@torch.no_grad()
def _checked(entry: Entry, spec: SignalSpec) -> nn.Module:
    """Build a plug-in's model, and run it once."""
    shapes = {"logits": (2, spec.classes)}
    expected = f"a module for windows of {spec.channels} channels and {spec.samples} samples"
    with foreign_code(f"model {entry.name}", expected, ModelError):
        with torch.enable_grad():
            model = entry.build(spec)
        if not isinstance(model, nn.Module):
            raise TypeError(f"a {type(model).__name__} instead of a module")
        training, windows = model.training, torch.zeros(2, spec.channels, spec.samples)
        model.eval()
        outputs = {"logits": model(windows)}
        if isinstance(model, GestureModel) and model.num_features:
            shapes["features"] = (2, model.num_features)
            outputs["features"] = model.forward_features(windows)
        model.train(training)
    for what, output in outputs.items():
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if shape != shapes[what]:
            raise ModelError(
                f"model {entry.name}: expected {what} of shape {shapes[what]} for 2 windows, got "
                f"{shape}; the number of gestures is spec.classes"
            )
    return model
