"""Sources that need a library of their own: streams of LSL, and boards of BrainFlow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.errors import DataError, SettingsError, ToolError, one_line, shown
from myodistill.realtime.sources import Chunk, register_source

_FIND = 1.0  # seconds to look for streams
_ANSWER = 5.0  # seconds that a stream has to answer
_MOST = 1024  # samples of a chunk
_TICK = 0.02  # seconds that samples wait for each other
_JITTER = 0.1  # seconds; many devices are stamped when their samples arrive


def _library(name: str) -> Any:
    """Import a library of the extra.

    Raises:
        ToolError: It is not installed.
    """
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError):  # as when its shared library is missing
        raise ToolError(
            f"{name}: expected it to be installed, it is not; pip install 'myodistill[live]'"
        ) from None


def _checked(source: str, channels: int, rate: float, spec: SignalSpec) -> None:
    if channels != spec.channels:
        raise DataError(
            f"{source}: expected {spec.channels} channels, got {channels}; choose the stream that "
            f"the bundle was made for"
        )
    if rate and abs(rate / spec.sampling_rate - 1) > 0.02:
        raise DataError(
            f"{source}: expected {spec.sampling_rate:g} samples a second, the stream says "
            f"{rate:g}; set the device to the rate of the bundle"
        )


@register_source("lsl")
def lsl(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Read the stream of Lab Streaming Layer with a name or, failing that, a type."""
    pylsl = _library("pylsl")
    found = pylsl.resolve_streams(_FIND)
    fitting = [one for one in found if one.name() == address]
    fitting = fitting or [one for one in found if one.type() == address]
    if len(fitting) != 1:
        there = ", ".join(
            f"{one_line(one.name(), 30)} ({one_line(one.type(), 20)})" for one in found
        )
        raise DataError(
            f"lsl: expected one stream of the name or type {shown(address)}, got {len(fitting)}; "
            f"there are: {one_line(there, 200) or 'none'}"
        )
    _checked("lsl", fitting[0].channel_count(), fitting[0].nominal_srate(), spec)
    inlet = pylsl.StreamInlet(fitting[0], max_chunklen=_MOST, processing_flags=0, recover=True)
    correction = inlet.time_correction(timeout=_ANSWER)
    empty = np.zeros((0, spec.channels), np.float32)
    try:
        yield Chunk(empty, arrived=time.monotonic(), joined=True)
        while True:
            rows, stamps = inlet.pull_chunk(timeout=_TICK, max_samples=_MOST)
            now = time.monotonic()
            if not stamps:
                yield Chunk(empty, arrived=now)
                continue
            yield from _stretches(
                np.array(rows, np.float32), np.array(stamps) + correction, spec, now
            )
    finally:
        inlet.close_stream()


def _stretches(
    samples: Signal, stamps: np.ndarray[Any, Any], spec: SignalSpec, now: float
) -> Iterator[Chunk]:
    """Cut samples where their time stamps jump."""
    off = np.abs(np.diff(stamps) - 1 / spec.sampling_rate)
    cuts = np.flatnonzero(off > _JITTER) + 1
    for part, times in zip(np.split(samples, cuts), np.split(stamps, cuts), strict=True):
        yield Chunk(part, time=float(times[0]), arrived=now, jitter=_JITTER)


@register_source("brainflow")
def brainflow(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Read the EMG channels of a board by its name, ``synthetic`` among them."""
    shim = _library("brainflow.board_shim")
    kind, _, port = address.partition(",")
    name = f"{kind.upper().replace('-', '_')}_BOARD"
    boards = {board.name: board.value for board in shim.BoardIds}
    if name not in boards:
        raise SettingsError(
            f"brainflow: expected the name of a board, as synthetic, got {shown(kind)}"
        )
    inputs = shim.BrainFlowInputParams()
    inputs.serial_port = port
    shim.BoardShim.disable_board_logger()
    try:
        rate = shim.BoardShim.get_sampling_rate(boards[name])
        channels = shim.BoardShim.get_emg_channels(boards[name])[: spec.channels]
        _checked("brainflow", len(channels), rate, spec)
        board = shim.BoardShim(boards[name], inputs)
        board.prepare_session()
    except shim.BrainFlowError as error:
        raise DataError(f"brainflow: expected board {shown(kind)}, got: {error}") from None
    try:
        board.start_stream()
        empty = np.zeros((0, spec.channels), np.float32)
        yield Chunk(empty, arrived=time.monotonic(), joined=True)
        while True:
            time.sleep(_TICK)
            data = board.get_board_data()[channels].T.astype(np.float32)
            yield Chunk(data, arrived=time.monotonic())
    finally:
        board.release_session()
