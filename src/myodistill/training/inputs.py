"""What networks read: windows cut on demand, or the output of a fixed front, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from myodistill.signals.augmentation import Augmenter
from myodistill.signals.disk_cache import DiskRows
from myodistill.signals.gather import gather


@dataclass(frozen=True)
class SignalInputs:
    """Windows cut from their signal on demand, on the device that holds it.

    Attributes:
        signal: Shape ``(time, channel)``, in memory or on disk.
        starts: First sample of each window.
        samples: Length of a window.
        augmenter: Makes the views; None for none.
        first: Number of the first window; the numbers seed the augmentation.
        view: Which view these are.
    """

    signal: Tensor | DiskRows
    starts: Tensor
    samples: int
    augmenter: Augmenter | None
    first: int = 0
    view: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, indices: Tensor) -> Tensor:
        indices = indices.to(self.starts.device)
        starts, signal = self.starts[indices], self.signal
        if isinstance(signal, DiskRows):
            windows = signal.gather(starts, self.samples)
        else:
            windows = gather(signal, starts, self.samples)
        if self.augmenter is None or self.view == 0:
            return windows
        return self.augmenter(windows, indices + self.first, self.view)

    def augmented(self, view: int) -> SignalInputs:
        """Return the same windows in one of their views."""
        return replace(self, view=view)


class FeatureInputs:
    """The output of a network's fixed front, computed once for each view.

    Args:
        compute: Takes the number of a view, returns the front's output for every window.
        view: Which view these are.
    """

    def __init__(self, compute: Callable[[int], Tensor | DiskRows], view: int = 0) -> None:
        self._compute = compute
        self._view = view

    def __len__(self) -> int:
        return len(self._compute(self._view))

    def __getitem__(self, indices: Tensor) -> Tensor:
        rows = self._compute(self._view)
        return rows[indices.to(rows.device)]

    def augmented(self, view: int) -> FeatureInputs:
        """Return the same windows in one of their views."""
        return FeatureInputs(self._compute, view)

    def as_recorded(self) -> FeatureInputs:
        """Return windows that are as they were recorded in every view."""
        return FeatureInputs(lambda view: self._compute(0))

    def rows(self) -> Tensor | DiskRows:
        """Return what there is of every window."""
        return self._compute(self._view)


def concatenated(blocks: Iterable[Tensor], folder: Path | None) -> Tensor | DiskRows:
    """Concatenate blocks: in a file in ``folder``, or in memory if it is None."""
    if folder is not None:
        return DiskRows(folder, blocks)
    parts = list(blocks)
    return torch.cat(parts) if len(parts) > 1 else parts[0]
