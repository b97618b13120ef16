"""A decoder's model from whatever form of it lies on disk."""

from __future__ import annotations

from pathlib import Path

from myodistill.realtime.native import CModel
from myodistill.realtime.windows import StoredModel


def load_model(path: Path) -> StoredModel:
    """Load the folder of a bundle, or what was exported, which needs no PyTorch.

    Exported is a ``.onnx`` file, or a folder of C with its shared library, or that library.

    Raises:
        BundleError: It is neither, or damaged.
    """
    if path.suffix.lower() == ".onnx":
        from myodistill.realtime.runtime import OnnxModel

        return OnnxModel.load(path)
    if CModel.is_one(path):
        return CModel.load(path)
    from myodistill.bundle import Bundle

    return Bundle.load(path)
