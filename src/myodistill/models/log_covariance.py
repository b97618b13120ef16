"""Log-covariance students: the features of the closed-form teachers, and a small head.

The teachers ``population`` are linear in log-covariances, so a student that reads the same can
keep what they know; one that reads log powers of projections cannot. The logarithm of a matrix
needs its eigenvectors. Exported networks find them by Jacobi rotations, all of them products and
sums, as ONNX has no operator for it (Golub and Van Loan, Matrix Computations, 4th ed., section
8.5). Their work grows with the third power of the channels, so above 16 electrodes neighbours are
averaged first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.covariance import (
    BandCovariances,
    BandNetwork,
    LogCovariances,
    Standardise,
    matrix_log,
    regularised,
)
from myodistill.models.layers import widest
from myodistill.models.registry import register_model

_SWEEPS = 5
"""Sweeps of rotations, after which 32 channels are at the accuracy of float32."""

MOST_CHANNELS = 16
"""A logarithm of 32 channels takes a microcontroller eight times the work of one of 16."""


class ExportableLogCovariances(LogCovariances):
    """As :class:`LogCovariances`, of fewer channels, and by rotations in an exported program.

    Args:
        spec: The signal.
    """

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__(spec, most_channels=MOST_CHANNELS)

    @property
    def exportable(self) -> bool:
        """Rotations are products and sums."""
        return True

    def logarithms(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to ``(window, band, channel, channel)``."""
        return self.logarithm(BandCovariances.forward(self, windows))

    @staticmethod
    def logarithm(covariances: Tensor) -> Tensor:
        """Logarithm of symmetric matrices ``(..., n, n)``."""
        if torch.compiler.is_exporting():
            return jacobi_log(covariances)
        return matrix_log(covariances)


def jacobi_log(matrices: Tensor) -> Tensor:
    """As :func:`~myodistill.models.covariance.matrix_log`, without a solver of eigenvectors.

    Args:
        matrices: Symmetric, shape ``(..., n, n)``.
    """
    n = matrices.shape[-1]
    rotated = regularised(matrices)
    vectors = torch.eye(n, device=matrices.device).expand_as(rotated)
    for partners in _rounds(n) * _SWEEPS:
        partner = torch.tensor(partners, device=matrices.device)
        cosine, sine = _rotation(rotated, partner)
        rotated = _turned(rotated, partner, cosine, sine)
        rotated = _turned(rotated.mT, partner, cosine, sine)
        vectors = _turned(vectors, partner, cosine, sine)
    values = rotated.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(matrices.dtype).tiny)
    logarithm: Tensor = (vectors * values.log()[..., None, :]) @ vectors.mT
    return logarithm


def _rotation(matrices: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine for each index that make its entry with its partner zero."""
    index = torch.arange(len(partner), device=partner.device)
    diagonal = matrices.diagonal(dim1=-2, dim2=-1)
    symmetric = matrices[..., index, partner] + matrices[..., partner, index]  # rounding apart
    twice = symmetric * (partner != index)
    gap = diagonal.index_select(-1, partner) - diagonal
    side = torch.where(gap == 0, (partner - index).sign().to(gap.dtype), gap.sign())
    least = torch.finfo(gap.dtype).tiny ** 0.5
    tangent = side * twice / (gap.abs() + (gap.square() + twice.square()).sqrt() + least)
    cosine = (1 + tangent.square()).rsqrt()
    return cosine, tangent * cosine


def _turned(matrices: Tensor, partner: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate each column with its partner's."""
    others = matrices.index_select(-1, partner)
    return matrices * cosine[..., None, :] - others * sine[..., None, :]


def _rounds(n: int) -> list[list[int]]:
    """Each index's partner, round by round, until all pairs have met (a round robin)."""
    seats = list(range(n + n % 2))
    rounds = []
    for _ in seats[1:]:
        partners = list(range(n))
        for one, other in zip(seats, reversed(seats), strict=True):
            if max(one, other) < n:
                partners[one] = other
        rounds.append(partners)
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return rounds


class LinearLogCovariance(BandNetwork):
    """A student that is linear in log-covariances, as the teacher ``population`` is.

    Args:
        spec: The signal.
    """

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__(spec)
        self.front = front = ExportableLogCovariances(spec)
        self.num_features = front.features
        self.head = nn.Sequential(
            Standardise(front.features), nn.Linear(front.features, spec.classes)
        )


class LogCovariance(BandNetwork):
    """A student on log-covariances: two hidden layers.

    Args:
        spec: The signal.
        width: Of the hidden layers.
        dropout: After each.
    """

    def __init__(self, spec: SignalSpec, *, width: int, dropout: float = 0.1) -> None:
        super().__init__(spec)
        self.front = front = ExportableLogCovariances(spec)
        self.num_features = width
        self.head = nn.Sequential(
            Standardise(front.features),
            nn.Linear(front.features, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, spec.classes),
        )


@register_model("log-covariance-30k", "student")
def log_covariance_30k(spec: SignalSpec) -> nn.Module:
    """Build the widest student of at most 30 k parameters."""
    return widest(lambda width: LogCovariance(spec, width=width), 30_000)


@register_model("log-covariance-10k", "student")
def log_covariance_10k(spec: SignalSpec) -> nn.Module:
    """Build the widest student of at most 10 k parameters."""
    return widest(lambda width: LogCovariance(spec, width=width), 10_000)


@register_model("log-covariance-linear", "student")
def log_covariance_linear(spec: SignalSpec) -> nn.Module:
    """Build the linear student."""
    return LinearLogCovariance(spec)
