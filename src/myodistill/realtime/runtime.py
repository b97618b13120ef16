"""An exported student on ONNX Runtime: no PyTorch is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Electrodes, Signal, SignalSpec
from myodistill.errors import BundleError, ToolError, Wanted
from myodistill.readers import parse_json
from myodistill.signals.preprocessing import Preprocessing

try:
    import onnxruntime
except ImportError as error:
    raise ToolError(
        "onnxruntime: expected it to be installed, it is not; pip install 'myodistill[runtime]'"
    ) from error

FORMAT = 1


@dataclass(frozen=True)
class OnnxModel:
    """A student that :func:`myodistill.deploy.onnx.to_onnx` exported, ready to decode.

    Attributes:
        spec: The signal that it reads.
        preprocessing: The person's own.
        origin: Provenance for people, as in the bundle.
        unit: Physical unit of the samples that it expects.
    """

    spec: SignalSpec
    preprocessing: Preprocessing
    origin: dict[str, Any]
    unit: str
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
        if stored.get("format") != str(FORMAT):
            raise BundleError(
                f"{where}: expected an exported student of format {FORMAT}, got "
                f"{stored.get('format')}; update myodistill or export the bundle again"
            )
        wanted = Wanted("complete metadata", BundleError, "export the bundle again")
        with wanted.reading(where):
            said = {
                name: parse_json(stored[name], where, wanted)
                for name in ("preprocessing", "origin", "electrodes", "labels")
            }
            return cls(
                spec=_signal(stored, said),
                preprocessing=Preprocessing.from_dict(said["preprocessing"]),
                origin=dict(said["origin"]),
                unit=stored["unit"],
                _session=session,
            )

    def infer(self, windows: Signal) -> NDArray[np.float32]:
        """Return the logits of pre-processed windows ``(window, channel, time)``."""
        (logits,) = self._session.run(None, {"windows": windows})
        return np.asarray(logits, dtype=np.float32)


def _signal(stored: dict[str, str], said: dict[str, Any]) -> SignalSpec:
    electrodes = dict(said["electrodes"])
    electrodes["order"] = tuple(electrodes["order"])
    return SignalSpec(
        Electrodes(**electrodes),
        int(stored["samples"]),
        float(stored["sampling_rate"]),
        tuple(said["labels"]),
    )
