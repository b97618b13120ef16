"""Streams of Lab Streaming Layer as a source."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.errors import DataError, one_line, shown
from myodistill.live.libraries import library, require_fitting
from myodistill.realtime.sources import Chunk, register_source

_FIND = 1.0  # seconds to look for streams
_ANSWER = 5.0  # seconds that a stream has to answer
_MOST = 1024  # samples of a chunk
_TICK = 0.1  # seconds after which a source says that nothing came
_GATHER = 0.002  # seconds that samples wait for each other
_JITTER = 0.1  # seconds; many devices are stamped when their samples arrive


@register_source("lsl")
def lsl(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Read the stream of Lab Streaming Layer with a name or, failing that, a type.

    One that is lost is looked for until it is back. Its time stamps are those of the sender, moved
    by the difference of the clocks, and not smoothed.
    """
    pylsl = library("pylsl")
    found = pylsl.resolve_streams(_FIND)
    fitting = _fitting(found, address)
    if len(fitting) != 1:
        there = ", ".join(
            f"{one_line(one.name(), 30)} ({one_line(one.type(), 20)})" for one in found
        )
        raise DataError(
            f"lsl: expected one stream of the name or type {shown(address)}, got {len(fitting)}; "
            f"there are: {one_line(there, 200) or 'none'}"
        )
    empty = np.zeros((0, spec.channels), np.float32)
    first = True
    while True:
        require_fitting("lsl", fitting[0].channel_count(), fitting[0].nominal_srate(), spec)
        inlet = pylsl.StreamInlet(fitting[0], max_chunklen=_MOST, processing_flags=0, recover=False)
        try:
            yield from _pulled(inlet, spec, first=first)
        finally:
            inlet.close_stream()
        yield Chunk(empty, arrived=time.monotonic(), left=True)
        first, fitting = False, []
        while not fitting:
            yield Chunk(empty, arrived=time.monotonic())
            fitting = _fitting(pylsl.resolve_streams(_FIND), address)


def _fitting(found: list[Any], address: str) -> list[Any]:
    named = [one for one in found if one.name() == address]
    return named or [one for one in found if one.type() == address]


def _pulled(inlet: Any, spec: SignalSpec, *, first: bool) -> Iterator[Chunk]:
    """Yield what an inlet gives until its stream is lost.

    Raises:
        DataError: It is the first, and does not answer.
    """
    util = library("pylsl.util")
    empty = np.zeros((0, spec.channels), np.float32)
    try:
        inlet.open_stream(timeout=_ANSWER)
        correction = inlet.time_correction(timeout=_ANSWER)
        yield Chunk(empty, arrived=time.monotonic(), joined=True)
        while True:
            row, stamp = inlet.pull_sample(timeout=_TICK)  # returns as soon as there is one
            if stamp is None:
                yield Chunk(empty, arrived=time.monotonic())
                continue
            time.sleep(_GATHER)
            rows, stamps = inlet.pull_chunk(timeout=0.0, max_samples=_MOST)
            now = time.monotonic()
            rows, stamps = [row, *rows], [stamp, *stamps]
            correction = inlet.time_correction(timeout=_ANSWER)  # measured every five seconds
            yield from _stretches(
                np.array(rows, np.float32), np.array(stamps) + correction, spec, now
            )
    except util.LostError:
        return
    except util.TimeoutError:
        if first:
            raise DataError(f"lsl: expected an answer within {_ANSWER:g} s, got none") from None


def _stretches(
    samples: Signal, stamps: np.ndarray[Any, Any], spec: SignalSpec, now: float
) -> Iterator[Chunk]:
    """Cut samples where their time stamps jump."""
    off = np.abs(np.diff(stamps) - 1 / spec.sampling_rate)
    cuts = np.flatnonzero(off > _JITTER) + 1
    for part, times in zip(np.split(samples, cuts), np.split(stamps, cuts), strict=True):
        yield Chunk(part, time=float(times[0]), arrived=now, jitter=_JITTER)
