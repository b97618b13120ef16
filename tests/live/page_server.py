"""A server that speaks the page's protocol, for tests and pictures of the page.

What it streams is made up (page_signals); the calibration is the real one (myodistill.live.guide),
but for the learning. ``python tests/live/page_server.py [CHANNELS]`` serves it to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from page_signals import BUCKETS, GESTURES, Person, buckets, frame
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import myodistill.live
from myodistill.datasets.recording import SignalSpec, ring
from myodistill.errors import DataError
from myodistill.live.guide import Guide, Timing

STATIC = Path(myodistill.live.__file__).parent / "page" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TICK = 1 / 30


@dataclass
class Stage:
    """What the server shows.

    Attributes:
        person: Who is in front of it.
        streams: Whether signals and decisions come by themselves.
        mode: "decode" or "calibrate".
        timing: Of the guided calibration.
        learning: Seconds that learning takes.
    """

    person: Person = field(default_factory=Person)
    streams: bool = True
    mode: str = "decode"
    timing: Timing = field(default_factory=Timing)
    learning: float = 4.0
    name: str = "anna"
    source: str = "lsl:armband"
    threshold: float = 0.6
    gestures: tuple[str, ...] = GESTURES


class PageServer:
    """Serves the page, and what a stage shows; ``heard`` is what the page asked for."""

    def __init__(self, stage: Stage | None = None) -> None:
        self.stage = stage or Stage()
        self.heard: list[dict[str, Any]] = []
        self.token = secrets.token_urlsafe(16)
        self.adapt = {"available": True, "on": True, "suspended": False}
        self.record: dict[str, Any] = {
            "type": "record",
            "on": False,
            "gesture": None,
            "session": "day3",
            "repetitions": 0,
        }
        self._clients: set[WebSocket] = set()
        self._show: asyncio.Task[None] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.guide = self._new_guide()
        self._learned = 0.0
        self._counts = {"samples": 0, "decisions": 0, "abstained": 0}
        self.start()

    # What a test does

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def start(self) -> None:
        routes = [
            Route("/", self._page),
            Route("/static/{path:path}", self._static),
            WebSocketRoute("/ws", self._socket),
        ]
        app = Starlette(routes=routes, lifespan=self._lifespan)
        config = uvicorn.Config(
            app,
            port=self.port,
            log_level="error",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def say(self, message: dict[str, Any] | str | bytes) -> None:
        """Send to every page: a message, or text and bytes as they are."""
        asyncio.run_coroutine_threadsafe(self._say(message), self._loop).result(5)

    def drop(self) -> None:
        """Close every connection."""

        async def close() -> None:
            for client in list(self._clients):
                await client.close(1011)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(5)

    def hello(self, **changes: Any) -> dict[str, Any]:
        stage, person = self.stage, self.stage.person
        layout: dict[str, Any] = {"kind": "ring"}
        if person.grid:
            layout = {"kind": "grid", "rows": person.grid[0], "columns": person.grid[1]}
        return {
            "type": "hello",
            "version": 1,
            "mode": stage.mode,
            "name": stage.name,
            "source": stage.source,
            "gestures": list(stage.gestures),
            "channels": person.channels,
            "rate": person.rate,
            "unit": "µV",
            "step_seconds": 0.05,
            "layout": layout,
            "adapt": self.adapt,
            "threshold": stage.threshold,
            "record": True,
            "guide": True,
        } | changes

    # The web

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        task = asyncio.create_task(self._stream()) if self.stage.streams else None
        yield
        if task:
            task.cancel()

    async def _page(self, request: Request) -> Response:
        if request.query_params.get("token") == self.token:
            answer: Response = RedirectResponse("/", 303)
            answer.set_cookie("token", self.token, httponly=True, samesite="strict")
            return answer
        return self._file(request, STATIC / "index.html")

    async def _static(self, request: Request) -> Response:
        return self._file(request, STATIC / request.path_params["path"])

    def _file(self, request: Request, path: Path) -> Response:
        if request.cookies.get("token") != self.token:
            return PlainTextResponse("no token", 403)
        if not path.is_file():
            return PlainTextResponse("not found", 404)
        return FileResponse(
            path, headers={"Content-Security-Policy": CSP, "Cache-Control": "no-store"}
        )

    async def _socket(self, client: WebSocket) -> None:
        await client.accept()
        await client.send_json(self.hello())
        await client.send_json(self.record)
        self._clients.add(client)
        try:
            while True:
                await self._request(client, json.loads(await client.receive_text()))
        except WebSocketDisconnect:
            pass
        finally:
            self._clients.discard(client)

    async def _request(self, client: WebSocket, request: dict[str, Any]) -> None:
        self.heard.append(request)
        kind = request["type"]
        if kind == "threshold":
            self.stage.threshold = request["value"]
            await self._say(self.hello())
        elif kind == "adapt":
            self.adapt = {**self.adapt, "on": request["on"]}
            await self._say(self.hello())
        elif kind == "adapt-reset":
            await self._say({"type": "event", "line": "adaptation begins anew"})
        elif kind == "record":
            more = self.record["repetitions"] + (not request["on"])
            self.record |= {
                "on": request["on"],
                "gesture": request.get("gesture"),
                "repetitions": more,
            }
            await self._say(self.record)
        elif kind == "guide":
            await self._guided(client, request)

    async def _guided(self, client: WebSocket, request: dict[str, Any]) -> None:
        try:
            self.guide.request(request, self._now())
        except DataError as error:
            await client.send_json({"type": "refused", "line": str(error)})
        if self.guide.phase == "learning":
            self._learned = self._now() + self.stage.learning
        await self._tell_guide()

    # What is streamed

    def _new_guide(self) -> Guide:
        spec = SignalSpec(
            ring(self.stage.person.channels), 151, self.stage.person.rate, self.stage.gestures
        )
        return Guide(spec, "µV", subject="anna", session="day1", timing=self.stage.timing)

    def _now(self) -> float:
        return time.monotonic()

    async def _say(self, message: dict[str, Any] | str | bytes) -> None:
        for client in list(self._clients):
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                if isinstance(message, bytes):
                    await client.send_bytes(message)
                elif isinstance(message, str):
                    await client.send_text(message)
                else:
                    await client.send_json(message)

    async def _stream(self) -> None:
        person = self.stage.person
        per_bucket = round(person.rate / BUCKETS)
        begun, made, ticks = self._now(), 0, 0
        while True:
            await asyncio.sleep(TICK)
            wanted = int((self._now() - begun) * BUCKETS)
            if wanted <= made:
                continue
            self._perform()
            samples = person.samples((wanted - made) * per_bucket)
            await self._say(frame(made, buckets(samples, per_bucket)))
            self._counts["samples"] += len(samples)
            made, ticks = wanted, ticks + 1
            self.guide.take(samples, self._now())
            if self.stage.mode == "decode":
                await self._decide()
            if ticks % 6 == 0:
                rms = np.sqrt((samples.astype(float) ** 2).mean(axis=0))
                values = [None if np.isnan(value) else float(value) for value in rms]
                await self._say({"type": "channels", "rms": values, "quality": person.quality()})
                await self._tell_guide()
            if ticks % 15 == 0:
                await self._say(self.counters())

    def _perform(self) -> None:
        """Let the person do what the guide asks for."""
        state = self.guide.state(self._now())
        if self.guide.phase in ("ready", "perform", "rest"):
            asked = state["gesture"] if self.guide.phase == "perform" else "rest"
            self.stage.person.gesture = GESTURES.index(asked)
        elif self.guide.phase == "learning" and self._now() >= self._learned:
            self.guide.done("Expect about 94 % of decisions to be right (87 to 97 %).")
            self.stage.mode = "decode"
            self._learned = float("inf")
            asyncio.get_running_loop().create_task(self._say(self.hello()))
        else:
            self.stage.person.gesture = None

    async def _tell_guide(self) -> None:
        await self._say({"type": "guide", **self.guide.state(self._now())})

    async def _decide(self) -> None:
        decision = self.stage.person.decision()
        if decision["confidence"] < self.stage.threshold:
            decision |= {"gesture": None, "label": -1}
        self._counts["decisions"] += 1
        await self._say(decision)

    def counters(self, **changes: Any) -> dict[str, Any]:
        random = np.random.default_rng(self._counts["decisions"])
        median, late = 2.4 + 0.2 * random.normal(), 5.2 + 0.9 * random.gamma(2)
        return {
            "type": "counters",
            **self._counts,
            "gaps": 0,
            "lost": 0,
            "duplicated": 0,
            "late": 0,
            "broken": 0,
            "refused": 0,
            "silences": 0,
            "rate": self.stage.person.rate + random.normal(0, 0.05),
            "delay_ms": {"median": median, "p99": late},
            "watchers": len(self._clients),
            "skipped": 0,
            "state": "streaming",
            "adapt": self.adapt,
        } | changes


def decision(label: int = 1, share: float = 0.9, /, **changes: Any) -> dict[str, Any]:
    """Return a decision on the gesture of a label, with its probability."""
    rest = (1 - share) / (len(GESTURES) - 1)
    return {
        "type": "decision",
        "seconds": 1.0,
        "sample": 1000,
        "gesture": GESTURES[label],
        "label": label,
        "confidence": share,
        "probabilities": [share if index == label else rest for index in range(len(GESTURES))],
        "abstained": False,
        "delay_ms": 3.0,
    } | changes


def main() -> None:
    channels = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    grid = (16, channels // 16) if channels > 16 else None
    server = PageServer(Stage(Person(channels, grid=grid)))
    print(server.url)
    threading.Event().wait()


if __name__ == "__main__":
    main()
