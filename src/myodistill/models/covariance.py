"""Band covariances, the features of every model of this file and of logpower.py.

A window's covariance between electrodes, in several frequency bands, is taken by a fixed linear
map; nothing of it is learned, so it is computed once per window (`front`) and only the rest
(`head`) is trained. Each person is re-centred band by band: the mean of their covariances becomes
the identity, which needs no labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from scipy.signal import firwin
from torch import Tensor, nn
from torch.nn import functional as F

from myodistill.datasets.recording import Electrodes, SignalSpec
from myodistill.errors import ModelError
from myodistill.models.layers import Network
from myodistill.models.registry import register_model

EDGES_HZ = (20.0, 45.0, 80.0, 120.0, 170.0, 250.0, 450.0)
"""Edges of the bands where the sampling rate allows them: narrow where EMG is strong."""

SHRINKAGE = 1e-3
MOST_CHANNELS = 32
"""Electrodes beyond these are pooled before covariances are taken."""


def band_edges(sampling_rate: float) -> tuple[float, ...]:
    """Return the edges in hertz of the bands for a sampling rate.

    Below 900 Hz the upper bands of :data:`EDGES_HZ` do not exist; three bands over what is left,
    beginning at 5 Hz, replace them.
    """
    top = 0.48 * sampling_rate
    if top >= EDGES_HZ[-1]:
        return EDGES_HZ
    return (5.0, 0.3 * top, 0.6 * top, top)


def taps_length(sampling_rate: float) -> int:
    """Length of the band filters: 31 ms, and never fewer than 15 taps; odd."""
    return max(15, 2 * round(0.0155 * sampling_rate) + 1)


def patch_size(electrodes: Electrodes, most: int) -> tuple[int, int]:
    """Return rows and columns of the patches that :func:`pool_electrodes` averages."""
    rows, columns, high, wide = electrodes.rows, electrodes.columns, 1, 1
    while -(-rows // high) * -(-columns // wide) > most:
        if rows / high >= columns / wide:
            high *= 2
        else:
            wide *= 2
    return high, wide


def pool_electrodes(electrodes: Electrodes, most: int = MOST_CHANNELS) -> np.ndarray:
    """Weights that average neighbouring electrodes until few enough are left.

    The patches are halves of the longer side, again and again: runs of a ring, blocks of a grid.

    Args:
        electrodes: Where they sit.
        most: How many may be left.

    Returns:
        Shape ``(pooled, channel)``; the identity where nothing is pooled.
    """
    positions = electrodes.positions()
    rows, columns = positions.shape
    high, wide = patch_size(electrodes, most)
    if (high, wide) == (1, 1):
        return np.eye(electrodes.channels)
    patches = [
        positions[top : top + high, left : left + wide].ravel()
        for top in range(0, rows, high)
        for left in range(0, columns, wide)
    ]
    weights = np.zeros((len(patches), electrodes.channels))
    for index, patch in enumerate(patches):
        weights[index, patch] = 1 / len(patch)
    return weights


class BandCovariances(nn.Module):
    """Covariances between channels in each band, re-centred to one person.

    Each band is a linear-phase FIR filter run inside the window, with zeros around it. Where there
    are too many electrodes, neighbours are averaged first. Nothing here is trained.

    Args:
        spec: The signal.
        most_channels: Electrodes beyond these are pooled (:func:`pool_electrodes`).

    Attributes:
        bands: Number of bands.
        channels: Number of channels after pooling.

    Raises:
        ModelError: A window is too short for the filters.
    """

    taps: Tensor
    pooling: Tensor
    whitening: Tensor

    def __init__(self, spec: SignalSpec, *, most_channels: int = MOST_CHANNELS) -> None:
        super().__init__()
        edges = band_edges(spec.sampling_rate)
        length = taps_length(spec.sampling_rate)
        if spec.samples < length:
            raise ModelError(
                f"band filters: expected windows of at least {length} samples at "
                f"{spec.sampling_rate:g} Hz, got {spec.samples}; use longer windows"
            )
        taps = [
            firwin(length, band, pass_zero=False, fs=spec.sampling_rate) for band in pairwise(edges)
        ]
        self.bands = len(taps)
        pooling = pool_electrodes(spec.electrodes, most_channels)
        self.channels = len(pooling)
        kernels = torch.tensor(np.stack(taps)[:, None, ::-1].tolist())
        self.register_buffer("taps", kernels, persistent=False)
        needed = None if self.channels == spec.channels else torch.tensor(pooling.tolist())
        self.register_buffer("pooling", needed, persistent=False)
        identity = torch.eye(self.channels).expand(self.bands, -1, -1).clone()
        self.register_buffer("whitening", identity)

    def forward(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to ``(window, band, channel, channel)``."""
        whitening = self.whitening
        return whitening @ self.covariances(windows) @ whitening.mT

    def covariances(self, windows: Tensor) -> Tensor:
        """As :meth:`forward`, before re-centring."""
        bands = self.filtered(windows)
        return bands @ bands.mT / bands.shape[-1]

    def filtered(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to ``(window, band, channel, time)``, pooled first."""
        windows = self.pooled(windows)
        count, channels, samples = windows.shape
        signals = windows.reshape(count * channels, 1, samples)
        filtered = F.conv1d(signals, self.taps, padding=self.taps.shape[-1] // 2)
        return filtered.view(count, channels, self.bands, samples).transpose(1, 2)

    def pooled(self, windows: Tensor) -> Tensor:
        """Average neighbours in windows ``(window, channel, time)`` where there are too many."""
        return windows if self.pooling is None else self.pooling @ windows

    @property
    def centre_key(self) -> tuple[object, ...]:
        """What :meth:`centre` depends on beside the windows."""
        return "bands", self.channels

    @torch.no_grad()
    def centre(self, windows: Tensor | Iterable[Tensor]) -> Tensor:
        """Return the whitening after which the log-Euclidean mean of windows is the identity.

        (Zanini et al., Transfer learning: a Riemannian geometry framework with applications to
        brain-computer interfaces, IEEE TBME 65(5), 2018, eq. 7; mean after Arsigny et al., 2006.)

        Args:
            windows: Any of the person's pre-processed windows, shape ``(window, channel, time)``;
                or such batches of them, one after another.

        Returns:
            A value for ``whitening``, shape ``(band, channel, channel)``.
        """
        total, count = torch.zeros_like(self.whitening, dtype=torch.float64), 0
        for batch in torch.split(windows, 256) if isinstance(windows, Tensor) else windows:
            total += matrix_log(self.covariances(batch)).sum(dim=0, dtype=torch.float64)
            count += len(batch)
        values, vectors = torch.linalg.eigh((total / count).to(self.whitening.dtype))
        centre: Tensor = (vectors * torch.exp(-values / 2)[:, None, :]) @ vectors.mT
        return centre


class LogCovariances(BandCovariances):
    """Matrix logarithms of re-centred band covariances, as vectors."""

    @property
    def exportable(self) -> bool:
        """Whether ONNX can compute the logarithm."""
        return False

    def forward(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to ``(window, band * channel * (channel + 1) / 2)``."""
        return self._vector(self.logarithms(windows))

    def logarithms(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to ``(window, band, channel, channel)``."""
        return matrix_log(super().forward(windows))

    def permuted(self, logarithms: Tensor, order: np.ndarray) -> Tensor:
        """Return the vectors of windows, given their logarithms, for another channel order."""
        return self._vector(logarithms[..., order, :][..., order])

    def _vector(self, logarithm: Tensor) -> Tensor:
        rows, columns = torch.triu_indices(self.channels, self.channels)
        weight = torch.where(rows == columns, 1.0, 2.0**0.5).to(logarithm.device)
        return (logarithm[..., rows, columns] * weight).flatten(1)

    @property
    def features(self) -> int:
        """Length of the vector."""
        return self.bands * self.channels * (self.channels + 1) // 2


def matrix_log(matrices: Tensor) -> Tensor:
    """Logarithm of symmetric matrices ``(..., n, n)``, with a thousandth of their power added."""
    least = torch.finfo(matrices.dtype).tiny
    values, vectors = torch.linalg.eigh(regularised(matrices))
    logarithm: Tensor = (vectors * values.clamp_min(least).log()[..., None, :]) @ vectors.mT
    return logarithm


def regularised(matrices: Tensor) -> Tensor:
    """Symmetric matrices ``(..., n, n)`` with a thousandth of their power added."""
    power = matrices.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None]
    identity = torch.eye(matrices.shape[-1], device=matrices.device)
    return matrices + (SHRINKAGE * power + torch.finfo(matrices.dtype).tiny) * identity


class Standardise(nn.Module):
    """Noisy standardisation: running mean and variance of each feature, as in batch norm.

    In training, noise of a share of the spread is added: with few people the network must not
    rely on any one feature (Bishop, Training with noise is equivalent to Tikhonov regularization,
    1995).

    Args:
        features: How many.
        noise: Standard deviation of the noise, as a share of the feature's.
    """

    def __init__(self, features: int, *, noise: float = 0.3) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features, affine=False)
        self.noise = noise

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(window, feature)`` to the same shape."""
        standard: Tensor = self.norm(features)
        if self.training and self.noise:
            standard = standard + self.noise * torch.randn_like(standard)
        return standard


class BandNetwork(Network):
    """A fixed front of band covariances, and layers after it of which the last decides."""

    front: BandCovariances
    head: nn.Sequential

    @property
    def fixed_front(self) -> nn.Module:
        """The band covariances, or what is computed of them."""
        return self.front

    def after_front(self, seen: Tensor) -> Tensor:
        """Map what the front gives to features ``(window, feature)``."""
        *layers, _ = self.head
        for layer in layers:
            seen = layer(seen)
        return seen

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features to logits ``(window, gesture)``."""
        logits: Tensor = self.head[-1](features)
        return logits


class Covariance(BandNetwork):
    """A teacher on log-covariances: two hidden layers.

    Args:
        spec: The signal.
        width: Of the hidden layers.
        dropout: After each.
    """

    def __init__(self, spec: SignalSpec, *, width: int = 192, dropout: float = 0.4) -> None:
        super().__init__(spec)
        self.front = front = LogCovariances(spec)
        self.num_features = width
        self.head = nn.Sequential(
            Standardise(front.features),
            nn.Dropout(0.1),
            nn.Linear(front.features, width),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, spec.classes),
        )


@register_model("covariance", "teacher")
def covariance(spec: SignalSpec) -> nn.Module:
    """Build the log-covariance teacher."""
    return Covariance(spec)
