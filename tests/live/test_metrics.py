"""Metrics and health over HTTP; clients that misbehave disturb nobody."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from decoding import bundle
from streams import SIGNAL, free_port, numbered

from myodistill.errors import SettingsError, ToolError
from myodistill.live import libraries, metrics
from myodistill.live.metrics import MetricsServer, serving
from myodistill.live.session import Session
from myodistill.live.sinks import Several
from myodistill.realtime.decoder import Decoder

parser = pytest.importorskip("prometheus_client.parser")


@pytest.fixture
def session() -> Session:
    session = Session(Decoder(bundle(epochs=1)))
    signal = np.array(SIGNAL)
    signal[:, 2] = 5.0
    chunks = numbered(signal)
    list(session.run([*chunks[:60], *chunks[61:], chunks[-1]]))
    return session


@pytest.fixture
def server(session: Session) -> Iterator[MetricsServer]:
    with serving(str(free_port()), session, Several([])) as server:
        yield server


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{server.server_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_are_those_of_the_session(server: MetricsServer, session: Session) -> None:
    assert server.server_address[0] == "127.0.0.1"
    status, text = get(server, "/metrics")
    assert status == 200
    values = {
        (one.name, one.labels.get("fault", "")): one.value
        for family in parser.text_string_to_metric_families(text)
        for one in family.samples
    }
    assert values["myodistill_samples_total", ""] == 1780
    assert values["myodistill_gaps_total", ""] == 1
    assert values["myodistill_lost_total", ""] == 20
    assert values["myodistill_duplicated_total", ""] == 20
    assert values["myodistill_decisions_total", ""] == session.decisions
    assert values["myodistill_abstained_total", ""] == session.abstained > 0
    assert values["myodistill_bad_channels", "flat"] == 1
    assert values["myodistill_bad_channels", "invalid"] == 0
    assert values["myodistill_sample_age_seconds", ""] >= 0
    assert get(server, "/")[0] == get(server, "/metrics/../x")[0] == 404


def test_health_is_whether_samples_come(server: MetricsServer, session: Session) -> None:
    list(session.take(numbered(SIGNAL[:20], begin=1800)[0]))
    status, text = get(server, "/health")
    assert status == 200
    assert json.loads(text)["status"] == "ok"
    session.health.newest = time.monotonic() - 1.5
    status, text = get(server, "/health")
    assert (status, json.loads(text)["status"]) == (503, "no samples")
    session.health.newest = None
    assert get(server, "/health")[0] == 503


def test_hostile_clients_are_turned_away(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_DEADLINE", 0.5)
    address = ("127.0.0.1", server.server_port)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(12)]
        for one in slow:
            with contextlib.suppress(OSError):
                one.sendall(b"GET /metrics HTTP/1.1\r\nX-")
        end, ended = time.monotonic() + 20, 0
        while ended < len(slow) and time.monotonic() < end:
            ended = 0
            for one in slow:  # a byte now and then
                try:
                    one.sendall(b"a")
                    one.settimeout(0.01)
                    ended += one.recv(1) == b""
                except TimeoutError:
                    pass
                except OSError:
                    ended += 1
        assert ended == len(slow)
    for garbage in (b"\x00\xff" * 5000, b"GET /" + b"a" * 100_000 + b"\r\n\r\n", b"A: b\r\n" * 999):
        with socket.create_connection(address, 20) as one, contextlib.suppress(OSError):
            one.sendall(garbage)
            one.shutdown(socket.SHUT_WR)
            while one.recv(4096):
                pass
    with contextlib.suppress(OSError), socket.create_connection(address, 20) as one:
        one.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")  # and does not read
    assert get(server, "/metrics")[0] == 200


def test_a_port_in_use_and_a_missing_library_are_one_line(
    server: MetricsServer, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = str(server.server_port)
    with (
        pytest.raises(SettingsError, match="in use; choose another port"),
        serving(port, session, Several([])),
    ):
        pass

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(libraries, "import_module", absent)
    with (
        pytest.raises(ToolError, match="prometheus_client: expected it to be installed"),
        serving(port, session, Several([])),
    ):
        pass
