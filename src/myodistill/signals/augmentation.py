"""Augmentation that knows where the electrodes sit, the same for a window whatever its batch.

Every random number is a hash of (seed, window, view, purpose, place), so that a view of a window
can be repeated exactly: in another order, in another batch, on another day. Nothing here loops
over windows. Windows are ``(window, channel, time)`` tensors on any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from myodistill.config import Augmentation
from myodistill.datasets.recording import Electrodes
from myodistill.errors import SettingsError
from myodistill.plugins import Registry, foreign_code

# Purposes: each effect draws from its own stream, so that switching one on changes no other.
_COLUMNS, _ROWS, _DROPOUT, _GAIN, _JITTER, _SHIFT, _MAINS, _SNR, _NOISE, _PARTNER, _WEIGHT = range(
    11
)
_EXTRA = 11

Augment = Callable[[Tensor, torch.Generator, float], Tensor]
"""From windows ``(window, channel, time)``, what to draw from, and a strength, to such windows."""

AUGMENTATIONS: Registry[Augment] = Registry("augmentation", SettingsError)
"""The augmentations of plug-ins, which ``augmentation.extra`` names."""


def register_augmentation(name: str) -> Callable[[Augment], Augment]:
    """Add an augmentation; decorates ``(windows, generator, strength) -> windows``.

    It must take all chance from the generator. It is called with one window at a time, whose
    generator is that of this view of this window, so that the view can be repeated exactly.

    Raises:
        SettingsError: The name is taken or is not one plain word.
    """
    return AUGMENTATIONS.registering(name)


def require_augmentations(names: Iterable[str]) -> None:
    """Refuse augmentations that no plug-in provides.

    Raises:
        SettingsError: One is unknown.
    """
    for name in names:
        AUGMENTATIONS.look_up(name)


def described(settings: Augmentation) -> tuple[object, ...]:
    """Return everything that an augmentation depends on: its settings and the plug-ins' sources."""
    return settings.model_dump(), [AUGMENTATIONS.source(name) for name, _ in settings.extra]


# Constants of SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators,
# OOPSLA 2014), as signed 64-bit integers.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


class Augmenter:
    """The augmentation of one training run.

    Args:
        settings: What to do.
        electrodes: Layout of the channels, which rotation and shift follow.
        sampling_rate: In hertz, for the mains.
        seed: Of the run.
    """

    def __init__(
        self,
        settings: Augmentation,
        electrodes: Electrodes,
        sampling_rate: float,
        *,
        seed: int = 0,
    ) -> None:
        self.settings = settings
        self.electrodes = electrodes
        self.sampling_rate = sampling_rate
        self.seed = seed

    def __call__(self, windows: Tensor, indices: Tensor, view: int = 0) -> Tensor:
        """Augment a batch; the input is not changed.

        Args:
            windows: Shape ``(window, channel, time)``, floating point.
            indices: Number of each window in its dataset, shape ``(window,)``.
            view: Which of the window's views; epochs usually count them.

        Returns:
            Same shape. Mixup is not in it, see :meth:`partners`.
        """
        keys = self._keys(indices.to(windows.device), view)
        s, x = self.settings, windows
        if s.rotation:
            x = self._move_electrodes(x, keys)
        if s.time_shift:
            x = self._shift_time(x, keys)
        if s.gain_db:
            gain = 10 ** (s.gain_db / 20 * _normal(_stream(keys, _GAIN), x.shape[1]))
            x = x * gain[:, :, None].to(x.dtype)
        if s.dropout:
            silent = _uniform(_stream(keys, _DROPOUT), x.shape[1]) < s.dropout
            x = x.masked_fill(silent[:, :, None], 0.0)
        if s.mains_hz:
            x = self._add_mains(x, keys)
        if s.snr_db is not None:
            low, high = s.snr_db
            decibel = low + (high - low) * _uniform(_stream(keys, _SNR), 1)
            x = x + _noise(_stream(keys, _NOISE), x) * _rms(x) * (10 ** (-decibel / 20))[:, :, None]
        if s.jitter:
            x = x + s.jitter * _noise(_stream(keys, _JITTER), x)
        for index, (name, strength) in enumerate(s.extra):
            x = _foreign(name, strength, x, _stream(keys, _EXTRA + index))
        return x.to(windows.dtype)

    def partners(self, indices: Tensor, count: int, view: int = 0) -> tuple[Tensor, Tensor]:
        """Choose with which other window each one is mixed, and how much of itself it keeps.

        The partner comes from the whole dataset, not from the batch, so that it does not depend
        on who else is in the batch. (Zhang et al., mixup: Beyond Empirical Risk Minimization,
        ICLR 2018; its Beta weight by Jöhnk's method.)

        Args:
            indices: Number of each window in its dataset, shape ``(window,)``.
            count: How many windows the dataset has.
            view: Which of the windows' views.

        Returns:
            Index of each partner and weight of the window itself in 0.5..1, shape ``(window,)``
            each; blend windows and one-hot labels with :func:`blend`.
        """
        keys = self._keys(indices, view)
        partner = (_uniform(_stream(keys, _PARTNER), 1)[:, 0].double() * count).long()
        if not self.settings.mixup:
            return partner, torch.ones(len(indices), device=indices.device)
        alpha = self.settings.mixup
        draws = _uniform(_stream(keys, _WEIGHT), 64).double().reshape(-1, 32, 2) ** (1 / alpha)
        total = draws.sum(dim=2)
        first = ((total <= 1) & (total > 0)).int().argmax(dim=1)
        row = torch.arange(len(keys), device=keys.device)
        weight = draws[row, first, 0] / total[row, first].clamp_min(1e-300)
        return partner, torch.maximum(weight, 1 - weight).clamp(0.5, 1.0).float()

    def _keys(self, indices: Tensor, view: int) -> Tensor:
        """One 64-bit key a window, shape ``(window,)``."""
        key = _mix(torch.full_like(indices, _step(self.seed + 1), dtype=torch.int64))
        key = _mix(key + indices.long() * _GAMMA)
        return _mix(key + _step(view + 1))

    def _move_electrodes(self, x: Tensor, keys: Tensor) -> Tensor:
        """Move the pattern over the skin; each sample in time stays where it is.

        A ring turns; a grid with edges shifts both ways and repeats its edge.
        """
        grid = torch.as_tensor(self.electrodes.positions(), device=x.device)
        rows, columns = grid.shape
        most = self.settings.rotation
        if not self.settings.fractional:
            most = math.floor(most)
        across = self._offsets(_stream(keys, _COLUMNS), min(most, columns - 1))
        along = torch.zeros_like(across)
        if not self.electrodes.is_ring:
            along = self._offsets(_stream(keys, _ROWS), min(most, rows - 1))
        out = torch.zeros_like(x)
        row0, column0 = along.floor(), across.floor()
        for down in (0, 1):
            for right in (0, 1):
                weight = _share(along - row0, down) * _share(across - column0, right)
                if not weight.any():
                    continue
                from_row = torch.arange(rows, device=x.device) - (row0.long() + down)[:, None]
                from_column = (
                    torch.arange(columns, device=x.device) - (column0.long() + right)[:, None]
                )
                from_row = from_row.clamp(0, rows - 1)
                if self.electrodes.is_ring:
                    from_column = from_column.remainder(columns)
                else:
                    from_column = from_column.clamp(0, columns - 1)
                source = torch.empty(len(x), rows * columns, dtype=torch.long, device=x.device)
                source[:, grid.flatten()] = grid[
                    from_row[:, :, None], from_column[:, None, :]
                ].flatten(1)
                moved = x.gather(1, source[:, :, None].expand_as(x))
                out += moved * weight[:, None, None].to(x.dtype)
        return out

    def _offsets(self, stream: Tensor, most: float) -> Tensor:
        """Shift of each window in electrodes, shape ``(window,)``, whole unless fractional."""
        draw = _uniform(stream, 1)[:, 0].double()
        if self.settings.fractional:
            return (2 * draw - 1) * most
        return (draw * (2 * most + 1)).floor() - most

    def _shift_time(self, x: Tensor, keys: Tensor) -> Tensor:
        """Shift each window in time; what is missing at one end is mirrored."""
        length = x.shape[2]
        most = min(self.settings.time_shift, length - 1)
        draw = _uniform(_stream(keys, _SHIFT), 1).double()
        shift = ((draw * (2 * most + 1)).floor() - most).long()
        source = (torch.arange(length, device=x.device) - shift).abs()
        source = (length - 1) - ((length - 1) - source).abs()
        return x.gather(2, source[:, None, :].expand_as(x))

    def _add_mains(self, x: Tensor, keys: Tensor) -> Tensor:
        """Add hum of one phase to all channels of a window, up to ``mains_db`` of each."""
        draws = _uniform(_stream(keys, _MAINS), 2)
        time = torch.arange(x.shape[2], device=x.device) / self.sampling_rate
        angle = 2 * math.pi * (self.settings.mains_hz * time + draws[:, :1])
        loudest = math.sqrt(2) * 10 ** (self.settings.mains_db / 20)
        hum = (loudest * draws[:, 1:] * torch.sin(angle)).to(x.dtype)
        return x + _rms(x) * hum[:, None, :]


def blend(mine: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Mix each item with its partner: ``weight * mine + (1 - weight) * other``.

    Args:
        mine: Windows or one-hot labels, items first.
        other: Those of the partners, same shape.
        weight: Shape ``(item,)``.
    """
    weight = weight.reshape(-1, *[1] * (mine.ndim - 1)).to(mine.dtype)
    return weight * mine + (1 - weight) * other


def _foreign(name: str, strength: float, x: Tensor, stream: Tensor) -> Tensor:
    """Augment each window by itself: drawn for a batch, a view would depend on the batch."""
    augment, draw, out = AUGMENTATIONS.look_up(name), torch.Generator(x.device), []
    with foreign_code(f"augmentation {name}", "windows of the shape they had", SettingsError):
        for window, seed in zip(x.unbind(), stream.tolist(), strict=True):
            made = augment(window[None].clone(), draw.manual_seed(seed), strength)
            if made.shape != (1, *window.shape):
                raise ValueError(f"{tuple(made.shape)} for (1, *{tuple(window.shape)})")
            out.append(made)
    return torch.cat(out) if out else x


def _share(fraction: Tensor, side: int) -> Tensor:
    return fraction if side else 1 - fraction


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each channel, shape ``(window, channel, 1)``."""
    return x.square().mean(dim=2, keepdim=True).sqrt()


def _noise(stream: Tensor, like: Tensor) -> Tensor:
    """White noise in the shape of a batch."""
    return _normal(stream, like.shape[1] * like.shape[2]).reshape(like.shape).to(like.dtype)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _step(count: int) -> int:
    """``count`` steps of the counter, as a signed 64-bit integer."""
    return (count * _GAMMA + 2**63) % 2**64 - 2**63


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64: every output bit depends on every input bit."""
    x = (x ^ _shift_right(x, 30)) * _FIRST
    x = (x ^ _shift_right(x, 27)) * _SECOND
    return x ^ _shift_right(x, 31)


def _stream(keys: Tensor, purpose: int) -> Tensor:
    return _mix(keys + _step(purpose + 1))


def _bits(stream: Tensor, count: int) -> Tensor:
    """``count`` 64-bit words a window, shape ``(window, count)``."""
    counter = torch.arange(1, count + 1, device=stream.device, dtype=torch.int64) * _GAMMA
    return _mix(stream[:, None] + counter)


def _uniform(stream: Tensor, count: int) -> Tensor:
    """Numbers in (0, 1), shape ``(window, count)``, float32."""
    return (_shift_right(_bits(stream, count), 41).float() + 0.5) / 2**23


def _normal(stream: Tensor, count: int) -> Tensor:
    """Standard normal numbers (Box-Muller, two a word), shape ``(window, count)``, float32."""
    words = _bits(stream, (count + 1) // 2)
    radius = (_shift_right(words, 41).float() + 0.5) / 2**23
    angle = ((words & (2**23 - 1)).float() + 0.5) * (2 * math.pi / 2**23)
    radius = (-2 * radius.log()).sqrt()
    pair = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return pair[:, :count]
