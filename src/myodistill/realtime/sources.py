"""Where samples come from: sources by name, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.errors import DataError, SettingsError, not_installed, shown
from myodistill.plugins import Registry, foreign_code


@dataclass(frozen=True)
class Chunk:
    """Samples with what their source can tell about them; what it cannot tell is None.

    Attributes:
        samples: Shape ``(time, channel)``; none where there is only something to tell.
        number: The device's count of samples before the first of these.
        time: Of the first sample by the device's clock, in seconds.
        jitter: Seconds by which ``time`` may be off without a sample missing.
        arrived: When they came, in seconds of this machine's monotonic clock.
        joined: A device has just connected, perhaps another one than before.
        left: The device is gone.
        refused: Messages that could not be read.
        reason: Why, in one line.
        note: A line for the user about the source.
    """

    samples: Signal
    number: int | None = None
    time: float | None = None
    jitter: float = 0.005
    arrived: float | None = None
    joined: bool = False
    left: bool = False
    refused: int = 0
    reason: str = ""
    note: str = ""


Source = Callable[[str, SignalSpec], Iterable[Signal | Chunk]]
"""From an address and the signal that is decoded to chunks ``(time, channel)`` of any length."""

SOURCES: Registry[Source] = Registry("source", SettingsError)
"""The sources by name."""

_CHUNKS_A_SECOND = 50


def register_source(name: str) -> Callable[[Source], Source]:
    """Add a source; decorates ``(address, spec) -> iterable of chunks``.

    Chunks are arrays ``(time, channel)``, or :class:`Chunk` where the source can say more of them.
    They are in the unit that the bundle was trained on.

    Raises:
        SettingsError: The name is taken or is not one plain word.
    """
    return SOURCES.registering(name)


def open_source(text: str, spec: SignalSpec) -> Iterator[Signal]:
    """Yield the samples of a source; see :func:`open_chunks`, which tells of gaps as well.

    Where one recording ends and the next begins, a window of values that are not finite lies
    between them, so that nothing is decided across.
    """
    begun = False
    for chunk in open_chunks(text, spec):
        if chunk.joined and begun:
            yield np.full((spec.samples, spec.channels), np.nan, np.float32)
        begun = begun or len(chunk.samples) > 0
        yield chunk.samples


def open_chunks(text: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Yield the chunks of a source.

    Args:
        text: ``NAME:ADDRESS``; what an address is depends on the source.
        spec: The signal that is decoded.

    Raises:
        SettingsError: There is no such source.
        DataError: What it gives cannot be read.
    """
    name, colon, address = text.partition(":")
    if not colon:
        raise SettingsError(f"source: expected NAME:ADDRESS, as replay:take.csv, got {shown(text)}")
    source = SOURCES.look_up(name)
    with foreign_code(f"source {name}", "chunks of samples", DataError):
        for chunk in source(address, spec):
            yield chunk if isinstance(chunk, Chunk) else Chunk(np.asarray(chunk))


@register_source("replay")
def replay(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Yield recordings in chunks of 20 ms, as fast as they are taken.

    Args:
        address: A .csv, .npy or .mat file with one table of numbers, ``(time, channel)``; or
            ``DATASET[,SUBJECT[,SESSION]]``: a person's recordings in the order of the dataset, or
            of the person's own folder.
        spec: The signal that is decoded.
    """
    try:
        from myodistill.realtime.replay import recordings  # with libraries that live sources spare
    except ModuleNotFoundError as error:
        raise DataError(f"replay: {not_installed(error)}") from None
    for note, signal in recordings(address, spec):
        if note:
            yield Chunk(signal[:0], joined=True, note=note)
        yield from _cut(signal, spec)


def _cut(signal: Signal, spec: SignalSpec) -> Iterator[Chunk]:
    length = max(round(spec.sampling_rate / _CHUNKS_A_SECOND), 1)
    for begin in range(0, len(signal), length):
        yield Chunk(signal[begin : begin + length])
