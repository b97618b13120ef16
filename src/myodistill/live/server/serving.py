"""Serves the page with uvicorn; clients that are slow, silent or many take nothing from others."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM, signal
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from myodistill.errors import SettingsError, one_line, shown
from myodistill.live.server.access import Access
from myodistill.live.server.app import STATIC, make_app
from myodistill.live.server.requests import LONGEST
from myodistill.live.server.streaming import LiveStream
from myodistill.live.server.watchers import Hub

CONNECTIONS = 32
"""Clients at once, pages and others; more are turned away."""
DEADLINE = 10.0
"""Seconds that a connection has for all of its requests, unless it becomes a WebSocket."""
PING = 10.0
"""Seconds from one ping of a WebSocket to the next, and for its answer."""

_BUFFER = 1 << 16  # bytes under way to a watcher, so that a slow one sees what is new


class _Http(H11Protocol):
    """Ends with its deadline, and where too many are connected."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(DEADLINE, transport.abort)
        if len(self.connections) > CONNECTIONS:
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n")
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._forget_deadline()
        super().handle_websocket_upgrade(event)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _WebSocket(WebSocketsSansIOProtocol):
    """Is broken off where the other side does not read what is left."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        transport.set_write_buffer_limits(high=_BUFFER)
        self.close_timeout = 2.0

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        super().shutdown()
        self._break_off()

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            self._break_off()

    def _break_off(self) -> None:
        self.loop.call_later(self.close_timeout + 0.5, self.transport.abort)


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        SettingsError: The host is not this machine's, or the port is in use.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except (OSError, UnicodeError):
        raise SettingsError(
            f"host: expected an address of this machine, got {shown(host)}"
        ) from None
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(CONNECTIONS)
    except OSError as error:
        listener.close()
        reason = one_line(error.strerror or str(error))
        raise SettingsError(
            f"port: expected {port} of {shown(host)} to be free, got: {reason}; choose another "
            f"with --port, or --port 0 for any that is free"
        ) from None
    return listener


class PageServer:
    """The page of one stream.

    Args:
        stream: What is shown.
        hub: That the stream posts to.
        listener: A socket that listens.
        host: As the user named it.
        static: Folder of the page's files.

    Attributes:
        address: Of the page, with its token.
    """

    def __init__(
        self,
        stream: LiveStream,
        hub: Hub,
        listener: socket.socket,
        host: str = "127.0.0.1",
        static: Path = STATIC,
    ) -> None:
        port = int(listener.getsockname()[1])
        self._listener = listener
        self.access = Access(make_app(stream, hub, static), host, port)
        shown_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
        if ":" in shown_host and not shown_host.startswith("["):
            shown_host = f"[{shown_host}]"
        self.origin = f"http://{shown_host}:{port}"
        self.address = f"{self.origin}/?token={self.access.token}"
        config = uvicorn.Config(
            self.access,
            loop="asyncio",
            http=_Http,
            ws=_WebSocket,
            ws_max_size=2 * LONGEST,  # what is longer than LONGEST alone is refused by ourselves
            ws_ping_interval=PING,
            ws_ping_timeout=PING,
            ws_per_message_deflate=False,
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=2,
            timeout_graceful_shutdown=4,
            h11_max_incomplete_event_size=1 << 14,
        )
        self._server = _Server(config)

    def run(self, begun: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT, SIGTERM or :meth:`stop`.

        Args:
            begun: Is called when the page can be opened.
        """

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop()

        main = threading.current_thread() is threading.main_thread()
        before = [(number, signal(number, stop)) for number in (SIGINT, SIGTERM)] if main else []
        try:
            asyncio.run(self._serve(begun))
        finally:
            for number, handler in before:
                signal(number, handler)
            self._listener.close()

    def stop(self) -> None:
        """End serving, from any thread."""
        self._server.should_exit = True

    async def _serve(self, begun: Callable[[], None]) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.01)
        begun()
        await serving
