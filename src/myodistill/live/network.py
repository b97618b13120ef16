"""Sources over the network: TCP as client or server, and UDP; all speak the line protocol."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import DataError, SettingsError, shown
from myodistill.live.lines import LineReader
from myodistill.realtime.sources import Chunk, register_source

TICK = 0.1
"""Seconds after which a source says that nothing came."""

_CONNECT = 5.0
_BYTES = 1 << 16


def host_and_port(text: str, default: str = "127.0.0.1") -> tuple[str, int]:
    """Read ``HOST:PORT`` or ``PORT``.

    Raises:
        SettingsError: It is neither.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise SettingsError(f"address: expected HOST:PORT or a port to 65535, got {shown(text)}")
    return host or default, int(port)


def _tell(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        yield replace(chunk, arrived=time.monotonic())


def _nothing(spec: SignalSpec, *, joined: bool = False, left: bool = False) -> Chunk:
    empty = np.zeros((0, spec.channels), np.float32)
    return Chunk(empty, arrived=time.monotonic(), joined=joined, left=left)


def _refuse_address(source: str, address: str, error: OSError, advice: str) -> DataError:
    reason = error.strerror or str(error)
    return DataError(f"{source}: expected {shown(address)} to answer, got: {reason}; {advice}")


def _of_connection(
    connection: socket.socket, spec: SignalSpec, listener: socket.socket | None = None
) -> Iterator[Chunk]:
    """Yield what a connection gives until it ends, or is silent while another one waits."""
    lines = LineReader(spec.channels)
    yield _nothing(spec, joined=True)
    connection.settimeout(TICK)
    quiet = 0
    while listener is None or quiet < 10 or not _waits(listener):
        try:
            data = connection.recv(_BYTES)
        except TimeoutError:
            quiet += 1
            yield _nothing(spec)
            continue
        except OSError:  # reset by the other side
            data = b""
        if not data:
            break
        quiet = 0
        yield from _tell(lines.feed(data))
    yield from _tell(lines.finish())
    yield _nothing(spec, left=True)


def _waits(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


@register_source("tcp")
def tcp(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Connect to ``HOST:PORT`` and read lines until the other side ends."""
    try:
        connection = socket.create_connection(host_and_port(address), _CONNECT)
    except OSError as error:
        raise _refuse_address("tcp", address, error, "start the device first") from None
    with closing(connection):
        yield from _of_connection(connection, spec)


@register_source("tcp-listen")
def tcp_listen(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Wait on ``PORT`` or ``HOST:PORT`` for a device, and for the next one when it has gone."""
    try:
        listener = socket.create_server(host_and_port(address))
    except OSError as error:
        raise _refuse_address("tcp-listen", address, error, "choose another port") from None
    with closing(listener):
        listener.settimeout(TICK)
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                yield _nothing(spec)
                continue
            with closing(connection):
                yield from _of_connection(connection, spec, listener)


@register_source("udp")
def udp(address: str, spec: SignalSpec) -> Iterator[Chunk]:
    """Read datagrams of whole lines on ``PORT`` or ``HOST:PORT``, from one sender at a time."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(receiver):
        try:
            receiver.bind(host_and_port(address))
        except OSError as error:
            raise _refuse_address("udp", address, error, "choose another port") from None
        receiver.settimeout(TICK)
        sender, last = None, 0.0
        while True:
            try:
                data, origin = receiver.recvfrom(_BYTES)
            except TimeoutError:
                yield _nothing(spec)
                continue
            now = time.monotonic()
            if origin != sender and sender is not None and now - last < 1.0:
                yield replace(_nothing(spec), refused=1, reason="udp: expected one sender, got two")
                continue
            if origin != sender:
                yield _nothing(spec, joined=True)
            sender, last = origin, now
            yield from _tell(LineReader(spec.channels).feed(data.rstrip(b"\n") + b"\n"))
