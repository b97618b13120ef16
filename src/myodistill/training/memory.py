"""What a step of training says when memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from traceback import clear_frames

import torch
from torch import Tensor

from myodistill.errors import TrainingError
from myodistill.training.batches import Batch


@contextmanager
def refused_without_memory(
    step: Callable[[Batch], object], batch: Batch, stacked: int, title: str
) -> Iterator[None]:
    """Turn a lack of memory in the block into one line with the batch size that fits.

    It is found by trying halves, which leaves the network changed.

    Args:
        step: Takes a step on a batch.
        batch: What the block takes a step on.
        stacked: Leading axes of the batch that count networks; then no size is named.
        title: Of the training.

    Raises:
        TrainingError: There is not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        windows = batch.inputs.shape[stacked]
        clear_frames(error.__traceback__)  # which hold what the step has allocated
    else:
        return
    fitting = 0 if stacked else _fitting(step, batch)
    advice = f"set batch_size to {fitting}, which fits" if fitting else "take a smaller model"
    raise TrainingError(
        f"{title or 'training'}: expected memory for a step of {windows} windows, there is not "
        f"enough; {advice}"
    )


def _fitting(step: Callable[[Batch], object], batch: Batch) -> int:
    """Return the largest half of a half ... of a batch that a step fits; 0 if none does."""
    count = len(batch.inputs) // 2
    while count >= 2:  # batch normalisation needs two
        try:
            step(_first(batch, count))
        except (MemoryError, RuntimeError) as error:
            if not _lacks_memory(error):
                raise
            count //= 2
        else:
            return count
    return 0


def _first(batch: Batch, count: int) -> Batch:
    """The first windows of a batch."""
    parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{n: v[:count] for n, v in parts.items() if isinstance(v, Tensor)})


def _lacks_memory(error: BaseException) -> bool:
    """Whether an error is of a GPU's, PyTorch's or Python's allocation."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
