"""The models by name, and how a new one is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

import torch
from torch import nn

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import ModelError, unknown_name

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


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str, role: Role, *, aliases: tuple[str, ...] = (), printed: int = 0
) -> Callable[[Build], Build]:
    """Add a model to the catalogue; decorates a function from :class:`SignalSpec` to a module.

    Raises:
        ModelError: The name or an alias is taken.
    """

    def add(build: Build) -> Build:
        entry = Entry(name, role, build, aliases, printed)
        taken = {known for e in _ENTRIES.values() for known in (e.name, *e.aliases)}
        for new in (name, *aliases):
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
        ModelError: The name is unknown, or the signal is too small for the model.
    """
    if seed is None:
        return entry(name).build(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entry(name).build(spec)
