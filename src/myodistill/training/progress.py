"""Progress of one training run: a bar in a terminal, plain lines elsewhere, TensorBoard on disk."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Reports epochs; used as a context.

    Args:
        title: Name of the run; empty reports nothing on the screen.
        epochs: How many there will be.
        start: How many are done already.
        log: Folder for TensorBoard; None writes none.
    """

    def __init__(self, title: str, epochs: int, *, start: int = 0, log: Path | None = None) -> None:
        self._title = title
        self._epochs = epochs
        self._epoch = start
        self._said = time.monotonic()
        shown = bool(title) and sys.stderr.isatty()
        self._lines = bool(title) and not shown
        self._bar = tqdm(
            total=epochs, initial=start, desc=title, unit="epoch", leave=False, disable=not shown
        )
        self._writer = SummaryWriter(str(log)) if log is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def advance(self, scores: dict[str, float]) -> None:
        """Report one more epoch with its scores."""
        self._epoch += 1
        text = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()
        if self._writer is not None:
            for name, value in scores.items():
                self._writer.add_scalar(name, value, self._epoch)
        now = time.monotonic()
        if self._lines and now - self._said > _SECONDS_BETWEEN_LINES:
            print(f"{self._title}: epoch {self._epoch}/{self._epochs}, {text}", file=sys.stderr)
            self._said = now
