"""From a bundle to files for a target."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from myodistill.bundle import Bundle
from myodistill.decision_rule import DecisionRule, require_step
from myodistill.deploy.installed import EXPORT, require
from myodistill.deploy.lowering import can_lower
from myodistill.deploy.targets import EXPORTERS, require_target
from myodistill.errors import DataError, ModelError, SettingsError, shown
from myodistill.files import new_folder, write_bytes, writing
from myodistill.plugins import foreign_code
from myodistill.signals.windows import Windows

if TYPE_CHECKING:
    from myodistill.deploy.plain_c import CCode


def export(
    bundle: Bundle,
    to: str,
    out: Path,
    *,
    windows: Windows | None = None,
    step: int | None = None,
    rule: DecisionRule | None = None,
    shared: bool = False,
) -> None:
    """Write a bundle for a target; nothing is written if it fails.

    Args:
        bundle: Of a student calibrated for a person.
        to: One of :func:`~myodistill.deploy.targets.targets`.
        out: File for ONNX, folder for C and ExecuTorch, either for a plug-in's.
        windows: Filtered windows of the person (not those that are scored): for the check
            against PyTorch and for the ranges of 8-bit forms; C in float does without. Ranges
            hold in operation only if rest is among the windows (:attr:`SubjectData.ranges`).
        step: Samples from one decision to the next; the bundle's own by default.
        rule: How predictions become decisions; the bundle's own by default.
        shared: Compile C to a shared library for this computer as well.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        DataError: Calibration windows are needed and missing.
        ModelError: The target cannot run the model, or the model has diverged.
        OutputError: It cannot be written.
        SettingsError: The target is unknown, or ``step`` is not a whole number of at least 1.
        ToolError: The exporter is not installed.
    """
    require_target(to)
    if shared and to not in ("c", "c-int8"):
        raise SettingsError(f"shared: expected --to c or c-int8 with it, got {shown(to)}")
    if to != "c" and (windows is None or not len(windows)):
        raise DataError(
            f"{to}: expected calibration windows, got none; give the person's calibration "
            f"repetitions"
        )
    if to in EXPORTERS:
        assert windows is not None
        step, rule = require_step(bundle.step if step is None else step), rule or bundle.rule
        _write_foreign(bundle, to, out, windows, step, rule)
        return
    require(*EXPORT)
    bundle = replace(
        bundle,
        step=require_step(bundle.step if step is None else step),
        rule=bundle.rule if rule is None else rule,
    )
    from myodistill.deploy.onnx import require_finite_logits

    if windows is not None and len(windows):
        require_finite_logits(bundle, windows)
    if to == "executorch":
        from myodistill.deploy.executorch import write_executorch

        assert windows is not None
        write_executorch(bundle, out, windows)
        return
    from myodistill.deploy.onnx import write_onnx
    from myodistill.deploy.plain_c import to_c
    from myodistill.deploy.quantize import quantise

    if to == "onnx":
        assert windows is not None
        write_onnx(bundle, out, windows)
        return
    if to == "c":
        _write_c(bundle, to_c(bundle), out, shared=shared)
        return
    if not can_lower(bundle.network):
        raise ModelError(
            f"{bundle.model}: expected a log-power or log-covariance student for 8 bits, got a "
            f"{type(bundle.network).__name__}; export it in float, or distill into one of these"
        )
    assert windows is not None
    quantised = quantise(bundle, windows)
    if to == "int8":
        write_bytes(out, quantised.model.SerializeToString())
        return
    _write_c(bundle, to_c(bundle, quantised=quantised), out, shared=shared)


def _write_c(bundle: Bundle, code: CCode, out: Path, *, shared: bool) -> None:
    from myodistill.deploy.shared import write_shared

    if shared:
        write_shared(bundle, code, out)
    else:
        code.write(out)


def _write_foreign(
    bundle: Bundle, to: str, out: Path, windows: Windows, step: int, rule: DecisionRule
) -> None:
    """Let a plug-in write beside ``out``, and move the result into place when it is complete."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    with scratch as folder:
        made = Path(folder) / out.name
        with foreign_code(f"target {to}", "its exporter to write the bundle", ModelError):
            EXPORTERS[to](bundle, made, windows=windows, step=step, rule=rule)
            if not made.exists():
                raise FileNotFoundError("nothing was written to out")
        if made.is_dir():
            with new_folder(out) as folder_out:
                shutil.copytree(made, folder_out, dirs_exist_ok=True)
        else:
            with writing(out):
                made.replace(out)
