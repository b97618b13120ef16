"""A page's server on generated streams, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from decoding import recording
from websockets.asyncio.client import ClientConnection, connect

from myodistill.bundle import Bundle
from myodistill.live.server.buckets import decode
from myodistill.live.server.serving import PageServer, listen
from myodistill.live.server.streaming import LiveStream
from myodistill.live.server.tasks import Person
from myodistill.live.server.watchers import Hub
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.sources import Chunk

Message = dict[str, Any]


def endless(signal: np.ndarray, rate: float = 1000.0, speed: float = 1.0) -> Iterator[Chunk]:
    """A device that counts its samples and plays a signal again and again."""
    begin, count, length = time.monotonic(), 0, round(rate / 50)
    while True:
        place = count % (len(signal) // length * length)
        yield Chunk(signal[place : place + length], number=count)
        count += length
        time.sleep(max(begin + count / rate / speed - time.monotonic(), 0))


class Page:
    """A server in a thread.

    Attributes:
        stream: What is shown.
        server: Of the page.
        host: ``127.0.0.1:PORT``.
    """

    def __init__(self, stream: LiveStream, hub: Hub, static: Path) -> None:
        self.stream, self.hub = stream, hub
        self.listener = listen("127.0.0.1", 0)
        self.server = PageServer(stream, hub, self.listener, static=static)
        self.host = self.server.origin.removeprefix("http://")
        self.cookie = ""

    def get(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask for a path; a header that is empty is not sent."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        named = {"Host": self.host, "Cookie": self.cookie} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in named.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body

    def enter(self) -> None:
        """Open the address with its token, and keep the cookie."""
        _, headers, _ = self.get(self.server.address.removeprefix(self.server.origin))
        self.cookie = headers["set-cookie"].partition(";")[0]

    def watch(self, **others: Any) -> connect:
        """Connect as the page does."""
        settings: dict[str, Any] = {
            "additional_headers": {"Cookie": self.cookie},
            "origin": f"http://{self.host}",
            "proxy": None,
        }
        return connect(f"ws://{self.host}/ws", **(settings | others))


@contextlib.contextmanager
def page_of(
    chunks: Iterable[Chunk],
    student: Bundle | None,
    static: Path,
    *,
    adapt: bool = False,
    person: Person | None = None,
    spec: Any = None,
    unit: str = "mV",
    wait: bool = False,
) -> Iterator[Page]:
    """Serve a page meanwhile; where it should ``wait``, the stream begins with ``page.begin()``."""
    static.mkdir(exist_ok=True)
    (static / "index.html").write_text("<!doctype html><title>page</title>")
    (static / "page.js").write_text("'use strict';")
    hub = Hub()
    decoder = None if student is None else Decoder(student, adapt=adapt)
    stream = LiveStream(
        spec or student.spec,  # type: ignore[union-attr]
        unit, decoder, name="student", source="test", post=hub.post, person=person,
    )  # fmt: skip
    page = Page(stream, hub, static)
    ready = threading.Event()
    thread = threading.Thread(target=page.server.run, args=(ready.set,), daemon=True)
    thread.start()
    assert ready.wait(10)
    page.enter()
    if not wait:
        stream.start(chunks)
    try:
        yield page
    finally:
        page.server.stop()
        thread.join(timeout=10)
        stream.stop()
        assert not thread.is_alive()


async def until(
    socket: ClientConnection, kind: str, seconds: float = 5.0, **values: Any
) -> Message:
    """Return the next message of a type, with some values if they are given."""
    async with asyncio.timeout(seconds):
        while True:
            message = await socket.recv()
            if isinstance(message, bytes):
                if kind == "signals":
                    first, spans = decode(message)
                    return {"first": first, "spans": spans}
                continue
            found: Message = json.loads(message)
            if found["type"] == kind and all(found[k] == v for k, v in values.items()):
                return found


async def say(socket: ClientConnection, kind: str, **values: Any) -> None:
    """Send a request."""
    await socket.send(json.dumps({"type": kind, **values}))


def noise(seconds: float = 3.0) -> np.ndarray:
    """Three gestures of a second each."""
    return recording(3, 4, seconds=seconds / 3, seed=5)
