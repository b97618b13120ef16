"""Representations: what a network reads in place of the samples.

Every network that reads an image of the electrodes or a sequence can read one of these, by the
name ``model@representation`` (``myodistill models '*@*'`` counts them). They are fixed, re-centred
to each person as band covariances are, and computed once per window:

- ``band-power``: the log power of each electrode in each band and part of the window;
- ``spectrogram``: the same in the bins of a short-time Fourier transform of about 64 ms (Hann);
- ``log-covariance``: the logarithms of the covariances of the bands. In an image each electrode
  has its row of each matrix, a sequence has their tangent vectors.

Parts of the window are the time of a sequence, and channels of an image, as bands are. Electrodes
beyond 32 are pooled for a sequence, and beyond 16 for logarithms of matrices. An image is also told
where each electrode sits, which convolutions that end in a mean over the electrodes cannot know
(Liu et al. 2018, "An intriguing failing of convolutional neural networks and the CoordConv
solution"). Features are standardised one by one, with noise in training, as for the covariance
models. Networks with powers or covariances of their own take none of these. Without ``@``, or with
``@raw``, a network reads the samples, as published.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from myodistill.datasets.recording import Electrodes, SignalSpec
from myodistill.errors import ModelError
from myodistill.models.base import with_features
from myodistill.models.covariance import (
    MOST_CHANNELS,
    BandCovariances,
    Standardise,
    band_edges,
    patch_size,
)
from myodistill.models.layers import Network
from myodistill.models.log_covariance import ExportableLogCovariances
from myodistill.models.registry import REPRESENTATIONS, Entry

EPSILON = 1e-3
_FOURIER_SECONDS = 0.064


@dataclass(frozen=True)
class Shape:
    """What a representation gives: ``(window, place, frame, feature)``.

    Attributes:
        electrodes: Where the places sit, for an image.
        places: Number of places; one for a sequence, whose features have none.
        frames: Parts of the window, the newest last.
        features: Of each place in each frame.
    """

    electrodes: Electrodes
    places: int
    frames: int
    features: int


class BandPower(BandCovariances):
    """Log power of each electrode in each band and part of the window.

    Args:
        spec: The signal.
        frames: Number of parts, which end with the window.
        image: Whether electrodes are places of an image.

    Raises:
        ModelError: The window is too short.
    """

    image_frames = 4
    sequence_frames = 16

    def __init__(self, spec: SignalSpec, frames: int, *, image: bool) -> None:
        super().__init__(spec, most_channels=spec.channels if image else MOST_CHANNELS)
        _require_samples("band-power", spec, frames)
        self.frames = frames
        self.image = image
        self.whitens = self.channels <= MOST_CHANNELS
        self.shape = self._shape(spec)

    def _shape(self, spec: SignalSpec) -> Shape:
        places, features = (self.channels, 1) if self.image else (1, self.channels)
        return Shape(spec.electrodes, places, self.frames, features * self.bands)

    def forward(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to ``(window, place, frame, feature)``."""
        frames = _framed(self.whitening @ self.filtered(windows), self.frames)
        powers = torch.log(frames.square().mean(dim=-1) + EPSILON)
        if self.image:
            return powers.permute(0, 2, 3, 1)
        return powers.permute(0, 3, 2, 1).flatten(2).unsqueeze(1)

    @torch.no_grad()
    def centre(self, windows: Tensor | Iterable[Tensor]) -> Tensor:
        """As for covariances; each electrode by itself where a window cannot tell how all vary.

        That is so of more than 32 electrodes, and of the narrow bins of a spectrogram.
        """
        if self.whitens:
            return super().centre(windows)
        total, count = torch.zeros(self.whitening.shape[:2], dtype=torch.float64), 0
        for batch in torch.split(windows, 256) if isinstance(windows, Tensor) else windows:
            power = self.filtered(batch).square().mean(dim=-1)
            total += (power + EPSILON**2).log().sum(dim=0)
            count += len(batch)
        return torch.diag_embed((-total / count / 2).exp()).to(self.whitening.dtype)

    @property
    def centre_key(self) -> tuple[object, ...]:
        """What :meth:`centre` depends on beside the windows."""
        return super().centre_key if self.whitens else (type(self), self.channels, self.frames)


class Spectrogram(BandPower):
    """Log power of each electrode in each bin of a short-time Fourier transform.

    The frames lie evenly in the window, the last one at its end.
    """

    def __init__(self, spec: SignalSpec, frames: int, *, image: bool) -> None:
        super().__init__(spec, frames, image=image)
        length = int(2 ** round(np.log2(_FOURIER_SECONDS * spec.sampling_rate)))
        _require_samples("spectrogram", spec, length + frames - 1)
        low, *_, high = band_edges(spec.sampling_rate)
        frequencies = np.arange(length // 2) * spec.sampling_rate / length
        kept = frequencies[(frequencies >= low) & (frequencies <= high)] / spec.sampling_rate
        hann = np.hanning(length + 1)[:-1]
        waves = np.exp(-2j * np.pi * kept[:, None] * np.arange(length)) * hann
        waves /= np.linalg.norm(hann)
        self.bands, self.whitens = len(kept), False
        self.hop = (spec.samples - length) // max(frames - 1, 1)
        self.used = (frames - 1) * self.hop + length
        parts = np.stack([waves.real, waves.imag], axis=1).reshape(-1, 1, length)
        self.register_buffer("taps", torch.tensor(parts.tolist()), persistent=False)
        identity = torch.eye(self.channels).expand(self.bands, -1, -1).clone()
        self.register_buffer("whitening", identity)
        self.shape = self._shape(spec)

    def filtered(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to ``(window, bin, channel, frame and part)``.

        The real and the imaginary part of a frame follow one another.
        """
        windows = self.pooled(windows)[..., windows.shape[-1] - self.used :]
        count, channels, _ = windows.shape
        signals = windows.reshape(count * channels, 1, self.used)
        parts = F.conv1d(signals, self.taps, stride=max(self.hop, 1))
        split: Tensor = parts.reshape(count, channels, self.bands, 2, self.frames)
        return split.permute(0, 2, 1, 4, 3).flatten(3)


class LogCovarianceRows(ExportableLogCovariances):
    """Logarithms of the band covariances of each part of the window.

    Args:
        spec: The signal.
        frames: Number of parts, which end with the window.
        image: Whether each electrode has its row of each matrix; else tangent vectors.

    Raises:
        ModelError: The window is too short.
    """

    image_frames = 1
    sequence_frames = 4

    def __init__(self, spec: SignalSpec, frames: int, *, image: bool) -> None:
        super().__init__(spec)
        _require_samples("log-covariance", spec, frames)
        self.frames = frames
        self.image = image
        high, wide = patch_size(spec.electrodes, self.channels)
        electrodes = replace(spec.electrodes, order=()) if high * wide > 1 else spec.electrodes
        rows, columns = -(-electrodes.rows // high), -(-electrodes.columns // wide)
        pooled = replace(electrodes, rows=rows, columns=columns)
        self.shape = Shape(pooled, 1, frames, self.features)
        if image:
            self.shape = Shape(pooled, self.channels, frames, self.bands * self.channels)

    def forward(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to ``(window, place, frame, feature)``."""
        parts = _framed(self.filtered(windows), self.frames).permute(0, 3, 1, 2, 4)
        covariances = parts @ parts.mT / parts.shape[-1]
        logarithms = self.logarithm(self.whitening @ covariances @ self.whitening.mT)
        if self.image:
            return logarithms.permute(0, 3, 1, 2, 4).flatten(3)
        vectors = self._vector(logarithms.flatten(0, 1))
        return vectors.reshape(windows.shape[0], 1, self.frames, -1)


Front = BandPower | LogCovarianceRows


class Represented(Network):
    """A network that reads a representation of the window.

    Args:
        spec: The signal.
        front: The representation.
        model: What reads it.
    """

    places: Tensor

    def __init__(self, spec: SignalSpec, front: Front, model: Entry) -> None:
        super().__init__(spec)
        self.front = front
        shape, image = front.shape, front.image
        self.standardise = Standardise(shape.places * shape.frames * shape.features)
        places = _coordinates(shape.electrodes) if image else torch.zeros(1, 0)
        self.register_buffer("places", places, persistent=False)
        features = shape.features + places.shape[1]
        electrodes = shape.electrodes if image else Electrodes("grid", 1, features)
        samples = shape.frames * features if image else shape.frames
        read = SignalSpec(electrodes, samples, spec.sampling_rate, spec.gestures)
        self.network = model.build(read)
        known = with_features(self.network)
        self.num_features = known.num_features if known else 0

    @property
    def fixed_front(self) -> nn.Module:
        """The representation."""
        return self.front

    def after_front(self, seen: Tensor) -> Tensor:
        """Map ``(window, place, frame, feature)`` to features ``(window, feature)``."""
        network, read = with_features(self.network), self.arranged(seen)
        return network.forward_features(read) if network else read

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features to logits ``(window, gesture)``."""
        network = with_features(self.network)
        logits: Tensor = network.forward_head(features) if network else self.network(features)
        return logits

    def arranged(self, seen: Tensor) -> Tensor:
        """Return what the network takes for the samples of each channel."""
        standard: Tensor = self.standardise(seen.flatten(1)).reshape(seen.shape)
        if not self.front.image:
            return standard.squeeze(1).mT
        where = self.places[:, None].expand(seen.shape[0], -1, seen.shape[2], -1)
        return torch.cat((standard, where), dim=-1).flatten(2)


def _framed(bands: Tensor, frames: int) -> Tensor:
    """Cut ``(..., time)`` into ``(..., frame, time)``; the oldest samples may fill no frame."""
    *shape, samples = bands.shape
    length = samples // frames
    framed: Tensor = bands[..., samples - frames * length :].reshape(*shape, frames, length)
    return framed


def _coordinates(electrodes: Electrodes) -> Tensor:
    """Where each channel sits, shape ``(channel, coordinate)``; a ring by its sine and cosine."""
    rows, columns = electrodes.rows, electrodes.columns
    row, column = np.divmod(np.argsort(electrodes.positions(), axis=None), columns)
    where = [2 * row / (rows - 1) - 1] if rows > 1 else []
    if electrodes.is_ring and columns > 1:
        angle = 2 * np.pi * column / columns
        where += [np.cos(angle), np.sin(angle)]
    elif columns > 1:
        where.append(2 * column / (columns - 1) - 1)
    rows_of = [list(map(float, here)) for here in zip(*where, strict=True)]
    return torch.tensor(rows_of or [[]])


def _require_samples(name: str, spec: SignalSpec, least: int) -> None:
    """Refuse a window that is too short."""
    if spec.samples < least:
        raise ModelError(
            f"{name}: expected windows of at least {least} samples at {spec.sampling_rate:g} Hz, "
            f"got {spec.samples}; use longer windows"
        )


def _represented(front: type[Front], model: Entry, spec: SignalSpec) -> nn.Module:
    image = model.reads == "image"
    usual = front.image_frames if image else front.sequence_frames
    return Represented(spec, front(spec, model.frames or usual, image=image), model)


REPRESENTATIONS["band-power"] = partial(_represented, BandPower)
REPRESENTATIONS["spectrogram"] = partial(_represented, Spectrogram)
REPRESENTATIONS["log-covariance"] = partial(_represented, LogCovarianceRows)
