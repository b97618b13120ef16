"""A serial device at the other end of a pseudo-terminal."""

from __future__ import annotations

import contextlib
import json
import os
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from decoding import bundle
from streams import SIGNAL, beside

from myodistill import live
from myodistill.bundle import Bundle
from myodistill.errors import DataError, SettingsError
from myodistill.live.session import Session
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.sources import Chunk, open_chunks

pytest.importorskip("serial")
live.register_sources()


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle(epochs=5)


class Device:
    """Plugged in at a path, as udev's links are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.plug_in()

    def plug_in(self) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self._path.unlink(missing_ok=True)
        self._path.symlink_to(os.ttyname(slave))
        self._slave = slave  # kept open: the line is there before anybody opens it

    def unplug(self) -> None:
        self._path.unlink()
        os.close(self._master)
        os.close(self._slave)

    def send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._master, data[:1024]) :]

    def lines(self, begin: int, end: int, length: int = 20) -> None:
        for first in range(begin, end, length):
            rows = SIGNAL[first : first + length].tolist()
            self.send(json.dumps({"samples": rows, "seq": first}).encode() + b"\n")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    one = Device(tmp_path / "tty")
    yield one
    with contextlib.suppress(OSError):
        one.unplug()


def taken(session: Session, chunks: Iterator[Chunk], samples: int) -> list[float]:
    confidences, end = [], time.monotonic() + 20
    for chunk in chunks:
        confidences += [one["confidence"] for one in session.take(chunk)]
        if session.health.samples >= samples:
            break
        assert time.monotonic() < end
    return confidences


def offline(student: Bundle, signal: np.ndarray) -> list[float]:
    return [one.confidence for one in Decoder(student).push(signal)]


def test_a_device_that_is_unplugged_and_comes_back(
    student: Bundle, device: Device, tmp_path: Path
) -> None:
    told: list[str] = []
    session = Session(Decoder(student), tell=told.append)
    chunks = open_chunks(f"serial:{tmp_path / 'tty'},115200", student.spec)
    next(chunks)

    def first() -> None:
        device.send(b"\xf0\x8e~~\x00 boot\x80 12,3\n")  # the rest of a line
        device.lines(0, 300)

    with beside(first):
        before = taken(session, chunks, 300)
    device.unplug()
    end = time.monotonic() + 20
    while not session.health.vanished and time.monotonic() < end:
        list(session.take(next(chunks)))
    device.plug_in()
    while session.health.connections < 1 and time.monotonic() < end:
        list(session.take(next(chunks)))

    def second() -> None:
        time.sleep(0.5)
        device.send(b"\n")
        device.lines(0, 300)

    with beside(second):
        after = taken(session, chunks, 600)
    health = session.health
    assert (health.connections, health.vanished, health.restarts, health.gaps) == (1, 1, 1, 1)
    assert (health.refused, health.duplicated, health.late) == (0, 0, 0)
    gap = np.full((100, 4), np.nan)
    whole = np.concatenate([SIGNAL[:300], gap, SIGNAL[:300]])
    sound = [one for one in before + after if one]
    assert sound == [one for one in offline(student, whole) if one]
    assert "the device is gone" in told


def test_the_first_line_is_no_sample_for_it_may_be_cut(
    student: Bundle, device: Device, tmp_path: Path
) -> None:
    session = Session(Decoder(student))
    chunks = open_chunks(f"serial:{tmp_path / 'tty'}", student.spec)
    next(chunks)
    device.send(b"3,2,3,4\n" + b"1,2,3,4\n" * 5)  # it was 123,2,3,4
    taken(session, chunks, 5)
    for _ in range(3):
        list(session.take(next(chunks)))
    assert (session.health.samples, session.health.refused) == (5, 0)


def test_garbage_of_another_baud_rate_is_one_line(
    student: Bundle, device: Device, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for newlines in (True, False):
        raw = rng.integers(128, 256, 8192).astype(np.uint8).tobytes()
        raw = raw.replace(b"\xaa", b"\n") if newlines else raw
        session = Session(Decoder(student))
        chunks = open_chunks(f"serial:{tmp_path / 'tty'}", student.spec)
        next(chunks)
        with (
            beside(lambda raw=raw: device.send(raw)),  # type: ignore[misc]
            pytest.raises(DataError, match=r"check that the device sends at 115200|none of the"),
        ):
            list(session.run(chunks))
        device.unplug()
        device.plug_in()


def test_a_burst_of_garbage_between_lines_is_counted(
    student: Bundle, device: Device, tmp_path: Path
) -> None:
    session = Session(Decoder(student))
    chunks = open_chunks(f"serial:{tmp_path / 'tty'}", student.spec)
    next(chunks)

    def send() -> None:
        device.send(b"\n")
        device.lines(0, 300)
        device.send(b"\x00\xff,,\n")
        device.lines(320, 600)

    with beside(send):
        taken(session, chunks, 580)
    health = session.health
    assert (health.refused, health.gaps, health.lost) == (1, 1, 20)


@pytest.mark.parametrize("wrong", ["", ",9600", "/dev/x,", "/dev/x,fast", "/dev/x,0", "/dev/x,-1"])
def test_addresses_are_one_line(student: Bundle, wrong: str) -> None:
    if wrong == "/dev/x,":
        with pytest.raises(DataError, match=r"serial: expected '/dev/x' to open, .* there are: "):
            next(open_chunks(f"serial:{wrong}", student.spec))
        return
    with pytest.raises(SettingsError, match=r"serial: expected DEVICE\[,BAUD\]"):
        next(open_chunks(f"serial:{wrong}", student.spec))
