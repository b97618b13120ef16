"""Boards of BrainFlow as a source."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import DataError, SettingsError, one_line, shown, unknown_name
from myodistill.live.libraries import library, require_fitting
from myodistill.realtime.sources import Chunk, register_source

_TICK = 0.004  # seconds that samples wait for each other
_QUIET = 0.1  # seconds after which a source says that nothing came
_JITTER = 0.1  # seconds; boards are stamped when their samples arrive
_LOST = 5.0  # seconds of silence after which a board is connected anew
_LEARN = 64  # samples that tell how a board numbers its packages
_WRAP = 256  # where boards begin to number anew

Numbers = NDArray[np.float64]


class PackageNumbers:
    """Finds where samples are missing by the numbers of their packages, which go round.

    Args:
        first: Numbers of the first samples.
        rate: Samples a second.

    Attributes:
        step: From one sample to the next; 0 where the numbers count no samples.
    """

    def __init__(self, first: Numbers, rate: float) -> None:
        steps, counts = np.unique(np.diff(first) % _WRAP, return_counts=True)
        usual = int(np.argmax(counts)) if len(counts) else 0
        counted = len(counts) and counts[usual] >= 0.9 * (len(first) - 1)
        self.step = int(steps[usual]) if counted and 1 <= steps[usual] <= 8 else 0
        self._rate = rate
        self._newest: tuple[float, float, int] | None = None  # number, time, count

    def count(self, numbers: Numbers, stamps: Numbers) -> NDArray[np.int64]:
        """Return the count of each sample, from any start.

        Whole rounds that are missing are found by the time stamps, where half a second is.
        """
        number, stamp, begin = self._newest or (numbers[0] - self.step, stamps[0], -1)
        ahead = np.diff(numbers, prepend=number) % _WRAP
        passed = np.diff(stamps, prepend=stamp) * self._rate * self.step - ahead
        rounds = np.where(
            passed > max(_WRAP / 2, self._rate * self.step / 2), np.round(passed / _WRAP), 0
        )
        steps = np.ceil((ahead + rounds * _WRAP) / self.step).astype(np.int64)
        counts = begin + np.cumsum(steps)
        self._newest = float(numbers[-1]), float(stamps[-1]), int(counts[-1])
        return np.asarray(counts)


@register_source("brainflow")
def brainflow(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Read the EMG channels of a board.

    Args:
        address: ``BOARD[,PORT][,SETTING=VALUE...]``: the name of a board (``synthetic``,
            ``cyton``), its serial port, and other settings of BrainFlow's by name
            (``mac_address``, ``file``, ``master_board``).
        spec: The signal that is decoded.
    """
    shim = library("brainflow.board_shim")
    # BrainFlow 5.23 takes its module for a package, which Python 3.11 refuses.
    shim.files = lambda name: resources.files(name.partition(".")[0])
    kind, *words = address.split(",")
    board_id = _board(shim, kind)
    inputs, described = _inputs(shim, words, board_id)
    shim.BoardShim.disable_board_logger()
    try:
        channels, note = _channels(shim, kind, described, spec)
        rows = [shim.BoardShim.get_package_num_channel(described)]
        rows += [shim.BoardShim.get_timestamp_channel(described)]
        board = _connected(shim, board_id, inputs)
    except shim.BrainFlowError as error:
        raise DataError(
            f"brainflow: expected board {shown(kind)}, got: {one_line(str(error))}"
        ) from None
    empty = np.zeros((0, spec.channels), np.float32)
    while True:
        try:
            yield Chunk(empty, arrived=time.monotonic(), joined=True, note=note)
            yield from _read(shim, board, channels + rows, spec, ends=board_id == described)
        finally:
            _release(shim, board)
        yield Chunk(empty, arrived=time.monotonic(), left=True)
        note = ""
        board = None  # while it lives it would, when it goes, release the one that comes after it
        while board is None:
            yield Chunk(empty, arrived=time.monotonic())
            time.sleep(0.2)
            try:
                board = _connected(shim, board_id, inputs)
            except shim.BrainFlowError:
                continue


def _board(shim: Any, kind: str) -> int:
    name = kind.lower().replace("_", "-").removesuffix("-board")
    boards = {
        one.name.removesuffix("_BOARD").lower().replace("_", "-"): int(one.value)
        for one in shim.BoardIds
    }
    if name not in boards:
        raise SettingsError(f"brainflow: {unknown_name('board', kind, boards)}")
    return boards[name]


def _inputs(shim: Any, words: list[str], board_id: int) -> tuple[Any, int]:
    """Return BrainFlow's settings, and the board that describes the data (a playback's master)."""
    inputs, described = shim.BrainFlowInputParams(), board_id
    for place, word in enumerate(words):
        key, equals, value = word.partition("=")
        if not equals and place == 0:
            key, value = "serial_port", word
        kind = type(getattr(inputs, key, None))
        if key == "master_board":
            described = _board(shim, value)
            inputs.master_board = described
        elif kind is str:
            setattr(inputs, key, value)
        elif kind is int and value.isascii() and value.isdigit() and len(value) < 10:
            setattr(inputs, key, int(value))
        else:
            raise SettingsError(f"brainflow: expected a setting of BrainFlow's, got {shown(word)}")
    return inputs, described


def _channels(shim: Any, kind: str, board: int, spec: SignalSpec) -> tuple[list[int], str]:
    """Return the channels that are decoded, and what is to be said of them."""
    name = "EMG"
    rate = shim.BoardShim.get_sampling_rate(board)
    try:
        every = list(shim.BoardShim.get_emg_channels(board))
    except shim.BrainFlowError:
        every, name = list(shim.BoardShim.get_exg_channels(board)), "ExG"
    require_fitting("brainflow", min(len(every), spec.channels), rate, spec)
    notes = [f"{kind} has no EMG channels: its ExG channels are decoded"] if name == "ExG" else []
    if len(every) > spec.channels:
        notes.append(f"the first {spec.channels} of {len(every)} {name} channels are decoded")
    return every[: spec.channels], f"brainflow: {'; '.join(notes)}" if notes else ""


def _connected(shim: Any, board_id: int, inputs: Any) -> Any:
    board = shim.BoardShim(board_id, inputs)
    board.prepare_session()
    try:
        board.start_stream()
    except shim.BrainFlowError:
        _release(shim, board)
        raise
    return board


def _release(shim: Any, board: Any) -> None:
    try:
        board.release_session()
    except shim.BrainFlowError:  # it is gone
        return


def _read(
    shim: Any, board: Any, rows: list[int], spec: SignalSpec, *, ends: bool
) -> Iterator[Chunk]:
    """Yield what a board gives until it has been silent for long, if it ``ends`` then."""
    numbers: PackageNumbers | None = None
    waiting, heard = np.zeros((len(rows), 0)), time.monotonic()
    told = heard
    while True:
        time.sleep(_TICK)
        now = time.monotonic()
        try:
            data = np.concatenate([waiting, board.get_board_data()[rows]], axis=1)
        except shim.BrainFlowError:
            return
        if data.shape[1] > waiting.shape[1]:
            heard = now
        elif ends and now - heard > _LOST:
            return
        if not data.shape[1] or (numbers is None and data.shape[1] < _LEARN):
            waiting = data
            if now - told >= _QUIET:
                told = now
                yield Chunk(np.zeros((0, spec.channels), np.float32), arrived=now)
            continue
        told = now
        waiting = data[:, :0]
        note = ""
        if numbers is None:
            numbers = PackageNumbers(data[-2], spec.sampling_rate)
            if not numbers.step:
                note = "brainflow: package numbers count no samples; gaps of 0.1 s are noticed"
        for chunk in _placed(data, numbers, spec.sampling_rate):
            yield replace(chunk, arrived=now, note=note)
            note = ""


def _placed(data: Numbers, numbers: PackageNumbers, rate: float) -> Iterator[Chunk]:
    """Cut samples where some are missing, and say where they belong."""
    samples, stamps = data[:-2].T.astype(np.float32), data[-1]
    if numbers.step:
        counts = numbers.count(data[-2], stamps)
        cuts = np.flatnonzero(np.diff(counts) != 1) + 1
        for begin, end in pairwise([0, *cuts.tolist(), len(samples)]):
            yield Chunk(samples[begin:end], number=int(counts[begin]))
        return
    cuts = np.flatnonzero(np.abs(np.diff(stamps) - 1 / rate) > _JITTER) + 1
    for begin, end in pairwise([0, *cuts.tolist(), len(samples)]):
        yield Chunk(samples[begin:end], time=float(stamps[begin]), jitter=_JITTER)
