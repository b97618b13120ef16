"""What the families share: windows as electrode images, rings that wrap, budgets, initial weights.

Every network is split in three: what depends on the signal (``stem``), what does not, and the last
linear layer, which depends on the gestures (``head``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import ModelError
from myodistill.models.base import GestureModel

Module = TypeVar("Module", bound=nn.Module)


class Network(GestureModel):
    """A model of the catalogue; it knows the signal that it was built for."""

    head: nn.Module
    _order: Tensor

    def __init__(self, spec: SignalSpec, *, least_samples: int = 1) -> None:
        super().__init__()
        if spec.samples < least_samples:
            raise ModelError(
                f"{type(self).__name__}: expected windows of at least {least_samples} samples "
                f"at {spec.sampling_rate:g} Hz, got {spec.samples}"
            )
        self.spec = spec
        order = torch.from_numpy(spec.electrodes.positions().reshape(-1))
        in_order = order.tolist() == list(range(spec.channels))
        self.register_buffer("_order", None if in_order else order, persistent=False)

    def forward_features(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to features ``(window, feature)``."""
        return super().forward_features(self.checked(windows))

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features to logits ``(window, gesture)``."""
        logits: Tensor = self.head(features)
        return logits

    def checked(self, windows: Tensor) -> Tensor:
        """Return ``windows`` if their shape is the one that the model was built for."""
        expected = (self.spec.channels, self.spec.samples)
        if windows.ndim != 3 or tuple(windows.shape[1:]) != expected:
            raise ModelError(
                f"{type(self).__name__}: expected windows of shape (window, {expected[0]} "
                f"channels, {expected[1]} samples), got {tuple(windows.shape)}"
            )
        return windows

    def image(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to ``(window, time, row, column)``."""
        return self.lay_out(self.checked(windows).transpose(1, 2))

    def lay_out(self, features: Tensor) -> Tensor:
        """``(..., channel)`` to ``(..., row, column)``, each channel where its electrode sits."""
        if self._order is not None:
            features = features.index_select(-1, self._order)
        rows, columns = self.spec.electrodes.rows, self.spec.electrodes.columns
        return features.reshape(*features.shape[:-1], rows, columns)


def wrap(x: Tensor, columns: int) -> Tensor:
    """Continue the last axis, a ring, by ``columns`` on both sides; may go round more than once."""
    if not columns:
        return x
    size = x.shape[-1]
    first = -columns % size  # not negative: ExecuTorch's remainder is one that keeps the sign
    around = torch.arange(first, first + size + 2 * columns, device=x.device) % size
    return x.index_select(-1, around)


class Conv2d(nn.Conv2d):
    """A convolution over ``(row, column)`` that keeps the size and wraps the columns of a ring."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        ring: bool,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (rows // 2, 0 if ring else columns // 2)
        super().__init__(inputs, outputs, (rows, columns), stride, padding, bias=bias)
        self.around = columns // 2 if ring else 0

    def forward(self, x: Tensor) -> Tensor:
        """``(window, feature, row, column)`` to the same with other features."""
        return super().forward(wrap(x, self.around))


class Conv3d(nn.Conv3d):
    """As :class:`Conv2d`, over ``(frame, row, column)``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int, int], *, ring: bool
    ) -> None:
        frames, rows, columns = kernel
        padding = (frames // 2, rows // 2, 0 if ring else columns // 2)
        super().__init__(inputs, outputs, kernel, padding=padding, bias=False)
        self.around = columns // 2 if ring else 0

    def forward(self, x: Tensor) -> Tensor:
        """``(window, feature, frame, row, column)`` to the same with other features."""
        return super().forward(wrap(x, self.around))


class Downsample(nn.Module):
    """Pool every axis after the features by two; an axis of one stays, an odd end is kept."""

    def __init__(self, kind: str = "max") -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """``(window, feature, *size)`` to ``(window, feature, *⌈size / 2⌉)``."""
        kernel = [min(2, size) for size in x.shape[2:]]
        pool = getattr(functional, f"{self.kind}_pool{len(kernel)}d")
        pooled: Tensor = pool(x, kernel, stride=kernel, ceil_mode=True)
        return pooled


def downsampled_size(size: int, times: int) -> int:
    """Return what :class:`Downsample` leaves of an axis."""
    return ((size - 1) >> times) + 1


class LogPowerFrames(nn.Module):
    """Log-power of learned directions and bands, frame after frame, and causal.

    The information in surface EMG is its variance, so a network is given the log of the variance
    instead of being left to form it (Hudgins et al. 1993). Windows are expected in the scale that
    the pre-processing gives, about 1.

    Args:
        spec: The signal.
        features: Number of directions (weighted sums of channels), each with its own filter.
    """

    def __init__(self, spec: SignalSpec, features: int) -> None:
        super().__init__()
        self.hop = frame_samples(spec)
        kernel = max(4, round(0.016 * spec.sampling_rate))
        self.context = kernel - 1
        self.direction = nn.Conv1d(spec.channels, features, 1, bias=False)
        self.band = nn.Conv1d(features, features, kernel, groups=features, bias=False)
        self.norm = nn.BatchNorm1d(features)

    def start(self, samples: Tensor) -> Tensor:
        """The samples before the first: zeros, ``(window, channel, context)``."""
        return samples.new_zeros(samples.shape[0], samples.shape[1], self.context)

    def forward(self, samples: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """``(window, channel, time)`` to ``(window, feature, frame)`` and the samples left over.

        ``past`` is what the previous call left over; a chunk that completes no frame gives none.
        """
        x = torch.cat((past, samples), -1)
        whole = (x.shape[-1] - self.context) // self.hop * self.hop
        if not whole:
            return x.new_zeros(x.shape[0], self.direction.out_channels, 0), x
        bands = self.band(self.direction(x[..., : whole + self.context]))
        power = functional.avg_pool1d(bands.square(), self.hop)
        features: Tensor = self.norm(torch.log(power + 1e-6))
        return features, x[..., whole:]


def frame_samples(spec: SignalSpec) -> int:
    """Length of a frame of :class:`LogPowerFrames`: 10 ms in samples."""
    return max(1, round(0.010 * spec.sampling_rate))


def parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters())


def widest(make: Callable[[int], Module], budget: int) -> Module:
    """Build the widest network within a budget of parameters.

    Args:
        make: From a width to a network whose parameters grow with it.
        budget: Most parameters that it may have.

    Widths are multiples of four, which the kernels of microcontrollers are fastest at.

    Raises:
        ModelError: Even the narrowest is too large.
    """

    def count(width: int) -> int:
        with torch.device("meta"):
            return parameters(make(width))

    widths = range(4, 1025, 4)
    fitting = bisect_right(widths, budget, key=count)
    if not fitting:
        raise ModelError(
            f"model: expected a signal that {budget} parameters suffice for, the narrowest network "
            f"needs {count(widths[0])}; take a larger one, or fewer channels or gestures"
        )
    return make(widths[fitting - 1])


def initialise(model: Module) -> Module:
    """Set the initial weights of the convolutional families, and return the model.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015, section 2.2, backward case).
    Normalisation: scale 1, shift 0 (Ioffe & Szegedy 2015, section 3). Linear layers: uniform within
    ±1/√fan-in (LeCun et al. 1998, section 4.6), PyTorch's own, with biases of zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
    return model
