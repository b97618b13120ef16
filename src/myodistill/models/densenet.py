"""DenseNet: every layer reads all layers before it.

Huang, Liu, van der Maaten & Weinberger 2017, "Densely Connected Convolutional Networks". Blocks,
bottlenecks (4 × growth) and transitions (half the features) as in its section 3 and table 1. The
stem is two 3×3 convolutions of stride 1, for 16×16 electrodes leave nothing to spare, and its input
channels are the time samples. The head has two hidden layers of 2048 with dropout 0.5 (Srivastava
et al. 2014, appendix A.4); the blocks have none, as the paper does with augmented data (section
4.2). Initial weights: He et al. 2015, as in section 4.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.layers import Conv2d, Downsample, Network, initialise
from myodistill.models.registry import register_model


class Layer(nn.Module):
    """BN, ReLU, 1×1, BN, ReLU, 3×3; the ``growth`` new features are appended to the input."""

    def __init__(self, inputs: int, growth: int, *, ring: bool) -> None:
        super().__init__()
        self.new = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            Conv2d(inputs, 4 * growth, 1, ring=ring),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(inplace=True),
            Conv2d(4 * growth, growth, 3, ring=ring),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(window, inputs, row, column)`` to ``(window, inputs + growth, row, column)``."""
        return torch.cat((x, self.new(x)), 1)


class DenseNet(Network):
    """Dense blocks of ``blocks`` layers with a transition after all but the last."""

    def __init__(
        self, spec: SignalSpec, blocks: tuple[int, ...], *, growth: int = 32, first: int = 64
    ) -> None:
        super().__init__(spec)
        ring = spec.electrodes.is_ring
        self.stem = nn.Sequential(
            Conv2d(spec.samples, 32, 3, ring=ring),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            Conv2d(32, first, 3, ring=ring),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
        )
        features, body = first, list[nn.Module]()
        for number, layers in enumerate(blocks):
            if number:
                body += [
                    nn.BatchNorm2d(features),
                    nn.ReLU(inplace=True),
                    Conv2d(features, features // 2, 1, ring=ring),
                    Downsample("avg"),
                ]
                features //= 2
            body += [Layer(features + i * growth, growth, ring=ring) for i in range(layers)]
            features += layers * growth
        self.body = nn.Sequential(
            *body,
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(features, 2048),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(2048, 2048),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
        self.num_features = 2048
        self.head = nn.Linear(2048, spec.classes)
        initialise(self)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        features: Tensor = self.body(self.stem(self.image(windows)))
        return features


@register_model(
    "densenet-34", "teacher", aliases=("CustomDNN_34",), printed=5_900_000, reads="image"
)
def densenet_34(spec: SignalSpec) -> DenseNet:
    """Thirteen layers in four blocks."""
    return DenseNet(spec, (2, 3, 5, 3))


@register_model(
    "densenet-121", "teacher", aliases=("CustomDNN_slice_test",), printed=13_800_000, reads="image"
)
def densenet_121(spec: SignalSpec) -> DenseNet:
    """DenseNet-121 of the paper's table 1."""
    return DenseNet(spec, (6, 12, 24, 16))


@register_model(
    "densenet-161", "teacher", aliases=("CustomDNN_161",), printed=35_700_000, reads="image"
)
def densenet_161(spec: SignalSpec) -> DenseNet:
    """DenseNet-161 of the paper's table 1, growth 48."""
    return DenseNet(spec, (6, 12, 36, 24), growth=48, first=96)


@register_model(
    "densenet-201", "teacher", aliases=("CustomDNN_201",), printed=26_700_000, reads="image"
)
def densenet_201(spec: SignalSpec) -> DenseNet:
    """DenseNet-201 of the paper's table 1."""
    return DenseNet(spec, (6, 12, 48, 32))
