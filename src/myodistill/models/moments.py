"""Means of groups and the scatter around them, of more rows than fit into memory at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

GroupedRows = tuple[Tensor, Tensor]
"""Some rows, ``(row, feature)``, and the number of the group of each."""


def group_means(blocks: Iterable[GroupedRows], count: int) -> Tensor:
    """Return the mean of each group.

    Args:
        blocks: All rows, some at a time.
        count: Number of groups.

    Returns:
        Shape ``(group, feature)``; zeros for a group without a row.
    """
    sums = torch.zeros(())
    counts = torch.zeros(count, dtype=torch.long)
    for rows, groups in blocks:
        if not sums.ndim:
            sums = rows.new_zeros(count, rows.shape[1])
            counts = counts.to(rows.device)
        sums.index_add_(0, groups, rows)
        counts += torch.bincount(groups, minlength=count)
    return sums / counts.clamp_min(1)[:, None]


def scatter(blocks: Iterable[GroupedRows], means: Tensor) -> Tensor:
    """Return the mean outer product of the rows' deviations from their groups' means.

    Args:
        blocks: All rows, some at a time.
        means: Of the groups, shape ``(group, feature)``.

    Returns:
        Shape ``(feature, feature)``.
    """
    total = means.new_zeros(means.shape[1], means.shape[1], dtype=torch.float64)
    count = 0
    for rows, groups in blocks:
        away = rows - means[groups]
        total += away.mT @ away
        count += len(rows)
    return (total / count).to(means.dtype)
