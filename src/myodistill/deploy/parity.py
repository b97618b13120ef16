"""The parity check: every deployed form of a student against the one it was made from."""

from __future__ import annotations

from collections.abc import Sequence

from myodistill.bundle import Bundle
from myodistill.datasets.recording import Recording
from myodistill.decision_rule import DecisionRule, require_step
from myodistill.deploy.installed import EXPORT, require
from myodistill.deploy.parity_table import ParityTable
from myodistill.signals.windows import Windows


def deploy_report(
    bundle: Bundle,
    recordings: Sequence[Recording],
    windows: Windows,
    *,
    step: int | None = None,
    rule: DecisionRule | None = None,
    emulated: int = 200,
    unseen: bool = True,
) -> ParityTable:
    """Measure every deployed form of a student, from PyTorch to the microcontroller.

    Args:
        bundle: Of a student calibrated for a person.
        recordings: Raw, to score; repetitions that the bundle never saw.
        windows: Filtered windows for the ranges of the 8-bit form; none of the scored ones.
        step: Samples from one decision to the next; the bundle's own by default.
        rule: How predictions become decisions; the bundle's own by default.
        emulated: Least number of decisions to emulate on the Cortex-M4F; whole recordings.
        unseen: Refuse recordings that the bundle was fitted on. Else they are scored, and the table
            says that its accuracies are too good.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        DataError: There is no recording with a whole labelled window.
        ModelError: The student has diverged.
        OutputError: Temporary files cannot be written.
        LeakageError: A recording was seen in training or calibration.
        ToolError: What exports to ONNX is not installed.
    """
    require(*EXPORT)
    from myodistill.deploy.parity_check import check_parity

    return check_parity(
        bundle,
        recordings,
        windows,
        step=require_step(bundle.step if step is None else step),
        rule=rule or bundle.rule,
        emulated=emulated,
        unseen=unseen,
    )
