"""Where samples come from: sources by name, chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from myodistill.datasets.arrays import read_arrays
from myodistill.datasets.foreign import as_signal
from myodistill.datasets.recording import Recording, Signal, SignalSpec
from myodistill.datasets.registry import DATASETS, is_dataset, open_dataset
from myodistill.datasets.trees import File
from myodistill.errors import DataError, SettingsError, shown, unknown_name
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
    # pathlib's raises for odd paths.
    if is_dataset(address) or not os.path.isfile(address):  # noqa: PTH113
        name = address.partition(",")[0]
        if name == address and name not in DATASETS and not is_dataset(name):
            raise DataError(
                f"replay: expected a recording or a dataset, there is no file {shown(address)}"
            )
        for one in _recordings(address, spec):
            what = f"replay: {one.subject}, session {one.session}, in {one.unit}"
            yield Chunk(one.signal[:0], joined=True, note=what)
            yield from _cut(one.signal, spec)
        return
    path = Path(address)
    file = File(path.name, str(path), path.read_bytes, path)
    arrays = [array for array in read_arrays(file).values() if array.ndim == 2]
    if len(arrays) != 1:
        raise DataError(
            f"replay: expected one (time, channel) table in {shown(address)}, got {len(arrays)}"
        )
    yield from _cut(as_signal(file, arrays[0]), spec)


def _cut(signal: Signal, spec: SignalSpec) -> Iterator[Chunk]:
    length = max(round(spec.sampling_rate / _CHUNKS_A_SECOND), 1)
    for begin in range(0, len(signal), length):
        yield Chunk(signal[begin : begin + length])


def _recordings(address: str, spec: SignalSpec) -> list[Recording]:
    """Return a person's recordings.

    Raises:
        DataError: The dataset, person or session is unknown, or the signal is another one.
    """
    name, *words = (word.strip() for word in address.split(","))
    if len(words) > 2:
        raise DataError(f"replay: expected DATASET,SUBJECT,SESSION, got {shown(address)}")
    dataset = open_dataset(name)
    people = dataset.subjects()
    if not words and len(people) != 1:
        raise DataError(
            f"replay: expected a person of {shown(name)}, got none; add one, as in "
            f"{name[:40]},{people[0]}"
        )
    person = words[0] if words else people[0]
    if person not in people:
        raise DataError(unknown_name("subject", person, people))
    recordings = dataset.recordings(person)
    if words[1:]:
        sessions = list(dict.fromkeys(one.session for one in recordings))
        if words[1] not in sessions:
            raise DataError(unknown_name("session", words[1], sessions))
        recordings = [one for one in recordings if one.session == words[1]]
    for one in recordings:
        if one.signal.shape[1] != spec.channels or one.sampling_rate != spec.sampling_rate:
            raise DataError(
                f"replay: expected {spec.channels} channels at {spec.sampling_rate:g} Hz, "
                f"{person} has {one.signal.shape[1]} at {one.sampling_rate:g} Hz; choose a person "
                f"of the dataset that the bundle was made for"
            )
    return recordings
