"""Which target can run which student: known before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch

from myodistill.bundle import Bundle
from myodistill.datasets.recording import SignalSpec
from myodistill.decision_rule import DecisionRule
from myodistill.deploy.lowering import can_lower
from myodistill.errors import ModelError, SettingsError, one_line, unknown_name
from myodistill.models.complexity import complexity
from myodistill.models.covariance import LogCovariances
from myodistill.models.recurrent import Recurrent
from myodistill.models.registry import build, entry, models
from myodistill.models.verification import Format, geometry_spec, lay_out
from myodistill.plugins import Registry
from myodistill.signals.windows import Windows

TARGETS = {
    "onnx": "one ONNX file in float, for ONNX Runtime",
    "int8": "one ONNX file with its linear layers in 8 bits",
    "c": "C99 sources in float; networks unlike log-power, log-covariance by emx-onnx-cgen",
    "c-int8": "C99 sources with linear layers in 8 bits",
    "executorch": "an ExecuTorch program in float for phones, with its metadata beside it",
}
"""The package's own targets, and what each gives."""


class Exporter(Protocol):
    """Writes a bundle as a file or a folder ``out``, which is not there yet."""

    def __call__(
        self,
        bundle: Bundle,
        out: Path,
        *,
        windows: Windows,
        step: int,
        rule: DecisionRule,
    ) -> None:
        """Write it; see :func:`myodistill.deploy.export.export` for what the arguments are."""


EXPORTERS: Registry[Exporter] = Registry("target", SettingsError, reserved=tuple(TARGETS))
"""The exporters of plug-ins, by the name of their target."""


def register_exporter(name: str) -> Callable[[Exporter], Exporter]:
    """Add a target; decorates an :class:`Exporter`, whose docstring says what it gives.

    An exporter that cannot run every network refuses with a ``ModelError``.

    Raises:
        SettingsError: The name is taken or is not one plain word.
    """
    return EXPORTERS.registering(name)


def targets() -> dict[str, str]:
    """Return what there is to export to, and what each target gives in one line."""
    own = {name: (write.__doc__ or "").strip().split("\n")[0] for name, write in EXPORTERS.items()}
    return TARGETS | {name: one_line(text) for name, text in own.items()}


ABSENT = {
    "litert": "LiteRT is not supported, as it needs an older PyTorch; take executorch or onnx",
}
"""Targets that users may look for in vain, and what to take instead."""


@dataclass(frozen=True)
class Fit:
    """Where one student runs.

    Attributes:
        geometry: Key of :data:`~myodistill.models.verification.GEOMETRIES`.
        model: Name in the catalogue.
        parameters: How many.
        weight_bytes: Of its weights in float32.
        targets: For each of :func:`targets` ``"yes"``, or why not.
    """

    geometry: str
    model: str
    parameters: int
    weight_bytes: int
    targets: dict[str, str]


def require_target(name: str) -> None:
    """Refuse an unknown target.

    Raises:
        SettingsError: It is unknown, or not supported; the message says what to take instead.
    """
    if name in ABSENT:
        raise SettingsError(f"target: {ABSENT[name]}")
    if name not in targets():
        raise SettingsError(unknown_name("target", name, targets()))


def deployable(model: str, spec: SignalSpec) -> dict[str, str | None]:
    """Return for each of :data:`TARGETS` why it cannot run a model, or None if it can.

    Nothing is trained. What the exporters of plug-ins can run, they know alone.

    Args:
        model: Name in the catalogue.
        spec: The signal.

    Raises:
        ModelError: The model is unknown or does not suit the signal.
    """
    with torch.device("meta"):
        network = build(model, spec)
    known = can_lower(network)
    eight = None if known else "only log-power and log-covariance students"
    any_form = None if known or entry(model).role == "student" else "only students"
    fronts = [module for module in network.modules() if isinstance(module, LogCovariances)]
    logarithm = None if all(front.exportable for front in fronts) else "no matrix logarithm"
    recurrent = any(isinstance(module, Recurrent) for module in network.modules())
    phone = "recurrent layers unroll" if recurrent else None
    if fronts:
        phone = "matrix logarithm untested"
    return {
        "onnx": logarithm,
        "int8": eight,
        "c": any_form,
        "c-int8": eight,
        "executorch": any_form or phone,
    }


def fits(geometry: str, pattern: str = "*") -> list[Fit]:
    """Return where each student of the catalogue runs.

    Args:
        geometry: Key of :data:`~myodistill.models.verification.GEOMETRIES`.
        pattern: Wildcard over names.

    Raises:
        SettingsError: The geometry is unknown.
        ModelError: No student matches the pattern.
    """
    spec, names = geometry_spec(geometry), models(pattern, role="student")
    if not names:
        raise ModelError(unknown_name("student", pattern, models(role="student")))
    rows = []
    for name in names:
        counted = complexity(name, spec)
        runs = {target: why or "yes" for target, why in deployable(name, spec).items()}
        runs |= dict.fromkeys(EXPORTERS, "its exporter decides")
        rows.append(Fit(geometry, name, counted.parameters, counted.weight_bytes, runs))
    return rows


def render(table: list[Fit], form: Format = "table") -> str:
    """Write where students run as text.

    Raises:
        SettingsError: There is no such format.
    """
    geometry = table[0].geometry
    shown, notes, unit = {"yes": "yes"}, list[str](), " "
    reasons = dict.fromkeys(why for fit in table for why in fit.targets.values() if why != "yes")
    for number, why in enumerate(reasons, 1):
        shown[why] = why
        if form == "table":  # of 80 columns
            shown[why], unit = f"({number})", "\n"
            notes.append(f"({number}) {why}")
    return lay_out(
        form,
        title=f"{geometry}: {geometry_spec(geometry).summary()}",
        heads=["student", "parameters", f"weights{unit}kB", *targets()],
        cells=[
            [
                fit.model,
                f"{fit.parameters:,}",
                f"{fit.weight_bytes / 1e3:,.1f}",
                *(shown[why] for why in fit.targets.values()),
            ]
            for fit in table
        ],
        numbers=(1, 2),
        records=[_record(fit) for fit in table],
        notes=notes,
    )


def _record(fit: Fit) -> dict[str, object]:
    values: dict[str, object] = asdict(fit)
    del values["targets"]
    return values | fit.targets
