"""Causal temporal convolutional networks with a state that can be carried from chunk to chunk.

Bai, Kolter & Koltun 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks
for Sequence Modeling", section 3: dilated causal convolutions with shortcuts, as many as it takes
to see the whole window. They read log-power frames of 10 ms (``layers.LogPowerFrames``), the last
frame goes to one linear layer, and batch normalisation stands for the paper's weight normalisation,
for it folds into the weights on a device. No dropout: the budgets leave little to overfit with. A
whole window is one call of ``step`` from the start state, so a stream and a window agree by
construction. Initial weights: He et al. 2015, section 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.layers import LogPowerFrames, Network, frame_samples, initialise, widest
from myodistill.models.registry import register_model

State = tuple[Tensor, ...]
KERNEL = 3


class TemporalBlock(nn.Module):
    """A dilated causal convolution around which the input is added."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.context = (KERNEL - 1) * dilation
        self.conv = nn.Conv1d(width, width, KERNEL, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, frames: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """``(window, width, frame)`` to the same and the newest ``context`` inputs."""
        x = torch.cat((past, frames), -1)
        return frames + self.norm(self.conv(x)).relu(), x[..., -self.context :]


class Tcn(Network):
    """Log-power frames, then blocks of growing dilation until they see the whole window."""

    def __init__(self, spec: SignalSpec, width: int) -> None:
        super().__init__(spec, least_samples=frame_samples(spec))
        self.stem = LogPowerFrames(spec, width)
        self.width = width
        seen, dilation, blocks = 1, 1, list[TemporalBlock]()
        while seen < spec.samples // frame_samples(spec) or not blocks:
            blocks.append(TemporalBlock(width, dilation))
            seen, dilation = seen + blocks[-1].context, 2 * dilation
        self.body = nn.ModuleList(blocks)
        self.num_features = width
        self.head = nn.Linear(width, spec.classes)
        initialise(self)

    def start(self, samples: Tensor) -> State:
        """The state before the first sample: samples left over, inputs of each block, last output.

        Args:
            samples: Any samples ``(window, channel, time)``; their number, type and device count.
        """
        lengths = [block.context for block in self.body if isinstance(block, TemporalBlock)]
        pasts = (samples.new_zeros(samples.shape[0], self.width, n) for n in (*lengths, 1))
        return self.stem.start(samples), *pasts

    def step(self, samples: Tensor, state: State) -> tuple[Tensor, State]:
        """Go on by a chunk of any length.

        Args:
            samples: The next samples, ``(window, channel, time)``.
            state: As :meth:`start` or the previous call returned it.

        Returns:
            Logits ``(window, gesture)`` after the last whole frame, and the new state.
        """
        features, state = self._advance(samples, state)
        return self.forward_head(features), state

    def _advance(self, samples: Tensor, state: State) -> tuple[Tensor, State]:
        """As :meth:`step`, up to the features ``(window, feature)``."""
        frames, left_over = self.stem(samples, state[0])
        pasts, last = state[1:-1], state[-1]
        if frames.shape[-1]:
            new = []
            for block, past in zip(self.body, pasts, strict=True):
                frames, kept = block(frames, past)
                new.append(kept)
            pasts, last = tuple(new), frames[..., -1:]
        return last.squeeze(-1), (left_over, *pasts, last)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        return self._advance(self.checked(windows), self.start(windows))[0]


@register_model("tcn-100k", "student")
def tcn_100k(spec: SignalSpec) -> Tcn:
    """At most 100 000 parameters."""
    return widest(lambda width: Tcn(spec, width), 100_000)


@register_model("tcn-30k", "student")
def tcn_30k(spec: SignalSpec) -> Tcn:
    """At most 30 000 parameters."""
    return widest(lambda width: Tcn(spec, width), 30_000)


@register_model("tcn-10k", "student")
def tcn_10k(spec: SignalSpec) -> Tcn:
    """At most 10 000 parameters."""
    return widest(lambda width: Tcn(spec, width), 10_000)
