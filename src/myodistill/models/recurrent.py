"""LSTM and GRU with a state that can be carried from chunk to chunk.

Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000); Cho et al. 2014, section 2.3.
The reference student and the baselines read one sample a step; the deployable ones read log-power
frames of 10 ms (``layers.LogPowerFrames``), ten to twenty times fewer steps. The last output goes
to one linear layer. A whole window is one call of ``step`` from the start state, so a stream and a
window agree by construction. Dropout 0.5 before the head of the baselines (Zaremba et al. 2014,
section 3: never on the recurrent path). Initial weights: uniform within ±1/√width, recurrent ones
orthogonal gate by gate (Saxe et al. 2014), the LSTM's forget bias 1 (Jozefowicz et al. 2015,
abstract).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.layers import LogPowerFrames, Network, frame_samples, widest
from myodistill.models.registry import register_model

Cell = Literal["lstm", "gru"]
State = tuple[Tensor, ...]


class Samples(nn.Module):
    """The stem of a network that reads raw samples: every sample is a frame."""

    def start(self, samples: Tensor) -> Tensor:
        """No samples before the first, ``(window, channel, 0)``."""
        return samples[..., :0]

    def forward(self, samples: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`LogPowerFrames.forward <myodistill.models.layers.LogPowerFrames.forward>`."""
        return samples, past


class Recurrent(Network):
    """An LSTM or GRU over samples, or over log-power frames.

    Args:
        spec: The signal.
        cell: Which.
        width: Size of the hidden state.
        layers: Cells on top of each other.
        frames: Whether to read log-power frames of ``width`` features.
        dropout: Before the head.
    """

    def __init__(
        self,
        spec: SignalSpec,
        cell: Cell,
        width: int,
        *,
        layers: int = 1,
        frames: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec, least_samples=frame_samples(spec) if frames else 1)
        self.stem: LogPowerFrames | Samples = LogPowerFrames(spec, width) if frames else Samples()
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.cell = kind(width if frames else spec.channels, width, layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.num_features = width
        self.head = nn.Linear(width, spec.classes)
        for name, weight in self.cell.named_parameters():
            if name.startswith("weight_hh"):
                for gate in torch.split(weight.data, width):
                    nn.init.orthogonal_(gate)
            elif name.startswith("bias"):
                nn.init.zeros_(weight)
                if cell == "lstm" and name.startswith("bias_ih"):
                    nn.init.ones_(weight.data[width : 2 * width])

    def start(self, samples: Tensor) -> State:
        """The state before the first sample: samples left over, hidden state, an LSTM's cell.

        Args:
            samples: Any samples ``(window, channel, time)``; their number, type and device count.
        """
        size = (self.cell.num_layers, samples.shape[0], self.cell.hidden_size)
        hidden = samples.new_zeros(size)
        rest = (hidden, hidden) if isinstance(self.cell, nn.LSTM) else (hidden,)
        return self.stem.start(samples), *rest

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
        carried = state[1:]
        if frames.shape[-1]:
            given = carried if len(carried) == 2 else carried[0]
            _, last = self.cell(frames.transpose(1, 2), given)
            carried = tuple(last) if len(carried) == 2 else (last,)
        features: Tensor = self.dropout(carried[0][-1])
        return features, (left_over, *carried)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        return self._advance(self.checked(windows), self.start(windows))[0]


@register_model("lstm", "student", aliases=("CustomLSTM",), printed=2_300_000, reads="sequence")
def lstm(spec: SignalSpec) -> Recurrent:
    """The reference student: one layer of 640 over raw samples."""
    return Recurrent(spec, "lstm", 640)


@register_model("baseline-lstm", "baseline", reads="sequence")
def baseline_lstm(spec: SignalSpec) -> Recurrent:
    """Two layers of 128 over raw samples."""
    return Recurrent(spec, "lstm", 128, layers=2, dropout=0.5)


@register_model("baseline-gru", "baseline", reads="sequence")
def baseline_gru(spec: SignalSpec) -> Recurrent:
    """Two layers of 128 over raw samples."""
    return Recurrent(spec, "gru", 128, layers=2, dropout=0.5)


def _within(cell: Cell, budget: int) -> Callable[[SignalSpec], Recurrent]:
    """The widest network over frames within a budget of parameters."""
    return lambda spec: widest(lambda w: Recurrent(spec, cell, w, frames=True), budget)


lstm_100k = register_model("lstm-100k", "student")(_within("lstm", 100_000))
lstm_30k = register_model("lstm-30k", "student")(_within("lstm", 30_000))
lstm_10k = register_model("lstm-10k", "student")(_within("lstm", 10_000))
gru_100k = register_model("gru-100k", "student")(_within("gru", 100_000))
gru_30k = register_model("gru-30k", "student")(_within("gru", 30_000))
gru_10k = register_model("gru-10k", "student")(_within("gru", 10_000))
