"""Predictions of a network, batch by batch."""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from myodistill.signals.windows import Windows


@torch.no_grad()
def predict(network: nn.Module, windows: Windows) -> NDArray[np.float32]:
    """Return a network's logits for pre-processed windows, shape ``(window, gesture)``.

    The network is put in evaluation mode: no dropout, running batch statistics.

    Args:
        network: ``(window, channel, time)`` to logits.
        windows: Pre-processed.
    """
    network.eval()
    device = next(chain(network.parameters(), network.buffers())).device
    parts = []
    for batch in windows.batches():
        parts.append(network(torch.from_numpy(batch).to(device)).float().cpu().numpy())
    return np.concatenate(parts)
