"""Adaptation that changes a network or what it reads; to compare with, no decoder offers it.

Each method maps the pre-processed windows of a stream, ``(window, channel, time)``, to logits. A
window is decided before it is used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from myodistill.bundle import Bundle
from myodistill.datasets.recording import Signal
from myodistill.realtime.adaptation import RATE

Logits = NDArray[np.float32]

_BLOCK = 32


def channel_normalisation(student: Bundle, windows: Signal) -> Logits:
    """Divide each channel by the running mean of its power, which calibration made one.

    An exponential moving standardisation (Schirrmeister et al., Deep learning with convolutional
    neural networks for EEG decoding and visualization, Human Brain Mapping 38(11), 2017).
    """
    scaled, power = np.empty_like(windows), np.ones(windows.shape[1], np.float32)
    for window, out in zip(windows, scaled, strict=True):
        out[:] = window / np.sqrt(power)[:, None]
        power += RATE * ((window**2).mean(axis=1) - power)
    return np.concatenate([student._infer(block) for block in _blocks(scaled, 512)])


@torch.no_grad()
def adaptive_batch_norm(student: Bundle, windows: Signal) -> Logits:
    """Let the statistics of batch normalisation follow the stream, 32 windows at a time.

    (Li et al., Adaptive batch normalization for practical domain adaptation, Pattern Recognition
    80, 2018; for EMG Du et al., Surface EMG-based inter-session gesture recognition enhanced by
    deep domain adaptation, Sensors 17(3), 2017.)
    """
    network = copy.deepcopy(student.network).eval()
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d)]
    read: dict[nn.Module, Tensor] = {}
    for norm in norms:
        norm.register_forward_pre_hook(lambda one, inputs: read.update({one: inputs[0]}))
    share, logits = 1 - (1 - RATE) ** _BLOCK, []
    for block in _blocks(windows, _BLOCK):
        logits.append(network(torch.from_numpy(np.ascontiguousarray(block))).numpy())
        for norm in norms if len(block) == _BLOCK else ():
            seen = read[norm]
            others = [axis for axis in range(seen.ndim) if axis != 1]
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean += share * (seen.mean(others) - norm.running_mean)
            norm.running_var += share * (seen.var(others) - norm.running_var)
    return np.asarray(np.concatenate(logits) / np.float32(student.temperature))


WINDOW_METHODS: dict[str, Callable[[Bundle, Signal], Logits]] = {
    "channel-normalisation": channel_normalisation,
    "adaptive-batch-norm": adaptive_batch_norm,
}
"""Methods by name."""


def _blocks(windows: Signal, size: int) -> list[Signal]:
    return [windows[begin : begin + size] for begin in range(0, len(windows), size)]
