"""Where decisions go; a receiver that is slow or absent never holds up the decoder."""

from __future__ import annotations

import json
import os
import queue
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from myodistill.errors import SettingsError, shown
from myodistill.live.network import host_and_port

Message = dict[str, Any]
"""One decision: seconds, sample, gesture (None if withheld), confidence, abstained."""

_WAITING = 1000  # messages that a slow reader of standard output may be behind


class Sink(Protocol):
    """Takes decisions.

    Attributes:
        dropped: Messages that could not be delivered, as far as can be known.
    """

    dropped: int

    def send(self, message: Message) -> None:
        """Deliver a decision, or count it as dropped."""

    def close(self) -> None:
        """Deliver what is left, for two seconds at most."""


def open_sink(text: str, *, wait: bool = False) -> Sink:
    """Open ``json``, ``udp:HOST:PORT`` or ``osc:HOST:PORT``.

    Args:
        text: Which one.
        wait: Wait for a slow reader of standard output: nothing is live, so nothing is late.

    Raises:
        SettingsError: It is none of them.
    """
    if text == "json":
        return JsonLines(wait=wait)
    name, _, address = text.partition(":")
    encoders = {"udp": to_json, "osc": to_osc}
    if name not in encoders or not address:
        raise SettingsError(f"to: expected json, udp:HOST:PORT or osc:HOST:PORT, got {shown(text)}")
    return Datagrams(address, encoders[name])


def to_json(message: Message) -> bytes:
    """Encode a message as a line of JSON."""
    return (json.dumps(message, ensure_ascii=False) + "\n").encode()


def to_osc(message: Message) -> bytes:
    """Encode a message as OSC 1.0.

    To ``/myodistill/decision``: seconds (double), sample (int64), gesture (string, empty if
    withheld), confidence (float), abstained (int32).
    """
    return b"".join(
        [
            _padded("/myodistill/decision"),
            _padded(",dhsfi"),
            struct.pack(">dq", message["seconds"], message["sample"]),
            _padded(message["gesture"] or ""),
            struct.pack(">fi", message["confidence"], message["abstained"]),
        ]
    )


def _padded(text: str) -> bytes:
    raw = text.encode()
    return raw + b"\0" * (4 - len(raw) % 4)


class JsonLines:
    """A line of JSON a decision on standard output, written by a thread of its own."""

    def __init__(self, *, wait: bool) -> None:
        self.dropped = 0
        self._wait = wait
        self._queue: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._gone = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Hand a decision to the thread."""
        try:
            self._queue.put(to_json(message), block=self._wait and not self._gone)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Wait until all is written, two seconds at most."""
        try:
            self._queue.put(None, timeout=2)
        except queue.Full:
            self.dropped += self._queue.qsize()
            return
        self._thread.join(timeout=2)

    def _run(self) -> None:
        try:
            handle: int | None = sys.stdout.fileno()  # no lock that a slow reader could hold
        except (OSError, ValueError):  # not a file, as in tests
            handle = None
        while (line := self._queue.get()) is not None:
            if self._gone:
                self.dropped += 1
                continue
            try:
                if handle is None:
                    sys.stdout.write(line.decode())
                while handle is not None and line:
                    line = line[os.write(handle, line) :]
            except OSError:  # the reader has gone
                self._gone = True
                self.dropped += 1


class Datagrams:
    """A datagram a decision."""

    def __init__(self, address: str, encode: Callable[[Message], bytes]) -> None:
        self.dropped = 0
        self._encode = encode
        host, port = host_and_port(address)
        try:
            family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except OSError:
            raise SettingsError(f"to: expected a host that is known, got {shown(host)}") from None
        self._socket = socket.socket(family, kind)
        self._socket.connect(target)  # so that the system tells if nobody is there
        self._socket.setblocking(False)

    def send(self, message: Message) -> None:
        """Send a decision; who does not listen has missed it."""
        try:
            self._socket.send(self._encode(message))
        except OSError:
            self.dropped += 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
