"""Convolutional students and baselines.

The reference student reads a window as the teachers do, time samples as the channels of an image.
The deployable ones (``cnn-100k`` to ``cnn-10k``) first take the log-power of every electrode in
eight learned bands and four parts of the window, which holds the information of surface EMG
(Hudgins et al. 1993), and end in a weighted sum over the electrodes for every feature, since the
usual mean would forget where on the arm something happened. The baseline convolves raw signals over
time. Head: one linear layer; dropout 0.5 in the baseline only (Srivastava et al. 2014, appendix
A.4), as its teacher already regularises a student. Initial weights: He et al. 2015, section 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from myodistill.datasets.recording import SignalSpec
from myodistill.models.layers import (
    Conv2d,
    Downsample,
    Network,
    downsampled_size,
    initialise,
    widest,
)
from myodistill.models.registry import register_model


class Cnn(Network):
    """Three 3×3 convolutions of an image whose channels are the time samples."""

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__(spec)
        ring = spec.electrodes.is_ring

        def conv(inputs: int, outputs: int) -> list[nn.Module]:
            return [
                Conv2d(inputs, outputs, 3, ring=ring, bias=True),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]

        self.stem = nn.Sequential(*conv(spec.samples, 128))
        self.body = nn.Sequential(
            Downsample(),
            *conv(128, 128),
            Downsample(),
            *conv(128, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.num_features = 64
        self.head = nn.Linear(64, spec.classes)
        initialise(self)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        features: Tensor = self.body(self.stem(self.image(windows)))
        return features


class BandPower(nn.Module):
    """Log-power of each electrode in learned bands and consecutive parts of the window.

    The filters are shared by all electrodes. Their output is taken at about 500 Hz only: a mean of
    squares needs no more.
    """

    def __init__(self, spec: SignalSpec, bands: int = 8, parts: int = 4) -> None:
        super().__init__()
        self.parts = parts
        self.outputs = bands * parts
        stride = max(1, round(spec.sampling_rate / 500))
        self.band = nn.Conv1d(1, bands, self.kernel(spec), stride=stride, bias=False)
        self.norm = nn.BatchNorm1d(self.outputs)

    @staticmethod
    def kernel(spec: SignalSpec) -> int:
        """Length of the filters: 16 ms in samples, at least 4."""
        return max(4, round(0.016 * spec.sampling_rate))

    def forward(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to ``(window, band × part, channel)``."""
        bands = self.band(windows.flatten(0, 1).unsqueeze(1))
        power = functional.adaptive_avg_pool1d(bands.square(), self.parts)
        by_channel = torch.log(power + 1e-6).reshape(*windows.shape[:2], self.outputs)
        features: Tensor = self.norm(by_channel.transpose(1, 2))
        return features


class BandCnn(Network):
    """Band powers on the electrode image, two convolutions, a weighted sum over the electrodes."""

    def __init__(self, spec: SignalSpec, width: int) -> None:
        super().__init__(spec, least_samples=BandPower.kernel(spec))
        rows, columns, ring = spec.electrodes.rows, spec.electrodes.columns, spec.electrodes.is_ring
        kernel = (min(3, 2 * rows - 1), 3)
        self.stem = BandPower(spec)
        self.body = nn.Sequential(
            Conv2d(self.stem.outputs, width, kernel, ring=ring),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Downsample(),
            Conv2d(width, width, kernel, ring=ring),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Downsample(),
        )
        left = (downsampled_size(rows, 2), downsampled_size(columns, 2))
        self.place = nn.Conv2d(width, width, left, groups=width)
        self.num_features = width
        self.head = nn.Linear(width, spec.classes)
        initialise(self)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        powers = self.lay_out(self.stem(self.checked(windows)))
        features: Tensor = self.place(self.body(powers)).flatten(1)
        return features


def temporal(inputs: int, outputs: int) -> list[nn.Module]:
    """A convolution of 5 samples, batch normalisation, ReLU, a pool by two."""
    return [
        nn.Conv1d(inputs, outputs, 5, padding=2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        Downsample(),
    ]


class RawCnn(Network):
    """Three convolutions over the time of raw signals, then the mean over time."""

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__(spec)
        self.stem = nn.Sequential(*temporal(spec.channels, 64))
        self.body = nn.Sequential(
            *temporal(64, 128),
            *temporal(128, 256),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
        )
        self.num_features = 256
        self.head = nn.Linear(256, spec.classes)
        initialise(self)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        features: Tensor = self.body(self.stem(self.checked(windows)))
        return features


@register_model("cnn", "student", aliases=("CustomCNN_sml3",), printed=2_000_000, reads="image")
def cnn(spec: SignalSpec) -> Cnn:
    """The reference student: 128, 128 and 64 features."""
    return Cnn(spec)


@register_model("cnn-100k", "student")
def cnn_100k(spec: SignalSpec) -> BandCnn:
    """At most 100 000 parameters."""
    return widest(lambda width: BandCnn(spec, width), 100_000)


@register_model("cnn-30k", "student")
def cnn_30k(spec: SignalSpec) -> BandCnn:
    """At most 30 000 parameters."""
    return widest(lambda width: BandCnn(spec, width), 30_000)


@register_model("cnn-10k", "student")
def cnn_10k(spec: SignalSpec) -> BandCnn:
    """At most 10 000 parameters."""
    return widest(lambda width: BandCnn(spec, width), 10_000)


@register_model("baseline-cnn", "baseline", reads="sequence")
def baseline_cnn(spec: SignalSpec) -> RawCnn:
    """64, 128 and 256 features over time."""
    return RawCnn(spec)
