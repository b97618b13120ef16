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
from myodistill.errors import ModelError, MyoDistillError, unknown_name
from myodistill.models.base import GestureModel

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


_ENTRIES: dict[str, Entry] = {}


def plain_name(kind: str, name: str, error: type[MyoDistillError]) -> None:
    """Refuse a name that would not do as the name of a folder.

    Raises:
        error: It would not.
    """
    if not name.isprintable() or name != name.strip(" .") or not name or {*"/\\"} & {*name}:
        raise error(
            f"{kind}: expected a name of letters, digits, hyphens and underscores, got "
            f"{ascii(name)[:80]}; it becomes the name of a folder"
        )


def register(
    name: str, role: Role, *, aliases: tuple[str, ...] = (), printed: int = 0
) -> Callable[[Build], Build]:
    """Add a model to the catalogue; decorates a function from :class:`SignalSpec` to a module.

    All of a module is trained, whatever its parts are called, and its weights are stored under its
    ``state_dict``. To be compared by its features, or to keep a part of it fixed, it must be a
    :class:`~myodistill.models.base.GestureModel`.

    Raises:
        ModelError: A name is taken, or would not do as the name of a folder.
    """

    def add(build: Build) -> Build:
        entry = Entry(name, role, build, aliases, printed)
        taken = {known for e in _ENTRIES.values() for known in (e.name, *e.aliases)}
        for new in (name, *aliases):
            plain_name("model", new, ModelError)
            if new in taken:
                raise ModelError(f"model: expected a new name, '{new}' is registered already")
        _ENTRIES[name] = entry
        return build

    return add


def models(pattern: str = "*", *, role: Role | None = None) -> list[str]:
    """Return the names that match a wildcard pattern, in order of registration."""
    return [
        entry.name
        for entry in _ENTRIES.values()
        if fnmatch(entry.name, pattern) and role in (None, entry.role)
    ]


def entry(name: str) -> Entry:
    """Return the entry of a name or alias.

    Raises:
        ModelError: The name is unknown; the message suggests the nearest.
    """
    for candidate in _ENTRIES.values():
        if name in (candidate.name, *candidate.aliases):
            return candidate
    raise ModelError(unknown_name("model", name, _ENTRIES))


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
    found = entry(name)
    make = found.build if found.ours else partial(_checked, found)
    if seed is None:
        return make(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(spec)


@torch.no_grad()
def _checked(found: Entry, spec: SignalSpec) -> nn.Module:
    """Build a model of somebody else's, and run it once."""
    shapes = {"logits": (2, spec.classes)}
    try:
        with torch.enable_grad():
            model = found.build(spec)
        if not isinstance(model, nn.Module):
            raise TypeError(f"a {type(model).__name__} in the place of a module")
        training, windows = model.training, torch.zeros(2, spec.channels, spec.samples)
        model.eval()
        outputs = {"logits": model(windows)}
        if isinstance(model, GestureModel) and model.num_features:
            shapes["features"] = (2, model.num_features)
            outputs["features"] = model.forward_features(windows)
        model.train(training)
    except Exception as error:  # whatever their code raises
        reason = " ".join(str(error).split())[:80]
        raise ModelError(
            f"model {found.name}: expected a module that reads windows of {spec.channels} channels "
            f"and {spec.samples} samples, got {type(error).__name__}: {reason}; mend it"
        ) from error
    for what, output in outputs.items():
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if shape != shapes[what]:
            raise ModelError(
                f"model {found.name}: expected {what} of shape {shapes[what]} for 2 windows, got "
                f"{shape}; the number of gestures is spec.classes"
            )
    return model
