"""CNN-LSTM baselines: convolutions see a short time, an LSTM joins the times.

Ordóñez & Roggen 2016, "Deep Convolutional and LSTM Recurrent Neural Networks for Multimodal
Wearable Activity Recognition" (DeepConvLSTM): convolutions along time, then an LSTM over what they
leave. Hu et al. 2018, "A novel attention-based hybrid CNN-RNN architecture for sEMG-based gesture
recognition", Methods: a window is cut into parts, each an image of the electrodes, and an LSTM
reads the parts (without the attention). Dropout 0.5 before the head in both. Initial weights:
convolutions He et al. 2015, section 2.2; LSTM uniform within ±1/√width.
"""

from __future__ import annotations

from torch import Tensor, nn

from myodistill.datasets.recording import SignalSpec
from myodistill.models.cnn import temporal
from myodistill.models.layers import Conv2d, Downsample, Network, initialise
from myodistill.models.registry import register_model

PARTS = 8


class TemporalCnnLstm(Network):
    """Convolutions over time, then an LSTM over the eighth of the steps that is left."""

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__(spec)
        self.stem = nn.Sequential(*temporal(spec.channels, 64))
        self.body = nn.Sequential(*temporal(64, 64), *temporal(64, 64))
        self.cell = nn.LSTM(64, 128, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.num_features = 128
        self.head = nn.Linear(128, spec.classes)
        initialise(self)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``."""
        frames = self.body(self.stem(self.checked(windows)))
        _, (hidden, _) = self.cell(frames.transpose(1, 2))
        features: Tensor = self.dropout(hidden[-1])
        return features


class ImageCnnLstm(Network):
    """Convolutions over the electrodes in each of eight parts of the window, then an LSTM."""

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__(spec, least_samples=PARTS)
        ring = spec.electrodes.is_ring
        self.part = spec.samples // PARTS

        def conv(inputs: int, outputs: int) -> list[nn.Module]:
            return [
                Conv2d(inputs, outputs, 3, ring=ring),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]

        self.stem = nn.Sequential(*conv(self.part, 64))
        self.body = nn.Sequential(
            *conv(64, 64), Downsample(), *conv(64, 128), nn.AdaptiveMaxPool2d(1), nn.Flatten()
        )
        self.cell = nn.LSTM(128, 128, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.num_features = 128
        self.head = nn.Linear(128, spec.classes)
        initialise(self)

    def forward_features(self, windows: Tensor) -> Tensor:
        """``(window, channel, time)`` to features ``(window, feature)``.

        The parts end with the window; the oldest samples that fill no part are left out.
        """
        newest = self.image(windows)[:, -PARTS * self.part :]
        parts = newest.reshape(-1, self.part, *newest.shape[2:])
        frames = self.body(self.stem(parts)).reshape(-1, PARTS, self.cell.input_size)
        _, (hidden, _) = self.cell(frames)
        features: Tensor = self.dropout(hidden[-1])
        return features


@register_model("baseline-cnn-lstm", "baseline", reads="sequence")
def baseline_cnn_lstm(spec: SignalSpec) -> TemporalCnnLstm:
    """Three convolutions over time, an LSTM of 128."""
    return TemporalCnnLstm(spec)


@register_model("baseline-cnn-lstm-image", "baseline", reads="image", frames=PARTS)
def baseline_cnn_lstm_image(spec: SignalSpec) -> ImageCnnLstm:
    """Three convolutions over the electrodes, an LSTM of 128."""
    return ImageCnnLstm(spec)
