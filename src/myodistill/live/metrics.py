"""Metrics of a stream for Prometheus, and an address that says whether samples come."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from myodistill.errors import SettingsError, shown
from myodistill.live.libraries import library
from myodistill.live.network import host_and_port
from myodistill.live.session import Session
from myodistill.live.sinks import Sink

FRESH = 1.0
"""Seconds for which samples count as coming."""

_CLIENTS = 4  # served at once; others are turned away
_DEADLINE = 3.0  # seconds for a whole request
_COUNTERS = {
    "samples": "Sound in time and place",
    "gaps": "Times at which samples were missing",
    "lost": "Samples missing in gaps",
    "duplicated": "Samples that came again",
    "late": "Samples that came after later ones",
    "broken": "Samples with a value that is not finite",
    "refused": "Messages that could not be read",
    "silences": "Times at which nothing came although a device was there",
    "connections": "Devices that connected",
    "vanished": "Devices that went",
    "restarts": "Times at which a device began to count anew",
    "bursts": "Times at which samples were held up and came together",
}


class StreamCollector:
    """Reads a session when Prometheus asks; the decoder does nothing for it.

    Args:
        session: Which.
        sink: Where its decisions go.
    """

    def __init__(self, session: Session, sink: Sink) -> None:
        self._session, self._sink = session, sink
        self._core = library("prometheus_client.core")

    def collect(self) -> Iterator[Any]:
        """Yield the metrics as they are now."""
        session, health = self._session, self._session.health
        counted = {name: (getattr(health, name), text) for name, text in _COUNTERS.items()}
        counted["decisions"] = (session.decisions, "Windows decided or abstained from")
        counted["abstained"] = (session.abstained, "Windows abstained from")
        counted["undelivered"] = (self._sink.dropped, "Decisions that did not reach a sink")
        for name, (value, text) in counted.items():
            yield self._core.CounterMetricFamily(f"myodistill_{name}", text, value=value)
        measured = {
            "sampling_rate_hertz": (session.measured_rate, "As it was measured"),
            "decision_delay_seconds": (session.delay, "From arrival to the newest decision"),
            "burst_delay_seconds": (health.delay, "Longest that samples were held up"),
            "sample_age_seconds": (_age(session), "Since samples came last"),
        }
        for name, (number, text) in measured.items():
            if number is not None:
                yield self._core.GaugeMetricFamily(f"myodistill_{name}", text, value=number)
        channels = self._core.GaugeMetricFamily(
            "myodistill_bad_channels", "In the newest second", labels=["fault"]
        )
        quality = health.quality
        for fault in ("flat", "saturated", "invalid") if quality is not None else ():
            channels.add_metric([fault], int(getattr(quality, fault).sum()))
        yield channels


def _age(session: Session) -> float | None:
    newest = session.health.newest
    return None if newest is None else time.monotonic() - newest


def state_of(session: Session) -> tuple[bool, dict[str, Any]]:
    """Return whether samples came within the last second, and what ``/health`` says."""
    age, health = _age(session), session.health
    well = age is not None and age <= FRESH
    return well, {
        "status": "ok" if well else "no samples",
        "seconds_since_samples": None if age is None else round(age, 3),
        "samples": health.samples,
        "decisions": session.decisions,
        "lost": health.lost,
        "sampling_rate": session.measured_rate,
    }


class MetricsServer(ThreadingHTTPServer):
    """Serves ``/metrics`` and ``/health``, to four clients at once and three seconds each.

    Args:
        address: ``HOST:PORT``, or a port of 127.0.0.1.
        session: What is told about.
        sink: Where its decisions go.

    Raises:
        SettingsError: The address is none, or is in use.
        ToolError: prometheus-client is not installed.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: str, session: Session, sink: Sink) -> None:
        client = library("prometheus_client")
        registry = client.CollectorRegistry()
        registry.register(StreamCollector(session, sink))
        self._slots = threading.BoundedSemaphore(_CLIENTS)
        self.pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": lambda: (200, client.CONTENT_TYPE_LATEST, client.generate_latest(registry)),
            "/health": lambda: _health(session),
        }
        try:
            super().__init__(host_and_port(address), _Request)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SettingsError(
                f"metrics: expected {shown(address)} to be free, got: {reason}; choose another port"
            ) from None

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread, or turn it away where too many are there."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one client, and cut it off at its deadline."""
        timer = threading.Timer(_DEADLINE, _cut_off, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._slots.release()

    def server_bind(self) -> None:
        """Bind without asking a name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over clients that break off."""


@contextmanager
def serving(address: str, session: Session, sink: Sink) -> Iterator[MetricsServer]:
    """Serve in a thread of its own meanwhile; the sink is closed if that is impossible."""
    try:
        server = MetricsServer(address, session, sink)
    except BaseException:
        sink.close()
        raise
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _cut_off(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has gone already
        return


def _health(session: Session) -> tuple[int, str, bytes]:
    well, body = state_of(session)
    return 200 if well else 503, "application/json", json.dumps(body).encode() + b"\n"


class _Request(BaseHTTPRequestHandler):
    timeout = _DEADLINE
    server: MetricsServer

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        status, kind, body = page() if page else (404, "text/plain", b"/metrics or /health\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the log is the stream's."""

    def version_string(self) -> str:
        return "myodistill"
