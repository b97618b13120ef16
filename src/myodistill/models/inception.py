"""Inception: several kernels side by side, their features joined.

Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, "Rethinking the Inception Architecture for Computer
Vision": 5×5 as two 3×3 (figures 4 and 5), 7×7 as 1×7 and 7×1 (figure 6), wide blocks at the
coarsest grid (figure 7), and reductions that convolve and pool in parallel (figure 10). The stem is
two 3×3 convolutions of stride 1 whose input channels are the time samples; reductions are padded,
so that no electrode is dropped. The auxiliary classifier of section 4 is left out. The head has one
hidden layer of 512 with dropout 0.5 (Srivastava et al. 2014, appendix A.4). Initial weights: He et
al. 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from myodistill.datasets.recording import SignalSpec
from myodistill.models.layers import Conv2d, Network, initialise, wrap
from myodistill.models.registry import register_model

Kernel = int | tuple[int, int]


def conv(inputs: int, outputs: int, kernel: Kernel, *, ring: bool, stride: int = 1) -> nn.Module:
    """Convolution, batch normalisation with the paper's ε of 0.001, ReLU."""
    return nn.Sequential(
        Conv2d(inputs, outputs, kernel, ring=ring, stride=stride),
        nn.BatchNorm2d(outputs, eps=0.001),
        nn.ReLU(inplace=True),
    )


class Pool(nn.Module):
    """A 3×3 pool that keeps the size (``avg``) or halves it (``max``), never over padding."""

    def __init__(self, kind: str, *, ring: bool) -> None:
        super().__init__()
        self.kind, self.ring = kind, ring

    def forward(self, x: Tensor) -> Tensor:
        """``(window, feature, row, column)``, same features."""
        x = wrap(x, 1 if self.ring else 0)
        padding = (1, 0 if self.ring else 1)
        if self.kind == "max":
            return functional.max_pool2d(x, 3, stride=2, padding=padding)
        return functional.avg_pool2d(x, 3, stride=1, padding=padding, count_include_pad=False)


class Mixed(nn.Module):
    """Branches that read the same input and whose features are joined; a branch may fork again."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """``(window, inputs, row, column)`` to ``(window, sum of outputs, row, column)``."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def chain(inputs: int, *convs: tuple[int, Kernel], ring: bool, stride: int = 1) -> nn.Sequential:
    """Convolutions ``(outputs, kernel)`` one after the other; the last one has the stride."""
    layers = list[nn.Module]()
    for number, (outputs, kernel) in enumerate(convs):
        last = number == len(convs) - 1
        layers.append(conv(inputs, outputs, kernel, ring=ring, stride=stride if last else 1))
        inputs = outputs
    return nn.Sequential(*layers)


def fine(inputs: int, pooled: int, *, ring: bool) -> Mixed:
    """Block A, figures 4 and 5: 1×1, 5×5, twice 3×3, pool; 224 + ``pooled`` features."""
    return Mixed(
        chain(inputs, (64, 1), ring=ring),
        chain(inputs, (48, 1), (64, 5), ring=ring),
        chain(inputs, (64, 1), (96, 3), (96, 3), ring=ring),
        nn.Sequential(Pool("avg", ring=ring), conv(inputs, pooled, 1, ring=ring)),
    )


def reduce_fine(inputs: int, *, ring: bool) -> Mixed:
    """Block B, figure 10: half the grid, ``inputs`` + 480 features."""
    return Mixed(
        chain(inputs, (384, 3), ring=ring, stride=2),
        chain(inputs, (64, 1), (96, 3), (96, 3), ring=ring, stride=2),
        Pool("max", ring=ring),
    )


def middle(inputs: int, hidden: int, *, ring: bool) -> Mixed:
    """Block C, figure 6: 7×7 in factors; 768 features."""
    seven, twice = ((1, 7), (7, 1)), ((7, 1), (1, 7), (7, 1))
    return Mixed(
        chain(inputs, (192, 1), ring=ring),
        chain(inputs, (hidden, 1), (hidden, seven[0]), (192, seven[1]), ring=ring),
        chain(inputs, (hidden, 1), *((hidden, k) for k in twice), (192, (1, 7)), ring=ring),
        nn.Sequential(Pool("avg", ring=ring), conv(inputs, 192, 1, ring=ring)),
    )


def reduce_middle(inputs: int, *, ring: bool) -> Mixed:
    """Block D: half the grid, ``inputs`` + 512 features."""
    return Mixed(
        chain(inputs, (192, 1), (320, 3), ring=ring, stride=2),
        chain(inputs, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), ring=ring, stride=2),
        Pool("max", ring=ring),
    )


def coarse(inputs: int, *, ring: bool) -> Mixed:
    """Block E, figure 7: 3×3 spread into 1×3 and 3×1; 2048 features."""

    def spread(features: int) -> Mixed:
        return Mixed(*(conv(features, 384, kernel, ring=ring) for kernel in ((1, 3), (3, 1))))

    return Mixed(
        chain(inputs, (320, 1), ring=ring),
        nn.Sequential(conv(inputs, 384, 1, ring=ring), spread(384)),
        nn.Sequential(chain(inputs, (448, 1), (384, 3), ring=ring), spread(384)),
        nn.Sequential(Pool("avg", ring=ring), conv(inputs, 192, 1, ring=ring)),
    )


class Inception(Network):
    """Blocks A, C and E in given numbers, with reductions between.

    Args:
        spec: The signal.
        pooled: Features of the pooled branch of each block A.
        hidden: Hidden features of each block C.
        wide: Number of blocks E.
    """

    def __init__(
        self, spec: SignalSpec, pooled: tuple[int, ...], hidden: tuple[int, ...], wide: int
    ) -> None:
        super().__init__(spec)
        ring = spec.electrodes.is_ring
        self.stem = chain(spec.samples, (96, 3), (192, 3), ring=ring)
        features, body = 192, list[nn.Module]()
        for width in pooled:
            body.append(fine(features, width, ring=ring))
            features = 224 + width
        body.append(reduce_fine(features, ring=ring))
        features += 480
        for width in hidden:
            body.append(middle(features, width, ring=ring))
            features = 768
        body.append(reduce_middle(features, ring=ring))
        features += 512
        for _ in range(wide):
            body.append(coarse(features, ring=ring))
            features = 2048
        self.body = nn.Sequential(
            *body,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(features, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
        self.num_features = 512
        self.head = nn.Linear(512, spec.classes)
        initialise(self)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        features: Tensor = self.body(self.stem(self.image(windows)))
        return features


@register_model(
    "inception-xs", "teacher", aliases=("InceptionV3_xs",), printed=10_700_000, reads="image"
)
def inception_xs(spec: SignalSpec) -> Inception:
    """Two blocks A, three C, no E."""
    return Inception(spec, (32, 64), (128, 160, 192), 0)


@register_model(
    "inception-s", "teacher", aliases=("InceptionV3_s",), printed=16_100_000, reads="image"
)
def inception_s(spec: SignalSpec) -> Inception:
    """Two blocks A, three C, one E."""
    return Inception(spec, (32, 64), (128, 160, 192), 1)


@register_model(
    "inception-v3", "teacher", aliases=("InceptionV3",), printed=24_200_000, reads="image"
)
def inception_v3(spec: SignalSpec) -> Inception:
    """The paper's table 1: three blocks A, four C, two E."""
    return Inception(spec, (32, 64, 64), (128, 160, 160, 192), 2)
