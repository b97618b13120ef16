"""P3D: a pseudo-3D residual network, space and time convolved apart.

Qiu, Yao & Mei 2017, "Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks",
section 3: a 3×3×3 convolution becomes 1×3×3 over the electrodes (S) and 3×1×1 over time (T), and
the three ways to join them, A serial, B parallel, C both, follow one another (section 3.3). As
there, bottlenecks are four times narrower, the last stage is spatial only, and clips have 16
frames: the stem cuts a window into 16 frames and gives each electrode 64 features of each frame.
Stages are separated by pools, so that no electrode is stepped over. Dropout 0.5 before the head
(Srivastava et al. 2014, appendix A.4). Initial weights: He et al. 2015, section 2.2.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.layers import Conv3d, Downsample, Network, initialise
from myodistill.models.registry import register_model

Kind = Literal["A", "B", "C", "spatial"]
FRAMES = 16


def conv(inputs: int, outputs: int, kernel: tuple[int, int, int], *, ring: bool) -> nn.Module:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        Conv3d(inputs, outputs, kernel, ring=ring),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """A bottleneck with a spatial and a temporal convolution inside, and a shortcut around."""

    def __init__(self, kind: Kind, inputs: int, hidden: int, *, ring: bool) -> None:
        super().__init__()
        self.kind = kind
        self.narrow = conv(inputs, hidden, (1, 1, 1), ring=ring)
        self.space = conv(hidden, hidden, (1, 3, 3), ring=ring)
        if kind != "spatial":
            self.time = conv(hidden, hidden, (3, 1, 1), ring=ring)
        self.widen = nn.Sequential(
            Conv3d(hidden, 4 * hidden, (1, 1, 1), ring=ring), nn.BatchNorm3d(4 * hidden)
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != 4 * hidden:
            self.shortcut = nn.Sequential(
                Conv3d(inputs, 4 * hidden, (1, 1, 1), ring=ring), nn.BatchNorm3d(4 * hidden)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(window, inputs, frame, row, column)`` to ``(window, 4 × hidden, ...)``."""
        inside = self.narrow(x)
        space = self.space(inside)
        if self.kind == "A":
            inside = self.time(space)
        elif self.kind == "B":
            inside = space + self.time(inside)
        elif self.kind == "C":
            inside = space + self.time(space)
        else:
            inside = space
        joined: Tensor = self.shortcut(x) + self.widen(inside)
        return joined.relu()


class P3d(Network):
    """Four stages of ``blocks`` bottlenecks; the kinds A, B, C take turns."""

    def __init__(self, spec: SignalSpec, blocks: tuple[int, int, int, int]) -> None:
        super().__init__(spec, least_samples=FRAMES)
        ring = spec.electrodes.is_ring
        self.frame = spec.samples // FRAMES
        self.stem = conv(self.frame, 64, (1, 3, 3), ring=ring)
        kinds: tuple[Kind, ...] = ("A", "B", "C")
        inputs, placed, body = 64, 0, list[nn.Module]()
        for stage, count in enumerate(blocks):
            hidden, last = 64 * 2**stage, stage == len(blocks) - 1
            if stage:
                body.append(Downsample())
            for _ in range(count):
                kind: Kind = "spatial" if last else kinds[placed % 3]
                body.append(ResidualBlock(kind, inputs, hidden, ring=ring))
                inputs, placed = 4 * hidden, placed + 1
        self.body = nn.Sequential(*body, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.5))
        self.num_features = inputs
        self.head = nn.Linear(inputs, spec.classes)
        initialise(self)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``.

        The frames end with the window; the oldest samples that fill no frame are left out.
        """
        newest = self.image(windows)[:, -FRAMES * self.frame :]
        frames = newest.reshape(-1, FRAMES, self.frame, *newest.shape[2:]).transpose(1, 2)
        features: Tensor = self.body(self.stem(frames))
        return features


@register_model("p3d-32", "teacher", reads="image", frames=FRAMES)
def p3d_32(spec: SignalSpec) -> P3d:
    """Two blocks a stage: 1 + 6×4 + 2×3 layers and the head."""
    return P3d(spec, (2, 2, 2, 2))


@register_model("p3d-63", "teacher", reads="image", frames=FRAMES)
def p3d_63(spec: SignalSpec) -> P3d:
    """P3D-63 of the paper, made of ResNet-50: 1 + 13×4 + 3×3 layers and the head."""
    return P3d(spec, (3, 4, 6, 3))
