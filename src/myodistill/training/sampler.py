"""Which windows make a batch and which view of them an epoch sees; seeds decide nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Views = int | Literal["fresh", "clean"]
"""Which views of a window are trained on, see :func:`view_of`."""


@dataclass(frozen=True)
class BatchSampler:
    """Draws the windows of each batch; the draw depends on seed and epoch alone.

    An epoch passes once over the ``primary`` windows. Those from index ``rehearsed_from`` on are
    rehearsed: a share of every batch is drawn from them (Robins, Catastrophic forgetting, rehearsal
    and pseudorehearsal, Connection Science 7(2), 1995).

    Attributes:
        batch_size: Windows in a batch.
        primary: Indices of the windows that make an epoch; None for all.
        rehearsed_from: Index of the first rehearsed window; None for no rehearsal.
        rehearsal: Share of every batch that is rehearsed.
    """

    batch_size: int
    primary: Tensor | None = None
    rehearsed_from: int | None = None
    rehearsal: float = 0.0

    def batches(self, windows: int) -> int:
        """Return the number of batches in an epoch over ``windows`` windows."""
        primary, _ = self._sizes(windows)
        return max(1, len(self._primary(windows)) // primary)

    def epoch(self, windows: int, seed: int, epoch: int) -> Iterator[Tensor]:
        """Yield the indices of each batch, primary windows first.

        Primary windows that fill no whole batch are left to another epoch.
        """
        size, rehearsed = self._sizes(windows)
        primary = self._primary(windows)
        generator = torch.Generator().manual_seed(mix_seed(seed, epoch, 0))
        shuffled = primary[torch.randperm(len(primary), generator=generator)]
        for number in range(self.batches(windows)):
            indices = shuffled[number * size : (number + 1) * size]
            if rehearsed:
                first = self.rehearsed_from or 0
                drawn = torch.randint(first, windows, (rehearsed,), generator=generator)
                indices = torch.cat([indices, drawn])
            yield indices

    def _primary(self, windows: int) -> Tensor:
        return torch.arange(windows) if self.primary is None else self.primary

    def _sizes(self, windows: int) -> tuple[int, int]:
        """Return how many windows of a batch are primary, and how many are rehearsed."""
        first = windows if self.rehearsed_from is None else self.rehearsed_from
        rehearsed = round(self.batch_size * self.rehearsal) if first < windows else 0
        wanted = self.batch_size - rehearsed
        primary = min(wanted, len(self._primary(windows)))
        return primary, rehearsed * primary // max(wanted, 1)


def view_of(views: Views | None, epoch: int) -> int:
    """Return which view of the windows an epoch trains on.

    Args:
        views: ``k`` cycles through views 1 to k; ``"fresh"`` and ``"clean"`` give every epoch a
            view of its own; None is view 0, the windows as they were recorded.
        epoch: From 0.
    """
    if views is None:
        return 0
    return 1 + (epoch % views if isinstance(views, int) else epoch)


def mix_seed(*numbers: int) -> int:
    """Return a seed made from several numbers; close numbers give distant seeds."""
    mixed = 0x9E3779B97F4A7C15
    for number in numbers:
        mixed = (mixed ^ (number + 1)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed ^= mixed >> 31
    return mixed % 2**63
