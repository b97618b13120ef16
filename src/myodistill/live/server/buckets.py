"""Signals for drawing: the least and the greatest value of each channel in short spans."""

from __future__ import annotations

import math
import struct
from collections import deque
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Signal
from myodistill.realtime.windows import LIMIT

MOST = 125.0
"""Buckets a second, where there are as many samples."""
VERSION = 1
"""Of the binary message."""

_KEPT = 125  # buckets that wait to be sent; older ones are left out
_HEADER = struct.Struct("<IIHH")

Spans = NDArray[np.float32]
"""Shape ``(bucket, channel, 2)``: the least and the greatest; not finite where all is missing."""


class Buckets:
    """Collects samples in one thread; another one takes what is complete.

    Args:
        channels: How many there are.
        rate: Samples a second.

    Attributes:
        rate: Buckets a second. Bucket *i* begins at second ``i / rate`` of the stream.
    """

    def __init__(self, channels: int, rate: float) -> None:
        self.rate = min(MOST, rate)
        self._share = self.rate / rate  # buckets a sample
        self._open: tuple[int, Spans] | None = None  # the newest bucket, which is not complete
        self._full: deque[tuple[int, Spans]] = deque(maxlen=_KEPT)
        self._channels = channels
        self._lock = Lock()

    def take(self, samples: Signal, begin: int) -> None:
        """Take samples ``(time, channel)``, of which the first is that many in the stream."""
        if not len(samples):
            return
        numbers = np.floor((begin + np.arange(len(samples)) + 1e-6) * self._share).astype(np.int64)
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        sound = np.where(np.abs(samples) <= LIMIT, samples, np.float32(np.nan))
        least = np.fmin.reduceat(sound, starts, axis=0)
        greatest = np.fmax.reduceat(sound, starts, axis=0)
        spans = np.stack([least, greatest], axis=2)
        first = int(numbers[0])
        if self._open is not None:
            if self._open[0] == first:
                spans[0, :, 0] = np.fmin(spans[0, :, 0], self._open[1][:, 0])
                spans[0, :, 1] = np.fmax(spans[0, :, 1], self._open[1][:, 1])
            else:
                self._keep(*self._open)
        for place, span in enumerate(spans[:-1]):
            self._keep(int(numbers[starts[place]]), span)
        self._open = int(numbers[-1]), spans[-1]

    def _keep(self, number: int, span: Spans) -> None:
        with self._lock:
            self._full.append((number, span))

    def drain(self) -> list[bytes]:
        """Return the messages of what is complete: one, or several where samples were left out."""
        with self._lock:
            full = list(self._full)
            self._full.clear()
        messages, begin = [], 0
        for place in range(1, len(full) + 1):
            if place == len(full) or full[place][0] != full[place - 1][0] + 1:
                spans = np.stack([span for _, span in full[begin:place]])
                messages.append(encode(full[begin][0], spans))
                begin = place
        return messages


def encode(first: int, spans: Spans) -> bytes:
    """Return the binary message of buckets in a row.

    Args:
        first: Number of the first in the stream, of which 32 bits are sent.
        spans: Shape ``(bucket, channel, 2)``.
    """
    header = _HEADER.pack(VERSION, first % (1 << 32), spans.shape[0], spans.shape[1])
    return header + np.ascontiguousarray(spans, dtype="<f4").tobytes()


def decode(message: bytes) -> tuple[int, Spans]:
    """Return the number of the first bucket, and the buckets, of a binary message."""
    version, first, buckets, channels = _HEADER.unpack_from(message)
    if version != VERSION or len(message) != _HEADER.size + math.prod((buckets, channels, 2, 4)):
        raise ValueError("no message of this version")
    spans = np.frombuffer(message, "<f4", offset=_HEADER.size)
    return first, spans.reshape(buckets, channels, 2).astype(np.float32)
