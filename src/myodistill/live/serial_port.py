"""Serial ports as a source; they speak the line protocol."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import DataError, SettingsError, one_line, shown
from myodistill.live.libraries import library
from myodistill.live.lines import LineReader
from myodistill.realtime.sources import Chunk, register_source

BAUD = 115200
"""Bits a second unless told otherwise."""

_TICK = 0.1  # seconds after which it says that nothing came
_HEAD = 4096  # bytes by which a message must have been read, or they must be text
_TEXT = bytes(range(32, 127)) + b"\t\r\n"


@register_source("serial")
def serial(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Read lines from ``DEVICE[,BAUD]``; a device that was unplugged is waited for."""
    pyserial = library("serial")
    device, _, words = address.partition(",")
    digits = words or str(BAUD)
    if not (device and digits.isascii() and digits.isdigit() and len(digits) < 9 and int(digits)):
        raise SettingsError(f"serial: expected DEVICE[,BAUD], got {shown(address)}")
    baud = int(digits)
    try:
        port = _open(pyserial, device, baud)
    except (OSError, ValueError) as error:  # pyserial's own are OSError
        there = ", ".join(one.device for one in library("serial.tools.list_ports").comports())
        raise DataError(
            f"serial: expected {shown(device)} to open, got: {one_line(str(error), 80)}; "
            f"there are: {one_line(there, 100) or 'none'}"
        ) from None
    nothing = Chunk(np.zeros((0, spec.channels), np.float32))
    while True:
        try:
            yield from _read(port, baud, spec)
        finally:
            with suppress(OSError):
                port.close()
        yield replace(nothing, arrived=time.monotonic(), left=True)
        again = None
        while again is None:
            time.sleep(_TICK)
            yield replace(nothing, arrived=time.monotonic())
            with suppress(OSError):
                again = _open(pyserial, device, baud)
        port = again


def _open(pyserial: Any, device: str, baud: int) -> Any:
    return pyserial.Serial(device, baud, timeout=_TICK, exclusive=True)


def _read(port: Any, baud: int, spec: SignalSpec) -> Iterator[Chunk]:
    """Yield what a port gives until it is unplugged.

    Raises:
        DataError: What comes is no text: the baud rate is another one.
    """
    lines = LineReader(spec.channels, midway=True)
    nothing = Chunk(np.zeros((0, spec.channels), np.float32))
    head: bytes | None = b""
    yield replace(nothing, arrived=time.monotonic(), joined=True)
    while True:
        try:
            data = port.read(min(max(port.in_waiting, 1), 1 << 16))
        except (OSError, TypeError):  # unplugged; pyserial may trip over its own closed handle
            break
        if not data:
            yield replace(nothing, arrived=time.monotonic())
        for chunk in lines.feed(data):
            head = head if chunk.refused else None
            yield replace(chunk, arrived=time.monotonic())
        if head is not None:
            head = _require_text(head + data, baud)
    for chunk in lines.finish():
        yield replace(chunk, arrived=time.monotonic())


def _require_text(head: bytes, baud: int) -> bytes | None:
    """Return what came so far, None once it is enough; a start of garbage is usual."""
    if len(head) < _HEAD:
        return head
    odd = len(head.translate(None, _TEXT))
    if odd > len(head) / 10:
        raise DataError(
            f"serial: expected lines of text, got {odd} bytes of {len(head)} that are none; check "
            f"that the device sends at {baud} baud"
        )
    return None
