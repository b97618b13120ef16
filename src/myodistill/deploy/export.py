"""From a bundle to files for a target."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from myodistill.bundle import Bundle
from myodistill.decision_rule import DecisionRule, require_step
from myodistill.deploy.installed import EXPORT, require
from myodistill.deploy.lowering import can_lower
from myodistill.deploy.targets import EXPORTERS, require_target
from myodistill.errors import DataError, ModelError
from myodistill.files import new_folder, write_bytes, writing
from myodistill.plugins import foreign_code
from myodistill.signals.windows import Windows


def export(
    bundle: Bundle,
    to: str,
    out: Path,
    *,
    calibration: Windows | None = None,
    step: int | None = None,
    rule: DecisionRule | None = None,
) -> None:
    """Write a bundle for a target; nothing is written if it fails.

    Args:
        bundle: Of a student calibrated for a person.
        to: One of :func:`~myodistill.deploy.targets.targets`.
        out: File for ONNX, folder for C and ExecuTorch, either for a plug-in's.
        calibration: Filtered windows of the person (not those that are scored): for the check
            against PyTorch and for the ranges of 8-bit forms; C in float does without. Ranges
            hold in operation only if rest is among the windows (:attr:`SubjectData.ranges`).
        step: Samples from one decision to the next; the bundle's own by default.
        rule: How predictions become decisions; the bundle's own by default.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        DataError: Calibration windows are needed and missing.
        ModelError: The target cannot run the model, or the model has diverged.
        OutputError: It cannot be written.
        SettingsError: The target is unknown, or ``step`` is no whole number from 1.
        ToolError: What exports is not installed.
    """
    require_target(to)
    if to != "c" and (calibration is None or not len(calibration)):
        raise DataError(
            f"{to}: expected calibration windows, got none; give the person's calibration "
            f"repetitions"
        )
    if to in EXPORTERS:
        assert calibration is not None
        step, rule = require_step(bundle.step if step is None else step), rule or bundle.rule
        _write_foreign(bundle, to, out, calibration, step, rule)
        return
    require(*EXPORT)
    bundle = replace(
        bundle,
        step=require_step(bundle.step if step is None else step),
        rule=bundle.rule if rule is None else rule,
    )
    from myodistill.deploy.onnx import require_finite_logits

    if calibration is not None and len(calibration):
        require_finite_logits(bundle, calibration)
    if to == "executorch":
        from myodistill.deploy.executorch import write_executorch

        assert calibration is not None
        write_executorch(bundle, out, calibration)
        return
    from myodistill.deploy.onnx import write_onnx
    from myodistill.deploy.plain_c import to_c
    from myodistill.deploy.quantize import quantise

    if to == "onnx":
        assert calibration is not None
        write_onnx(bundle, out, calibration)
        return
    if to == "c":
        to_c(bundle).write(out)
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
    to_c(bundle, quantised=quantised).write(out)


def _write_foreign(
    bundle: Bundle, to: str, out: Path, calibration: Windows, step: int, rule: DecisionRule
) -> None:
    """Let a plug-in write beside ``out``, and put what it wrote in its place when it is whole."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    with scratch as folder:
        made = Path(folder) / out.name
        with foreign_code(f"target {to}", "its exporter to write the bundle", ModelError):
            EXPORTERS[to](bundle, made, calibration=calibration, step=step, rule=rule)
            if not made.exists():
                raise FileNotFoundError("nothing was written to out")
        if made.is_dir():
            with new_folder(out) as place:
                shutil.copytree(made, place, dirs_exist_ok=True)
        else:
            with writing(out):
                made.replace(out)
