"""From a bundle to files for a target, and which target can run which model."""

from __future__ import annotations

from pathlib import Path

import torch

from myodistill.datasets.recording import SignalSpec
from myodistill.deploy.bundle import Bundle
from myodistill.deploy.installed import EXPORT, require
from myodistill.deploy.lowering import can_lower
from myodistill.errors import DataError, ModelError, SettingsError, unknown_name
from myodistill.files import write_bytes
from myodistill.models.catalogue import build, entry
from myodistill.models.covariance import LogCovariances
from myodistill.realtime.rule import Rule
from myodistill.signals.windows import Windows

TARGETS = {
    "onnx": "one ONNX file in float, for ONNX Runtime",
    "int8": "one ONNX file with its linear layers in 8 bits",
    "c": "C99 sources in float; networks other than log-power ones by emx-onnx-cgen",
    "c-int8": "C99 sources with linear layers in 8 bits",
}
"""What there is to export to, and what it gives."""

_ABSENT = {
    "executorch": "ExecuTorch is not supported yet; take onnx for phones, c for microcontrollers",
    "litert": "LiteRT is not supported; take onnx for phones, c for microcontrollers",
}


def export(
    bundle: Bundle,
    to: str,
    out: Path,
    *,
    calibration: Windows | None = None,
    step: int | None = None,
    rule: Rule | None = None,
) -> None:
    """Write a bundle for a target; nothing is written if it fails.

    Args:
        bundle: Of a student that has met its person.
        to: One of :data:`TARGETS`.
        out: File for ONNX, folder for C.
        calibration: Filtered windows of the person (not those that are scored): for the check
            against PyTorch and for the ranges of 8-bit forms; C in float does without.
        step: Samples from one decision to the next; only C has it built in.
        rule: How answers become decisions; only C has it built in.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        DataError: Calibration windows are needed and missing.
        ModelError: The target cannot run the model.
        OutputError: It cannot be written.
        SettingsError: The target is unknown, or C lacks a valid ``step``.
        ToolError: What exports to ONNX is not installed.
    """
    if to in _ABSENT:
        raise SettingsError(f"target: {_ABSENT[to]}")
    if to not in TARGETS:
        raise SettingsError(unknown_name("target", to, TARGETS))
    if to.startswith("c") and step is None:
        raise SettingsError("step: expected the samples from one decision to the next, got none")
    if to != "c" and (calibration is None or not len(calibration)):
        raise DataError(
            f"{to}: expected calibration windows, got none; give the person's calibration "
            f"repetitions"
        )
    require(*EXPORT)
    from myodistill.deploy.int8 import quantise
    from myodistill.deploy.onnx import write_onnx
    from myodistill.deploy.plain_c import to_c

    if to == "onnx":
        assert calibration is not None
        write_onnx(bundle, out, calibration)
        return
    if to == "c":
        assert step is not None
        to_c(bundle, step=step, rule=rule).write(out)
        return
    if not can_lower(bundle.network):
        raise ModelError(
            f"{bundle.model}: expected a log-power student for 8 bits, got a "
            f"{type(bundle.network).__name__}; export it in float, or distill into one of these"
        )
    assert calibration is not None
    quantised = quantise(bundle, calibration)
    if to == "int8":
        write_bytes(out, quantised.model.SerializeToString())
        return
    assert step is not None
    to_c(bundle, step=step, rule=rule, quantised=quantised).write(out)


def deployable(model: str, spec: SignalSpec) -> dict[str, str | None]:
    """Say for each target why it cannot run a model, or None where it can; nothing is trained.

    Args:
        model: Name in the catalogue.
        spec: The signal.

    Raises:
        ModelError: The model is unknown or does not suit the signal.
    """
    with torch.device("meta") if not model.startswith("log-power") else torch.device("cpu"):
        network = build(model, spec)
    if can_lower(network):
        return dict.fromkeys(TARGETS)
    reasons: dict[str, str | None] = dict.fromkeys(TARGETS, "8 bits: only log-power students")
    logarithm = any(isinstance(module, LogCovariances) for module in network.modules())
    reasons["onnx"] = "ONNX has no matrix logarithm" if logarithm else None
    reasons["c"] = None if entry(model).role == "student" else "C: only students"
    return reasons


def require_deployable(model: str, spec: SignalSpec, target: str) -> None:
    """Refuse a model that a target cannot run, before it is trained.

    Raises:
        ModelError: It cannot; the message says why.
    """
    reason = deployable(model, spec)[target]
    if reason:
        raise ModelError(f"{model}: expected a model that {target} can run, got: {reason}")
