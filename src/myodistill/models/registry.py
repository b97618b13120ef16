"""The models by name, and how a new one is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial, update_wrapper
from typing import Literal

import torch
from torch import nn

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import ModelError, unknown_name
from myodistill.models.base import GestureModel
from myodistill.plugins import Registry, foreign_code

Role = Literal["teacher", "student", "baseline"]
Reads = Literal["image", "sequence", ""]
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
        reads: How it takes a window: as an ``image`` of the electrodes whose channels are the
            samples, as a ``sequence`` of samples, or in a way of its own, which is left empty. The
            first two can read another representation of the window (:data:`REPRESENTATIONS`).
        frames: Into how many parts it cuts the window, 0 if it does not.
    """

    name: str
    role: Role
    build: Build
    aliases: tuple[str, ...] = ()
    printed: int = 0
    reads: Reads = ""
    frames: int = 0

    @property
    def ours(self) -> bool:
        """Whether it is one of this package, whose tests run it on every signal."""
        return str(getattr(self.build, "__module__", "")).split(".")[0] == "myodistill"


RAW = "raw"
"""The samples themselves, which every model reads unless its name says otherwise."""

REPRESENTATIONS: dict[str, Callable[[Entry, SignalSpec], nn.Module]] = {}
"""Fixed representations of a window by name: each puts itself in front of a model."""


class Catalogue(Registry[Entry]):
    """Models by name; ``model@representation`` is a model that reads a representation."""

    def look_up(self, name: str) -> Entry:
        """Return the entry of a name or alias, which may end in ``@`` and a representation.

        Raises:
            ModelError: Model or representation are unknown, or do not go together.
        """
        base, representation = self._split(name)
        if not representation:
            return super().look_up(base)
        model = super().look_up(base)
        if representation == RAW:
            return model
        if representation not in REPRESENTATIONS:
            raise ModelError(
                unknown_name("representation", representation, (RAW, *REPRESENTATIONS))
            )
        if not model.reads:
            able = ", ".join(entry.name for entry in self.values() if entry.reads)
            raise ModelError(
                f"model {model.name}: expected one that reads images or sequences of samples with "
                f"@{representation}, it reads the signal in a way of its own; leave @... out, or "
                f"take one of {able}"
            )
        build = partial(REPRESENTATIONS[representation], model)
        return replace(
            model,
            name=f"{model.name}@{representation}",
            build=update_wrapper(build, model.build),
            aliases=(),
            printed=0,
        )

    def plugin(self, name: str) -> str:
        """Return how ``--plugin`` names where the model came from."""
        return super().plugin(self._split(name)[0])

    def source(self, name: str) -> str:
        """Return the hash of the plug-in that the model came from."""
        return super().source(self._split(name)[0])

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name) or not isinstance(name, str):
            return super().__contains__(name)
        base, representation = self._split(name)
        known = super().__contains__(base) and representation in (RAW, *REPRESENTATIONS)
        return known and (representation == RAW or bool(super().__getitem__(base).reads))

    def _split(self, name: str) -> tuple[str, str]:
        base, at, representation = name.rpartition("@")
        whole = not at or super().__contains__(name)
        return (name, "") if whole else (base, representation)


MODELS = Catalogue("model", ModelError)
"""Every model by name."""


def register_model(
    name: str,
    role: Role = "student",
    *,
    aliases: tuple[str, ...] = (),
    printed: int = 0,
    reads: Reads = "",
    frames: int = 0,
) -> Callable[[Build], Build]:
    """Add a model to the catalogue; decorates a function from :class:`SignalSpec` to a module.

    All of a module is trained, whatever its parts are called, and its weights are stored under its
    ``state_dict``. To be compared by its features, or to keep a part of it fixed, it must be a
    :class:`~myodistill.models.base.GestureModel`.

    Raises:
        ModelError: A name is taken, or cannot name a folder.
    """

    def add(build: Build) -> Build:
        entry = Entry(name, role, build, aliases, printed, reads, frames)
        MODELS.register(name, entry, aliases=aliases)
        return build

    return add


def models(pattern: str = "*", *, role: Role | None = None) -> list[str]:
    """Return the names that match a wildcard pattern, in order of registration.

    Models that read a representation are among them where the pattern holds an ``@``.
    """
    names = []
    for entry in MODELS.values():
        named = [f"{entry.name}@{way}" for way in REPRESENTATIONS] if entry.reads else []
        if role in (None, entry.role):
            names += [entry.name, *(named if "@" in pattern else ())]
    return [name for name in names if fnmatch(name, pattern)]


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
