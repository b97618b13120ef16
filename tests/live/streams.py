"""Shared by the tests of live use: a student, and streams with faults."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from decoding import recording

from myodistill.realtime.sources import Chunk

SIGNAL = recording(3, 4, seed=1)


def numbered(signal: np.ndarray, length: int = 20, begin: int = 0) -> list[Chunk]:
    """A stream whose device counts its samples."""
    return [Chunk(signal[i : i + length], number=begin + i) for i in range(0, len(signal), length)]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Run something in a thread meanwhile."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(timeout=20)
    assert not thread.is_alive()


def connected(port: int) -> socket.socket:
    """Connect to a server that is about to listen."""
    end = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
