"""Which target can run which student: known before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from myodistill.datasets.recording import SignalSpec
from myodistill.deploy.lowering import can_lower
from myodistill.errors import ModelError, SettingsError, unknown_name
from myodistill.models.complexity import complexity
from myodistill.models.covariance import LogCovariances
from myodistill.models.recurrent import Recurrent
from myodistill.models.registry import build, entry, models
from myodistill.models.verification import Format, geometry_spec, lay_out

TARGETS = {
    "onnx": "one ONNX file in float, for ONNX Runtime",
    "int8": "one ONNX file with its linear layers in 8 bits",
    "c": "C99 sources in float; networks other than log-power ones by emx-onnx-cgen",
    "c-int8": "C99 sources with linear layers in 8 bits",
    "executorch": "an ExecuTorch program in float for phones, with its metadata beside it",
}
"""What there is to export to, and what it gives."""

ABSENT = {
    "litert": "LiteRT is not supported, as it needs an older PyTorch; take executorch or onnx",
}
"""What one may look for and will not find, and what to take instead."""


@dataclass(frozen=True)
class Fit:
    """Where one student runs.

    Attributes:
        geometry: Key of :data:`~myodistill.models.verification.GEOMETRIES`.
        model: Name in the catalogue.
        parameters: How many.
        weight_bytes: Of its weights in float32.
        targets: For each of :data:`TARGETS` ``"yes"``, or why not.
    """

    geometry: str
    model: str
    parameters: int
    weight_bytes: int
    targets: dict[str, str]


def require_target(name: str) -> None:
    """Refuse a target that there is not.

    Raises:
        SettingsError: It is unknown, or not supported; the message says what to take instead.
    """
    if name in ABSENT:
        raise SettingsError(f"target: {ABSENT[name]}")
    if name not in TARGETS:
        raise SettingsError(unknown_name("target", name, TARGETS))


def deployable(model: str, spec: SignalSpec) -> dict[str, str | None]:
    """Say for each target why it cannot run a model, or None where it can; nothing is trained.

    Args:
        model: Name in the catalogue.
        spec: The signal.

    Raises:
        ModelError: The model is unknown or does not suit the signal.
    """
    with torch.device("meta"):
        network = build(model, spec)
    if can_lower(network):
        return dict.fromkeys(TARGETS)
    eight, student = "only log-power students", entry(model).role == "student"
    logarithm = any(isinstance(module, LogCovariances) for module in network.modules())
    phone = "recurrent layers unroll" if isinstance(network, Recurrent) else None
    return {
        "onnx": "no matrix logarithm" if logarithm else None,
        "int8": eight,
        "c": None if student else "only students",
        "c-int8": eight,
        "executorch": phone if student else "only students",
    }


def require_deployable(model: str, spec: SignalSpec, target: str) -> None:
    """Refuse a model that a target cannot run, before it is trained.

    Raises:
        ModelError: It cannot; the message says why.
    """
    reason = deployable(model, spec)[target]
    if reason:
        raise ModelError(f"{model}: expected a model that {target} can run, got: {reason}")


def fits(geometry: str, pattern: str = "*") -> list[Fit]:
    """Say of the catalogue's students where each runs.

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
    found = []
    for name in names:
        counted = complexity(name, spec)
        targets = {target: why or "yes" for target, why in deployable(name, spec).items()}
        found.append(Fit(geometry, name, counted.parameters, counted.weight_bytes, targets))
    return found


def render(table: list[Fit], form: Format = "table") -> str:
    """Write where students run as text.

    Raises:
        SettingsError: There is no such format.
    """
    geometry = table[0].geometry
    return lay_out(
        form,
        title=f"{geometry}: {geometry_spec(geometry).summary()}",
        heads=["student", "parameters", "weights kB", *TARGETS],
        cells=[
            [
                fit.model,
                f"{fit.parameters:,}",
                f"{fit.weight_bytes / 1e3:,.1f}",
                *fit.targets.values(),
            ]
            for fit in table
        ],
        numbers=(1, 2),
        records=[_record(fit) for fit in table],
    )


def _record(fit: Fit) -> dict[str, object]:
    values: dict[str, object] = asdict(fit)
    del values["targets"]
    return values | fit.targets
