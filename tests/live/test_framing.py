"""Frames over TCP and a serial line: every sound one is read, however the others are damaged."""

from __future__ import annotations

import json
import os
import socket
import threading
import tty
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from decoding import bundle

from myodistill.bundle import Bundle
from myodistill.live import network, serial_port
from myodistill.live.lines import LIMIT
from myodistill.live.session import Session
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.sources import Chunk

serial = pytest.importorskip("serial")


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle(epochs=1)


def stream(frames: int, seed: int) -> tuple[list[bytes], set[int], int]:
    """Frames, sound and damaged; the counts of the sound ones, and how many are to be refused."""
    rng = np.random.default_rng(seed)
    parts, sound, refused = [b"\n"], set(), 0
    for number in range(frames):
        line = json.dumps({"samples": [[1, -2, 3.5, 0]], "seq": number}).encode()
        kind = rng.integers(12)
        if kind < 6:
            sound.add(number)
        elif kind == 6:
            line = line[: rng.integers(1, len(line))]
            refused += 1
        elif kind == 7:
            line = rng.integers(128, 256, rng.integers(1, 90)).astype(np.uint8).tobytes()
            refused += 1
        elif kind == 8:
            line = b"{" + line
            refused += 1
        elif kind == 9:
            line = b" \t\r" if number % 2 else b"# " + line
        elif kind == 10 and rng.integers(200) == 0:
            line = b"1," * (LIMIT // 2 + int(rng.integers(1, 500)))
            refused += 1
        else:
            line = line.replace(b"[[", b"[")
            refused += 1
        parts.append(line + b"\n")
    return parts, sound, refused


def sent(parts: list[bytes], send: Callable[[bytes], object], seed: int) -> threading.Thread:
    """Send in pieces of any size, from a thread."""
    rng, data = np.random.default_rng(seed), b"".join(parts)

    def work() -> None:
        begin = 0
        while begin < len(data):
            end = begin + int(rng.choice([1, 7, 300, 5000, 60_000]))
            send(data[begin:end])
            begin = end

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def check(student: Bundle, chunks: Iterator[Chunk], frames: int, seed: int, way: str) -> None:
    _, sound, refused = stream(frames, seed)
    session, numbers = Session(Decoder(student)), set()
    for chunk in chunks:
        list(session.take(chunk))
        if chunk.number is not None:
            numbers.add(chunk.number)
        if len(numbers) == len(sound) and session.health.refused == refused:
            break
    assert numbers == sound, way
    health = session.health
    assert (health.samples, health.refused) == (len(sound), refused)
    assert health.lost == max(sound) - min(sound) + 1 - len(sound)
    assert (health.duplicated, health.late, health.broken) == (0, 0, 0)


def over_tcp(student: Bundle, frames: int, seed: int) -> None:
    here, there = socket.socketpair()
    with here, there:
        thread = sent(stream(frames, seed)[0], there.sendall, seed)
        check(student, network._of_connection(here, student.spec), frames, seed, "tcp")
        thread.join(timeout=20)


def over_serial(student: Bundle, frames: int, seed: int) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    with serial.Serial(os.ttyname(slave), 115200, timeout=0.1) as port:

        def send(data: bytes) -> None:
            while data:
                data = data[os.write(master, data[:4096]) :]

        thread = sent(stream(frames, seed)[0], send, seed)
        check(student, serial_port._read(port, 115200, student.spec), frames, seed, "serial")
        thread.join(timeout=20)
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("over", [over_tcp, over_serial])
def test_two_thousand_frames(student: Bundle, over: Callable[[Bundle, int, int], None]) -> None:
    over(student, 2000, 0)


@pytest.mark.slow
@pytest.mark.parametrize("over", [over_tcp, over_serial])
def test_sixty_thousand_frames(student: Bundle, over: Callable[[Bundle, int, int], None]) -> None:
    over(student, 60_000, 1)
