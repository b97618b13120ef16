"""Windows cut on a device: one block of memory a window, as fast as memory is copied."""

from __future__ import annotations

import torch
from torch import Tensor


def gather(signal: Tensor, starts: Tensor, samples: int, *, out: Tensor | None = None) -> Tensor:
    """Copy windows out of a signal on its device.

    The signal is stored sample by sample, so that a window is one block; the batch is a view of
    the copied blocks with time before channel in memory. Cutting channel by channel instead, as
    ``signal.unfold(0, samples, 1)[starts]`` does, is several times slower.

    Args:
        signal: Shape ``(time, channel)``, contiguous.
        starts: First sample of each window, shape ``(window,)``, on the signal's device.
        samples: Length of a window.
        out: Memory to reuse, shape ``(window, samples * channel)``: for large batches getting
            fresh memory takes longer than the copy.

    Returns:
        Shape ``(window, channel, time)``.
    """
    rows, channels = signal.shape
    blocks = signal.as_strided((max(rows - samples + 1, 0), samples * channels), (channels, 1))
    batch = torch.index_select(blocks, 0, starts, out=out)
    return batch.view(-1, samples, channels).transpose(1, 2)
