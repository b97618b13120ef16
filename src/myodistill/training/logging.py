"""Progress of one training run: a bar in a terminal, plain lines elsewhere, TensorBoard on disk."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from myodistill.files import writing

_SECONDS_BETWEEN_LINES = 10.0


class _Curves:
    """A TensorBoard log; its own writer has a thread that dies on a full disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = RecordWriter(self._path.open("xb"))
        self._write(Event(file_version="brain.Event:2"))

    def add(self, scores: dict[str, float], epoch: int) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scores.items()]
        self._write(Event(step=epoch, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        with writing(self._path):
            self._file.write(event.SerializeToString())
            self._file.flush()

    def close(self) -> None:
        with suppress(OSError):  # everything was flushed, or an error said why not
            self._file.close()


class Progress:
    """Reports epochs; used as a context.

    Args:
        title: Name of the run; empty reports nothing on the screen.
        epochs: Number of epochs.
        start: Number of epochs done already.
        log: Folder for TensorBoard; None writes none.
    """

    def __init__(self, title: str, epochs: int, *, start: int = 0, log: Path | None = None) -> None:
        self._title = title
        self._epochs = epochs
        self._epoch = start
        self._printed = time.monotonic()
        shown = bool(title) and sys.stderr.isatty()
        self._lines = bool(title) and not shown
        self._bar = tqdm(
            total=epochs, initial=start, desc=title, unit="epoch", leave=False, disable=not shown
        )
        self._curves = _Curves(log) if log is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._curves is not None:
            self._curves.close()

    def advance(self, scores: dict[str, float]) -> None:
        """Report one more epoch; each score is a TensorBoard scalar under its name."""
        self._epoch += 1
        text = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()
        if self._curves is not None:
            self._curves.add(scores, self._epoch)
        now = time.monotonic()
        if self._lines and now - self._printed > _SECONDS_BETWEEN_LINES:
            print(f"{self._title}: epoch {self._epoch}/{self._epochs}, {text}", file=sys.stderr)
            self._printed = now
