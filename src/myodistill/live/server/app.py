"""The application: a page, its files, and the WebSocket that it lives on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from myodistill.errors import DataError
from myodistill.live.server.requests import parse_request
from myodistill.live.server.streaming import LiveStream
from myodistill.live.server.watchers import MOST, Hub, Watcher

STATIC = Path(__file__).parents[1] / "page" / "static"
"""The page's files; ``index.html`` is the page."""

_SIGNALS, _CHANNELS, _COUNTERS = 1 / 30, 1 / 5, 1 / 2  # seconds from one message to the next


def make_app(stream: LiveStream, hub: Hub, static: Path = STATIC) -> Starlette:
    """Return the application, without what guards it.

    Args:
        stream: What is shown.
        hub: That the stream posts to.
        static: Folder of the page's files.
    """

    @asynccontextmanager
    async def beside(app: Starlette) -> AsyncIterator[None]:
        hub.attach(asyncio.get_running_loop())
        tasks = [
            asyncio.create_task(_every(_SIGNALS, lambda: _draw(stream, hub))),
            asyncio.create_task(_every(_CHANNELS, lambda: _measure(stream, hub))),
            asyncio.create_task(_every(_COUNTERS, lambda: _count(stream, hub))),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def page(request: HttpRequest) -> FileResponse:
        return FileResponse(static / "index.html")

    async def watch(socket: WebSocket) -> None:
        await _serve(socket, stream, hub)

    files = StaticFiles(directory=static, check_dir=False)
    routes = [Route("/", page), Mount("/static", files), WebSocketRoute("/ws", watch)]
    return Starlette(routes=routes, lifespan=beside)


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again, without catching up where it was held up."""
    due = time.monotonic()
    while True:
        await work()
        due = max(due + seconds, time.monotonic())
        await asyncio.sleep(max(due - time.monotonic(), 0))


async def _draw(stream: LiveStream, hub: Hub) -> None:
    for message in stream.buckets.drain():
        hub.draw(message)


async def _measure(stream: LiveStream, hub: Hub) -> None:
    if hub.watchers:
        hub.publish(await asyncio.to_thread(stream.channels))


async def _count(stream: LiveStream, hub: Hub) -> None:
    if hub.watchers:
        hub.publish({**stream.counters(), "watchers": len(hub.watchers)})


async def _serve(socket: WebSocket, stream: LiveStream, hub: Hub) -> None:
    """Send to one page and take its requests, until either side ends."""
    if len(hub.watchers) >= MOST:
        await socket.close(1013)
        return
    await socket.accept()
    watcher = hub.join()
    both = [
        asyncio.create_task(_send(socket, watcher)),
        asyncio.create_task(_receive(socket, watcher, stream, hub)),
    ]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.leave(watcher)
        for task in both:
            task.cancel()
        ends = await asyncio.gather(*both, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, WebSocketDisconnect | OSError):
            raise end


async def _send(socket: WebSocket, watcher: Watcher) -> None:
    while True:
        message = await watcher.next()
        if isinstance(message, bytes):
            await socket.send_bytes(message)
        else:
            await socket.send_text(message)


async def _receive(socket: WebSocket, watcher: Watcher, stream: LiveStream, hub: Hub) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        try:
            if (text := message.get("text")) is None:
                raise DataError("message: expected text, got bytes")
            request = parse_request(text)
        except DataError as error:
            await socket.close(1008, str(error).encode()[:120].decode(errors="ignore"))
            return
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def answer(line: str, to: asyncio.Future[str] = answered) -> None:
            hub.call(_set, to, line)

        stream.ask(request, answer)
        if line := await answered:
            watcher.refuse(line)


def _set(future: asyncio.Future[str], line: str) -> None:
    if not future.done():
        future.set_result(line)
