"""Log-power networks: spatial projections in each band, their log power, a small network.

The power of a projection w in a band is ``w' C w`` with the band's covariance C, so the student
learns ``w`` without passing over the samples again (the idea of common spatial patterns: Blankertz
et al., Optimizing spatial filters for robust EEG single-trial analysis, IEEE SPM 25(1), 2008).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.covariance import BandCovariances, BandNetwork
from myodistill.models.layers import widest
from myodistill.models.registry import register_model

EPSILON = 1e-3


class ProjectedLogPower(nn.Module):
    """Log power of learned projections: ``(window, band, channel, channel)`` to a vector.

    Projections begin as single electrodes and differences of neighbours. In training the channel
    gains are jittered, as contact with the skin would.

    Args:
        bands: Number of bands.
        channels: Number of channels.
        projections: Number in each band.
        jitter: Standard deviation of the logarithm of the gains.
    """

    def __init__(self, bands: int, channels: int, projections: int, *, jitter: float = 0.1) -> None:
        super().__init__()
        start = 0.3 * torch.randn(bands, projections, channels)
        for index in range(min(projections, 4 * channels if channels > 1 else 1)):
            distance, electrode = divmod(index, channels)
            start[:, index] = 0
            start[:, index, electrode] = 1
            if distance:
                start[:, index, (electrode + distance) % channels] -= 1
        self.projections = nn.Parameter(start)
        self.jitter = jitter

    def forward(self, covariances: Tensor) -> Tensor:
        """Map ``(window, band, channel, channel)`` to ``(window, band * projection)``."""
        if self.training and self.jitter:
            shape = (len(covariances), 1, covariances.shape[-1], 1)
            gains = torch.exp(self.jitter * torch.randn(shape, device=covariances.device))
            covariances = covariances * gains * gains.mT
        power = self._in_bulk(covariances) if self.training else self._one_by_one(covariances)
        return torch.log(power + EPSILON).flatten(1)

    def _one_by_one(self, covariances: Tensor) -> Tensor:
        projected = self.projections @ covariances
        return (projected * self.projections).sum(dim=-1)

    def _in_bulk(self, covariances: Tensor) -> Tensor:
        """The same as one matrix product a band: ``w' C w`` is ``ww'`` times ``C``, entry by entry.

        A training step on ten channels is twice as fast; an exported network would have to keep
        every ``ww'``.
        """
        outer = self.projections[..., :, None] * self.projections[..., None, :]
        entries = covariances.flatten(2).transpose(0, 1)
        return torch.bmm(entries, outer.flatten(2).mT).transpose(0, 1)


class LogPowerNetwork(BandNetwork):
    """A teacher or student on log powers.

    Args:
        spec: The signal.
        projections: In each band.
        width: Of the hidden layer.
        dropout: After the hidden layer.
    """

    def __init__(
        self, spec: SignalSpec, *, projections: int, width: int, dropout: float = 0.1
    ) -> None:
        super().__init__(spec)
        self.front = BandCovariances(spec)
        bands, self.num_features = self.front.bands, width
        self.head = nn.Sequential(
            ProjectedLogPower(bands, self.front.channels, projections),
            nn.Linear(bands * projections, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, spec.classes),
        )


@register_model("log-power", "teacher")
def log_power(spec: SignalSpec) -> nn.Module:
    """Build the teacher: wider than any student, and more dropout."""
    return LogPowerNetwork(spec, projections=64, width=256, dropout=0.4)


@register_model("log-power-30k", "student")
def log_power_30k(spec: SignalSpec) -> nn.Module:
    """Build the widest student of at most 30 k parameters."""
    return widest(_of_width(spec), 30_000)


@register_model("log-power-10k", "student")
def log_power_10k(spec: SignalSpec) -> nn.Module:
    """Build the widest student of at most 10 k parameters."""
    return widest(_of_width(spec), 10_000)


def _of_width(spec: SignalSpec) -> Callable[[int], LogPowerNetwork]:
    return lambda width: LogPowerNetwork(spec, projections=2 * width // 5, width=width)
