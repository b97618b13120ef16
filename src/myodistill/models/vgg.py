"""VGG with batch normalisation: 3×3 convolutions, pools, three linear layers.

Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
table 1 (columns A and D), with batch normalisation after every convolution (Ioffe & Szegedy 2015,
section 3.2). The input channels of the image are the time samples; a pool halves only what is
longer than one electrode, and the 7×7 map of the paper is made by adaptive pooling, so that the
head 4096-4096 fits every geometry. Dropout 0.5 after its first two layers (section 3.1). Initial
weights: convolutions He et al. 2015; linear layers normal with standard deviation 0.01 (Krizhevsky
et al. 2012, section 5).
"""

from __future__ import annotations

from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.layers import Conv2d, Downsample, Network, initialise
from myodistill.models.registry import register_model


class Vgg(Network):
    """Convolutions of ``widths``, where 0 stands for a pool."""

    def __init__(self, spec: SignalSpec, widths: tuple[int, ...]) -> None:
        super().__init__(spec)
        ring = spec.electrodes.is_ring

        def conv(inputs: int, outputs: int) -> list[nn.Module]:
            return [
                Conv2d(inputs, outputs, 3, ring=ring, bias=True),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]

        self.stem = nn.Sequential(*conv(spec.samples, widths[0]))
        features, body = widths[0], list[nn.Module]()
        for width in widths[1:]:
            body += conv(features, width) if width else [Downsample()]
            features = width or features
        self.body = nn.Sequential(
            *body,
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Linear(features * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
        self.num_features = 4096
        self.head = nn.Linear(4096, spec.classes)
        initialise(self)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        features: Tensor = self.body(self.stem(self.image(windows)))
        return features


@register_model("vgg-small", "teacher", aliases=("VGGbn_small",), printed=71_400_000, reads="image")
def vgg_small(spec: SignalSpec) -> Vgg:
    """Seven convolutions of at most 256 features."""
    return Vgg(spec, (64, 64, 0, 128, 0, 256, 256, 0, 256, 256))


@register_model("vgg-11", "teacher", aliases=("VGGbn_11",), printed=129_800_000, reads="image")
def vgg_11(spec: SignalSpec) -> Vgg:
    """Column A of the paper's table 1."""
    return Vgg(spec, (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0))


@register_model("vgg-16", "teacher", aliases=("VGGbn_16",), printed=135_300_000, reads="image")
def vgg_16(spec: SignalSpec) -> Vgg:
    """Column D of the paper's table 1."""
    return Vgg(spec, (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0))
