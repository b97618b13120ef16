"""A bundle as one ONNX file: the network, and everything else that a decoder needs as metadata.

The pre-processing is not in the graph, for it carries state from chunk to chunk; it travels as
metadata and :class:`~myodistill.realtime.runtime.OnnxModel` runs it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from myodistill.bundle import Bundle
from myodistill.bundle_card import require_labels
from myodistill.errors import BundleError, ModelError
from myodistill.files import write_bytes
from myodistill.models.covariance import Standardise
from myodistill.realtime.runtime import OnnxModel
from myodistill.realtime.stored import FORMAT
from myodistill.signals.windows import Windows

OPSET = 20
TOLERANCE = 1e-3
"""Largest difference of a logit from PyTorch's that an export may have."""


def to_onnx(bundle: Bundle, *, single: bool = False) -> onnx.ModelProto:
    """Export a bundle; the input is ``windows`` (window, channel, time).

    Args:
        bundle: Of a student calibrated for a person.
        single: For one window at a time; else for any number of windows.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        ModelError: The network uses what ONNX has no operator for.
    """
    about = metadata(bundle)
    example = torch.randn(1 if single else 2, bundle.spec.channels, bundle.spec.samples)
    try:
        with quiet():
            program = torch.onnx.export(
                deployed(bundle),
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["windows"],
                output_names=["logits"],
                dynamic_shapes=None if single else ({0: torch.export.Dim("window", min=1)},),
            )
    except Exception as error:  # the exporter wraps whatever it meets in classes of its own
        raise ModelError(
            f"{bundle.model}: expected operators that ONNX has, got: {reason(error)}; "
            f"only students can be exported"
        ) from error
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, about)
    return model


def write_onnx(bundle: Bundle, path: Path, windows: Windows) -> float:
    """Export a bundle to a file, if its logits agree with PyTorch's.

    Args:
        bundle: What to export.
        path: The file.
        windows: Filtered windows to compare on, as for :meth:`Bundle.logits`.

    Returns:
        The largest difference of a logit.

    Raises:
        ModelError: It cannot be exported, or its logits differ; nothing is written.
    """
    content = to_onnx(bundle).SerializeToString()
    difference = compare(bundle, OnnxModel.load(content), windows)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{bundle.model}: expected logits within {TOLERANCE:g} of PyTorch's, the export is "
            f"off by {difference:g}; please report it"
        )
    write_bytes(path, content)
    return difference


def compare(bundle: Bundle, model: OnnxModel, windows: Windows) -> float:
    """Largest difference of a logit between a bundle and its exported form."""
    mapped = model.preprocessing.map(windows)
    return float(np.abs(model._infer(mapped.gather()) - bundle.logits(windows)).max())


@torch.no_grad()
def deployed(bundle: Bundle) -> nn.Module:
    """Return a bundle's network for a device: the temperature is part of its last linear layer.

    So are batch normalisations part of the linear layers before them, and standardisations of those
    after them.

    Raises:
        ModelError: Its last linear layer does not give its logits, or a weight is not finite.
    """
    for name, value in bundle.network.state_dict().items():
        if not torch.isfinite(value).all():
            raise ModelError(
                f"{bundle.model}: expected finite weights, {name} has others, so training "
                f"diverged; train it again with a smaller learning rate"
            )
    network = _folded(bundle.network)
    if bundle.temperature == 1:
        return network
    example = torch.randn(2, bundle.spec.channels, bundle.spec.samples)
    expected = network(example) / bundle.temperature
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    for weights in linear[-1].parameters() if linear else ():
        weights.div_(bundle.temperature)
    if not torch.allclose(network(example), expected, rtol=1e-4, atol=1e-4):
        raise ModelError(
            f"{bundle.model}: expected a network that ends with its linear layer, as its "
            f"temperature {bundle.temperature:g} goes in there; set the temperature to 1"
        )
    return network


def require_finite_logits(bundle: Bundle, windows: Windows) -> None:
    """Refuse a network that has diverged, on windows of the person that it is for.

    Raises:
        ModelError: A logit is not finite.
    """
    if not np.isfinite(bundle.logits(windows)).all():
        raise ModelError(
            f"{bundle.model}: expected finite logits, got others on the calibration windows, so "
            f"training diverged; train it again with a smaller learning rate"
        )


def _folded(network: nn.Module) -> nn.Module:
    """Return a copy in which normalisations are part of the linear layers beside them."""
    network = copy.deepcopy(network).cpu().eval()
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            layer, after = module[index], module[index + 1]
            if isinstance(layer, nn.Linear) and isinstance(after, nn.BatchNorm1d):
                module[index] = fuse_linear_bn_eval(layer, after)
                module[index + 1] = nn.Identity()
            if isinstance(layer, Standardise) and isinstance(after, nn.Linear):
                _standardise_within(after, layer.norm)
                module[index] = nn.Identity()
    return network


@torch.no_grad()
def _standardise_within(linear: nn.Linear, norm: nn.BatchNorm1d) -> None:
    """Make the standardisation before a linear layer part of it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    linear.weight.div_((norm.running_var + norm.eps).sqrt())
    linear.bias.sub_(linear.weight @ norm.running_mean)


def metadata(bundle: Bundle) -> dict[str, str]:
    """The metadata of an exported file.

    Raises:
        BundleError: The bundle has no person's pre-processing, or a gesture's name cannot be
            stored.
    """
    if bundle.preprocessing is None:
        raise BundleError(
            f"{bundle.model}: expected a person's pre-processing, the bundle has none yet; "
            f"calibrate it for a person first"
        )
    spec, origin = bundle.spec, bundle.origin
    try:
        require_labels(spec.gestures)
    except ValueError as error:
        raise BundleError(f"{bundle.model}: {error}") from error
    adaptation = bundle.adaptation
    return {
        **({"adaptation": json.dumps(adaptation.to_dict())} if adaptation else {}),
        "format": str(FORMAT),
        "model": bundle.model,
        "labels": json.dumps(spec.gestures, ensure_ascii=False),
        "sampling_rate": repr(spec.sampling_rate),
        "unit": bundle.unit,
        "step": str(bundle.step),
        "rule": json.dumps(asdict(bundle.rule)),
        "channels": str(spec.channels),
        "samples": str(spec.samples),
        "electrodes": json.dumps(asdict(spec.electrodes)),
        "preprocessing": json.dumps(bundle.preprocessing.to_dict()),
        "sections": json.dumps(bundle.preprocessing.sections().tolist()),
        "split": str(origin.get("split", "")),
        "licence": str(origin.get("licence", "")),
        "origin": json.dumps(origin, ensure_ascii=False),
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the exporter's progress and its internal warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def reason(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__
