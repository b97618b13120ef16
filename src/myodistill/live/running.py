"""Runs a stream from its source to its sink until it ends or is stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import DataError, SettingsError, shown
from myodistill.live.models import StateFile
from myodistill.live.session import Session
from myodistill.live.sinks import Sink
from myodistill.realtime.sources import Chunk, open_chunks


class Stop:
    """A wish to stop that interrupts waiting, but no decision half-way."""

    def __init__(self) -> None:
        self.asked = False
        self._waiting = False

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM for the wish, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._ask) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def watch(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield chunks until somebody wants to stop."""
        source = iter(chunks)
        while not self.asked:
            self._waiting = True
            try:
                if self.asked:
                    return
                chunk = next(source)
            except (StopIteration, KeyboardInterrupt):
                return
            finally:
                self._waiting = False
            yield chunk

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt


def is_replay(source: str) -> bool:
    """Whether a source is no device."""
    return source.startswith("replay:")


def opened(source: str, spec: SignalSpec, *, speed: float, loop: bool) -> Iterator[Chunk]:
    """Return the chunks of a source, which is opened with the first; a replay's in its time.

    Args:
        source: ``NAME:ADDRESS``.
        spec: The signal that is decoded.
        speed: As for :func:`paced`.
        loop: Begin a replay again when it ends.

    Raises:
        SettingsError: A device is to begin again.
    """
    if not is_replay(source):
        if loop:
            raise SettingsError(f"loop: expected a replay, got the source {shown(source)}")
        return open_chunks(source, spec)
    chunks = looped(lambda: open_chunks(source, spec)) if loop else open_chunks(source, spec)
    return paced(chunks, spec.sampling_rate, speed)


def paced(chunks: Iterable[Chunk], rate: float, speed: float) -> Iterator[Chunk]:
    """Yield chunks when their last sample would have been taken.

    Args:
        chunks: Of a recording.
        rate: Samples a second.
        speed: Times as fast as recorded; 0 for as fast as they are taken.
    """
    begin, count = 0.0, 0
    for chunk in chunks:
        begin = begin or time.monotonic()  # not before the recording was read
        count += len(chunk.samples)
        if speed:
            time.sleep(max(begin + count / rate / speed - time.monotonic(), 0))
        yield chunk


def looped(open_again: Callable[[], Iterable[Chunk]]) -> Iterator[Chunk]:
    """Yield a recording again and again; nothing is decided across its end.

    Args:
        open_again: Returns its chunks from the beginning.

    Raises:
        DataError: It holds no samples.
    """
    again = False
    while True:
        count = 0
        for chunk in open_again():
            count += len(chunk.samples)
            yield replace(chunk, joined=True) if again else chunk
            again = False
        if not count:
            raise DataError("replay: expected samples to repeat, got none; choose another file")
        again = True


def run_stream(
    session: Session, chunks: Iterable[Chunk], sink: Sink, state: StateFile | None = None
) -> str:
    """Decode until the source ends or the user stops; return the summary.

    The state is saved, and the sink is closed, however it ends.

    Raises:
        DataError: The stream is of another rate or kind.
        OutputError: The state cannot be written; found before anything is decoded.
    """
    if state is not None:
        state.save()
    stop, begin = Stop(), time.monotonic()
    with stop.heeding_signals():
        try:
            for message in session.run(stop.watch(_saving(chunks, state))):
                sink.send(message)
        finally:
            sink.close()
            if state is not None and session.decisions:
                state.save()
    dropped = f"; {sink.dropped} decisions not delivered" if sink.dropped else ""
    return session.summary(time.monotonic() - begin) + dropped


def _saving(chunks: Iterable[Chunk], state: StateFile | None) -> Iterator[Chunk]:
    for chunk in chunks:
        if state is not None:
            state.save_if_due()
        yield chunk
