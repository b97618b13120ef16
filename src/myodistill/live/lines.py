"""The line protocol of devices: JSON objects or plain numbers, one message a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np

from myodistill.datasets.recording import Signal
from myodistill.errors import DataError, one_line, shown
from myodistill.realtime.sources import Chunk
from myodistill.signals.samples import real_numbers

LIMIT = 1 << 16
"""Bytes of the longest line that is read."""

_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf)", re.I)
_MOST = 1 << 53  # a count beyond it is none


def parse_line(line: bytes, channels: int) -> Chunk:
    """Read one message.

    Args:
        line: ``{"samples": [[...], ...], "seq": n, "time": t}``, of which the last two may be
            missing, or the numbers of one sample, separated by commas, semicolons or spaces.
        channels: Numbers that a sample has.

    Raises:
        DataError: It is anything else.
    """
    if line.lstrip().startswith(b"{"):
        return _parse_json(line, channels)
    fields = re.split(rb"\s*[,;]\s*|\s+", line.strip())
    if not all(len(field) <= 40 and _NUMBER.fullmatch(field) for field in fields):
        raise DataError(f"line: expected numbers or a JSON object, got {shown(line)}")
    return Chunk(_samples([[float(field) for field in fields]], channels))


def _parse_json(line: bytes, channels: int) -> Chunk:
    try:
        message = json.loads(line)
        rows, number, time = message["samples"], message.get("seq"), message.get("time")
    except (ValueError, LookupError, RecursionError) as error:
        raise DataError(
            f'line: expected {{"samples": [[...], ...]}}, got: {one_line(str(error), 80)}'
        ) from None
    whole = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST
    if number is not None and not whole:
        raise DataError(f"line: expected seq to be a count of samples, got {shown(number)}")
    real = isinstance(time, int | float) and not isinstance(time, bool) and abs(time) <= _MOST
    if time is not None and not real:
        raise DataError(f"line: expected time in seconds, got {shown(time)}")
    return Chunk(_samples(rows, channels), number, None if time is None else float(time))


def _samples(rows: object, channels: int) -> Signal:
    if not isinstance(rows, list) or not rows:
        raise DataError(f"line: expected a list of samples, got {shown(rows)}")
    samples = real_numbers(rows, what="line")
    if samples.ndim != 2 or samples.shape[1] != channels:
        width = samples.shape[1] if samples.ndim == 2 else f"the shape {samples.shape} of"
        raise DataError(f"line: expected {channels} channels, got {width} channels")
    return samples


class LineReader:
    """Cuts bytes into lines and reads them; a message that cannot be read is told, not raised.

    Args:
        channels: Numbers that a sample has.
        midway: The bytes begin in the middle of a line, which is left out.
    """

    def __init__(self, channels: int, *, midway: bool = False) -> None:
        self._channels = channels
        self._rest = b""
        self._skipping = midway

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Yield what the bytes complete, in order; plain samples in a row as one chunk."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= LIMIT else b""
        plain: list[Signal] = []
        for line in lines:
            if self._skipping:
                self._skipping = False
                continue
            chunk = self._read(line)
            if chunk is None:
                continue
            if chunk.number is None and chunk.time is None and not chunk.refused:
                plain.append(chunk.samples)
                continue
            if plain:
                yield Chunk(np.concatenate(plain))
                plain = []
            yield chunk
        if plain:
            yield Chunk(np.concatenate(plain))
        if len(rest) > LIMIT:
            if not self._skipping:
                yield self._refusal(f"line: expected at most {LIMIT} bytes, got more")
            self._skipping = True

    def finish(self) -> Iterator[Chunk]:
        """Yield that the last line was not finished, if so: a number in it may be cut."""
        if self._rest.strip() and not self._skipping:
            yield self._refusal(f"line: expected an end of line, got none: {shown(self._rest, 40)}")
        self._rest, self._skipping = b"", False

    def _read(self, line: bytes) -> Chunk | None:
        if not line.strip() or line.lstrip().startswith(b"#"):
            return None
        if len(line) > LIMIT:
            return self._refusal(f"line: expected at most {LIMIT} bytes, got {len(line)}")
        try:
            return parse_line(line, self._channels)
        except DataError as error:
            return self._refusal(str(error))

    def _refusal(self, reason: str) -> Chunk:
        return Chunk(np.zeros((0, self._channels), np.float32), refused=1, reason=reason)
