"""Temperature scaling: calibrates the confidence of a teacher."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from myodistill.errors import DataError

LEAST, MOST = 0.05, 20.0
"""Bounds of the temperature."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Fit the temperature that calibrates a network's probabilities; no decision changes.

    Guo et al., On calibration of modern neural networks, 2017, eq. 9: the maximum-likelihood
    temperature on windows that the network was not trained on, by Brent's bounded search over its
    logarithm. If all windows are decided correctly, the likelihood grows without bound as the
    temperature falls; a standard normal prior on the logarithm prevents that, and is negligible
    beside a hundred windows.

    Args:
        logits: Shape ``(window, gesture)``.
        labels: Shape ``(window,)``.

    Returns:
        The temperature to divide logits by, between :data:`LEAST` and :data:`MOST`.

    Raises:
        DataError: There are no windows, the numbers differ, or a logit is not finite.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise DataError(
            f"temperature: expected logits (window, gesture) and a label for each of at least one "
            f"window, got shapes {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise DataError("temperature: expected finite logits, got infinities or NaN")
    exact = logits.detach().double()

    def negative_log_posterior(log_temperature: float) -> float:
        scaled = exact / float(np.exp(log_temperature))
        return float(F.cross_entropy(scaled, labels, reduction="sum")) + log_temperature**2 / 2

    bounds = (float(np.log(LEAST)), float(np.log(MOST)))
    return float(np.exp(minimize_scalar(negative_log_posterior, bounds=bounds, method="bounded").x))
