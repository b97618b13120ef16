"""A student on band covariances as the numbers that a plain decoder needs, folded for one person.

The power of a projection w of whitened channels is ``w' W M C M' W' w`` with the covariance C of
the filtered channels, the person's map M and whitening W of the band: all but C is one vector per
projection. A log-covariance student takes the logarithm of the matrix ``W M C M' W'``: its
projections are the rows of ``W M``. Normalisation is part of the linear layer beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from myodistill.bundle import Bundle
from myodistill.errors import BundleError, ModelError
from myodistill.models.log_covariance import LinearLogCovariance, LogCovariance
from myodistill.models.logpower import EPSILON, LogPowerNetwork, ProjectedLogPower
from myodistill.models.registry import models

FloatArray = NDArray[np.float32]

_KNOWN = (LogPowerNetwork, LogCovariance, LinearLogCovariance)


@dataclass(frozen=True)
class Lowered:
    """A student as plain numbers.

    Attributes:
        sections: Causal filter, second-order sections ``(section, 6)``.
        map: Applied to each filtered sample, ``(input, channel)``, where electrodes are pooled;
            None where it is part of the projections.
        taps: Symmetric band filters, ``(band, tap)``.
        projections: ``(band, projection, input)``.
        logarithm: Whether the features are the logarithm of the projections' covariance matrix, in
            place of the logarithm of each projection's power.
        epsilon: Added to each power before its logarithm.
        weights: Of the linear layers, ``(output, input)`` each; rectified but for the last.
        biases: Of the linear layers.
    """

    sections: NDArray[np.float64]
    map: FloatArray | None
    taps: FloatArray
    projections: FloatArray
    logarithm: bool
    epsilon: float
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]


def can_lower(network: nn.Module) -> bool:
    """Whether a network can be lowered to plain numbers."""
    return isinstance(network, _KNOWN)


def lower(bundle: Bundle, network: nn.Module) -> Lowered:
    """Fold a bundle into plain numbers.

    Args:
        bundle: Of a student on band covariances calibrated for a person.
        network: Its network, normalisations and temperature folded (``deploy.onnx.deployed``).

    Raises:
        BundleError: The bundle has no person's pre-processing.
        ModelError: It is another kind of network.
    """
    if not isinstance(network, _KNOWN):
        known = ", ".join((*models("log-power-*"), *models("log-covariance-*")))
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
    channels = bundle.preprocessing.matrix.astype(np.float64)
    projections = _numbers(front.whitening)
    if isinstance(powers, ProjectedLogPower):
        projections = _numbers(powers.projections) @ projections
    pooled = front.pooling is not None
    if not pooled:
        projections = projections @ channels
    layers = [layer for layer in network.head if isinstance(layer, nn.Linear)]
    return Lowered(
        sections=bundle.preprocessing.sections(),
        map=_single(_numbers(front.pooling) @ channels) if pooled else None,
        taps=_single(_numbers(front.taps)[:, 0]),
        projections=_single(projections),
        logarithm=not isinstance(powers, ProjectedLogPower),
        epsilon=EPSILON,
        weights=tuple(_single(_numbers(layer.weight)) for layer in layers),
        biases=tuple(_single(_numbers(layer.bias)) for layer in layers),
    )


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().cpu().to(torch.float64).numpy(), dtype=np.float64)


def _single(values: NDArray[np.float64]) -> FloatArray:
    return values.astype(np.float32)
