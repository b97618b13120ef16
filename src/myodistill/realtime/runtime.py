"""An exported student on ONNX Runtime: no PyTorch is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myodistill.adaptation import Adaptation
from myodistill.datasets.recording import SignalSpec
from myodistill.decision_rule import DecisionRule
from myodistill.errors import BundleError, ToolError
from myodistill.realtime.stored import read_metadata
from myodistill.signals.preprocessing import Preprocessing
from myodistill.signals.samples import finite_windows

try:
    import onnxruntime
except ImportError as error:
    raise ToolError(
        "onnxruntime: expected it to be installed, it is not; pip install 'myodistill[runtime]'"
    ) from error


@dataclass(frozen=True)
class OnnxModel:
    """A student that :func:`myodistill.deploy.onnx.to_onnx` exported, ready to decode.

    Attributes:
        spec: The signal that it reads.
        preprocessing: The person's own.
        origin: Provenance for people, as in the bundle.
        unit: Physical unit of the samples that it expects.
        step: Samples from one decision to the next.
        rule: How predictions become decisions.
        adaptation: By which a decoder can follow its wearer, if there is any.
    """

    spec: SignalSpec
    preprocessing: Preprocessing
    origin: dict[str, Any]
    unit: str
    step: int
    rule: DecisionRule
    adaptation: Adaptation | None
    _session: onnxruntime.InferenceSession = field(repr=False)

    @classmethod
    def load(cls, source: Path | bytes) -> OnnxModel:
        """Read an exported student, on one thread.

        Raises:
            BundleError: The file is missing, damaged, from a newer version or of another origin.
        """
        where = source if isinstance(source, Path) else "model"
        try:
            content = source.read_bytes() if isinstance(source, Path) else source
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            stored = session.get_modelmeta().custom_metadata_map
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
            reason = " ".join(str(error).split())[:160]
            raise BundleError(
                f"{where}: expected an exported student, got: {reason}; export it again"
            ) from error
        return cls(**read_metadata(stored, where), _session=session)

    def _infer(self, windows: ArrayLike) -> NDArray[np.float32]:
        """Return the calibrated logits of pre-processed windows ``(window, channel, time)``.

        Raises:
            DataError: The windows have another shape, or are not finite real numbers.
        """
        read = finite_windows(windows, self.spec, what="exported student")
        if not len(read):
            return np.zeros((0, self.spec.classes), np.float32)
        (logits,) = self._session.run(None, {"windows": read})
        return np.asarray(logits, dtype=np.float32)
