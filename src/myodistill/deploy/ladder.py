"""The parity ladder: from PyTorch to the microcontroller, each rung against the one before."""

from __future__ import annotations

from collections.abc import Sequence

from myodistill.datasets.recording import Recording
from myodistill.deploy.bundle import Bundle
from myodistill.deploy.installed import EXPORT, require
from myodistill.deploy.rungs import Ladder
from myodistill.realtime.rule import Rule
from myodistill.signals.windows import Windows


def deploy_report(
    bundle: Bundle,
    recordings: Sequence[Recording],
    calibration: Windows,
    *,
    step: int,
    rule: Rule | None = None,
    emulated: int = 200,
) -> Ladder:
    """Take a student down the ladder and measure every rung.

    Args:
        bundle: Of a student that has met its person.
        recordings: Raw, to score; repetitions that the bundle never saw.
        calibration: Filtered windows for the ranges of the 8-bit form; none of the scored ones.
        step: Samples from one decision to the next.
        rule: How answers become decisions.
        emulated: Least number of decisions to emulate on the Cortex-M4F; whole recordings.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        DataError: There is no recording with a whole labelled window.
        LeakageError: A recording was seen in training or calibration.
        ToolError: What exports to ONNX is not installed.
    """
    require(*EXPORT)
    from myodistill.deploy.climb import climb

    return climb(bundle, recordings, calibration, step=step, rule=rule or Rule(), emulated=emulated)
