"""A log-power student as the numbers that a plain decoder needs, folded for one person.

The power of a projection w of whitened channels is ``w' W M C M' W' w`` with the covariance C of
the filtered channels, the person's map M and whitening W of the band: all but C is one vector per
projection. Batch normalisation is part of the linear layer before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from myodistill.bundle import Bundle
from myodistill.errors import BundleError, ModelError
from myodistill.models.logpower import EPSILON, LogPowerNetwork, ProjectedLogPower
from myodistill.models.registry import models

FloatArray = NDArray[np.float32]

LINEAR = ("head.1", "head.5")
"""The linear layers of a log-power student: what may be in 8 bits."""


@dataclass(frozen=True)
class Lowered:
    """A student as plain numbers.

    Attributes:
        sections: Causal filter, second-order sections ``(section, 6)``.
        map: Applied to each filtered sample, ``(input, channel)``, where electrodes are pooled;
            None where it is part of the projections.
        taps: Symmetric band filters, ``(band, tap)``.
        projections: ``(band, projection, input)``.
        epsilon: Added to each power before its logarithm.
        weights: Of the two linear layers, ``(output, input)`` each.
        biases: Of the two linear layers.
    """

    sections: NDArray[np.float64]
    map: FloatArray | None
    taps: FloatArray
    projections: FloatArray
    epsilon: float
    weights: tuple[FloatArray, FloatArray]
    biases: tuple[FloatArray, FloatArray]


def can_lower(network: nn.Module) -> bool:
    """Whether a network can be lowered to plain numbers."""
    return isinstance(network, LogPowerNetwork)


def lower(bundle: Bundle, network: nn.Module) -> Lowered:
    """Fold a bundle into plain numbers.

    Args:
        bundle: Of a log-power student calibrated for a person.
        network: Its network, batch normalisations and temperature folded
            (``deploy.onnx.deployed``).

    Raises:
        BundleError: The bundle has no person's pre-processing.
        ModelError: It is another kind of network.
    """
    if not isinstance(network, LogPowerNetwork):
        known = ", ".join(models("log-power-*"))
        raise ModelError(
            f"{bundle.model}: expected a student that plain C knows ({known}), got a "
            f"{type(network).__name__}; export it to ONNX, or distill into one of these"
        )
    if bundle.preprocessing is None:
        raise BundleError(
            f"{bundle.model}: expected a person's pre-processing, the bundle has none yet; "
            f"calibrate it for a person first"
        )
    front, powers = network.front, network.head[0]
    assert isinstance(powers, ProjectedLogPower)
    channels = bundle.preprocessing.matrix.astype(np.float64)
    projections = _numbers(powers.projections) @ _numbers(front.whitening)
    pooled = front.pooling is not None
    if not pooled:
        projections = projections @ channels
    first, last = (network.get_submodule(name) for name in LINEAR)
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    return Lowered(
        sections=bundle.preprocessing.sections(),
        map=_single(_numbers(front.pooling) @ channels) if pooled else None,
        taps=_single(_numbers(front.taps)[:, 0]),
        projections=_single(projections),
        epsilon=EPSILON,
        weights=(_single(_numbers(first.weight)), _single(_numbers(last.weight))),
        biases=(_single(_numbers(first.bias)), _single(_numbers(last.bias))),
    )


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().cpu().to(torch.float64).numpy(), dtype=np.float64)


def _single(values: NDArray[np.float64]) -> FloatArray:
    return values.astype(np.float32)
