"""A student as an ExecuTorch program, for phones: its network by XNNPACK, one window at a time.

The program holds the network alone; what else a decoder must know (pre-processing, labels, rate)
lies beside it as JSON, the same metadata that an exported ONNX file carries.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from myodistill.bundle import Bundle
from myodistill.deploy.installed import require
from myodistill.deploy.onnx import TOLERANCE, deployed, metadata, reason
from myodistill.errors import ModelError
from myodistill.files import new_folder, write_bytes, write_text
from myodistill.models.recurrent import Recurrent
from myodistill.signals.windows import Windows

PROGRAM, METADATA = "student.pte", "student.json"
_CHECKED = 64


def write_executorch(bundle: Bundle, folder: Path, windows: Windows) -> float:
    """Export a bundle to a folder of two files, if its logits agree with PyTorch's.

    Args:
        bundle: Of a student calibrated for a person.
        folder: A new one, or an older one to replace as a whole.
        windows: Filtered windows to compare on, as for :meth:`Bundle.logits`.

    Returns:
        The largest difference of a logit, over at most 64 windows spread over ``windows``.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        ModelError: ExecuTorch cannot run it, or its logits differ; nothing is written.
        ToolError: ExecuTorch is not installed.
    """
    program = to_executorch(bundle)
    chosen = windows.take(np.arange(0, len(windows), -(-len(windows) // _CHECKED)))
    difference = _difference(bundle, program, chosen)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{bundle.model}: expected logits within {TOLERANCE:g} of PyTorch's, the export is "
            f"off by {difference:g}; export it to ONNX"
        )
    with new_folder(folder) as part:
        write_bytes(part / PROGRAM, program)
        write_text(part / METADATA, json.dumps(metadata(bundle), indent=1, ensure_ascii=False))
    return difference


def to_executorch(bundle: Bundle) -> bytes:
    """Return the program; its method ``forward`` maps (1, channel, time) to (1, gesture).

    Raises:
        BundleError: The bundle has no person's pre-processing.
        ModelError: ExecuTorch cannot run it.
        ToolError: ExecuTorch is not installed.
    """
    require("executorch", extra="executorch")
    metadata(bundle)
    if any(isinstance(module, Recurrent) for module in bundle.network.modules()):
        raise ModelError(
            f"{bundle.model}: expected a student without recurrent layers, which ExecuTorch would "
            f"unroll over the window; export it to ONNX"
        )
    with _quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        network = deployed(bundle)
        for module in network.modules():  # it refuses buffers that are not part of the state
            module._non_persistent_buffers_set.clear()
        example = torch.randn(1, bundle.spec.channels, bundle.spec.samples)
        try:
            program = torch.export.export(network, (example,))
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            return bytes(lowered.to_executorch().buffer)
        except Exception as error:  # it raises classes of its own and whatever it meets
            raise ModelError(
                f"{bundle.model}: expected operators that ExecuTorch has, got: {reason(error)}; "
                f"export it to ONNX"
            ) from error


def _difference(bundle: Bundle, program: bytes, windows: Windows) -> float:
    """Largest difference of a logit between a bundle and its program."""
    with _quiet():
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(program).load_method("forward")
    assert bundle.preprocessing is not None
    inputs = torch.from_numpy(bundle.preprocessing.map(windows).gather())
    ours = torch.from_numpy(bundle.logits(windows))
    theirs = torch.cat([method.execute([window[None]])[0] for window in inputs])
    return float((ours - theirs).abs().max())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings that are meant for ExecuTorch's own developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
