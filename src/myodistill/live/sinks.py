"""Where decisions go; a receiver that is slow or absent never holds up the decoder."""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TextIO

from myodistill.errors import SettingsError, shown
from myodistill.live.libraries import library
from myodistill.live.network import host_and_port

Message = dict[str, Any]
"""One decision: seconds, sample, gesture (None if withheld), confidence, abstained."""

_WAITING = 1000  # messages that a slow reader of standard output may be behind


class Sink(Protocol):
    """Takes decisions."""

    @property
    def dropped(self) -> int:
        """Messages that could not be delivered, as far as can be known."""

    def send(self, message: Message) -> None:
        """Deliver a decision, or count it as dropped."""

    def close(self) -> None:
        """Deliver what is left, for two seconds at most."""


def open_sinks(texts: Sequence[str], gestures: Sequence[str], *, wait: bool = False) -> Sink:
    """Open sinks; decisions go to all of them.

    Args:
        texts: Each ``json``, ``udp:HOST:PORT``, ``osc:HOST:PORT``, ``lsl:NAME`` or
            ``keys:FILE.yaml``.
        gestures: That are decided.
        wait: Wait for a slow reader of standard output: nothing is live, so nothing is late.

    Raises:
        SettingsError: One is none of them, or is named twice.
        ToolError: It needs a library that is not installed.
    """
    if len(set(texts)) < len(texts):
        raise SettingsError(f"to: expected each sink once, got {shown(list(texts))}")
    sinks: list[Sink] = []
    try:
        for text in texts:
            sinks.append(_open(text, gestures, wait))
    except BaseException:
        Several(sinks).close()
        raise
    return sinks[0] if len(sinks) == 1 else Several(sinks)


def _open(text: str, gestures: Sequence[str], wait: bool) -> Sink:
    name, _, address = text.partition(":")
    if text == "json":
        return JsonLines(wait=wait)
    if address and name == "udp":
        return Datagrams(address, to_json)
    if address and name == "osc":
        return Datagrams(address, osc_encoder())
    if address and name == "lsl":
        return Markers(address)
    if address and name == "keys":
        from myodistill.live.keys import Keys

        return Keys(Path(address), gestures)
    raise SettingsError(
        f"to: expected json, udp:HOST:PORT, osc:HOST:PORT, lsl:NAME or keys:FILE, got {shown(text)}"
    )


class Several:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    @property
    def dropped(self) -> int:
        """Messages that could not be delivered, over all of them."""
        return sum(one.dropped for one in self._sinks)

    def send(self, message: Message) -> None:
        """Deliver a decision to each."""
        for one in self._sinks:
            one.send(message)

    def close(self) -> None:
        """Close all of them, even where one fails."""
        with ExitStack() as stack:
            for one in self._sinks:
                stack.callback(one.close)


def to_json(message: Message) -> bytes:
    """Encode a message as a line of JSON."""
    return (json.dumps(message, ensure_ascii=False) + "\n").encode()


def osc_encoder() -> Callable[[Message], bytes]:
    """Return what encodes a message as OSC 1.0.

    To ``/myodistill/decision``: seconds (double), sample (int64), gesture (string, empty if
    withheld), confidence (float), abstained (int32).

    Raises:
        ToolError: python-osc is not installed.
    """
    builder = library("pythonosc.osc_message_builder").OscMessageBuilder

    def encode(message: Message) -> bytes:
        osc = builder("/myodistill/decision")
        for kind, value in (
            ("d", message["seconds"]),
            ("h", message["sample"]),
            ("s", message["gesture"] or ""),
            ("f", message["confidence"]),
            ("i", int(message["abstained"])),
        ):
            osc.add_arg(value, kind)
        return bytes(osc.build().dgram)

    return encode


class Markers:
    """A marker stream of Lab Streaming Layer: the gesture of each decision, empty if withheld.

    Args:
        name: Of the stream.

    Raises:
        ToolError: pylsl is not installed.
    """

    def __init__(self, name: str) -> None:
        self.dropped = 0
        pylsl = library("pylsl")
        kind = (name, "Markers", 1, pylsl.IRREGULAR_RATE, "string", f"myodistill {name}")
        self._outlet = pylsl.StreamOutlet(pylsl.StreamInfo(*kind))

    def send(self, message: Message) -> None:
        """Hand a marker to LSL, which keeps it for slow readers."""
        self._outlet.push_sample([message["gesture"] or ""])

    def close(self) -> None:
        """End the stream."""
        del self._outlet


class LineWriter:
    """Lines to a stream of this process, written by a thread of its own.

    Args:
        stream: As ``sys.stdout``.
        wait: Wait for a slow reader.
    """

    def __init__(self, stream: TextIO, *, wait: bool = False) -> None:
        self.dropped = 0
        self._stream, self._wait = stream, wait
        self._queue: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._gone = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Hand a line, its end among it, to the thread."""
        try:
            self._queue.put(line, block=self._wait and not self._gone)
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
            handle: int | None = self._stream.fileno()  # no lock that a slow reader could hold
        except (OSError, ValueError):  # not a file, as in tests
            handle = None
        while (line := self._queue.get()) is not None:
            if self._gone:
                self.dropped += 1
                continue
            try:
                if handle is None:
                    self._stream.write(line.decode())
                while handle is not None and line:
                    line = line[os.write(handle, line) :]
            except OSError:  # the reader has gone
                self._gone = True
                self.dropped += 1


class JsonLines(LineWriter):
    """A line of JSON a decision on standard output.

    Args:
        wait: Wait for a slow reader.
    """

    def __init__(self, *, wait: bool) -> None:
        super().__init__(sys.stdout, wait=wait)

    def send(self, message: Message) -> None:
        """Hand a decision to the thread."""
        self.write(to_json(message))


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
