"""Sources and sinks over loopback, with the faults of real connections."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest
from decoding import bundle
from streams import SIGNAL, beside, connected, free_port

from myodistill import live
from myodistill.bundle import Bundle
from myodistill.errors import DataError, SettingsError, ToolError
from myodistill.live import libraries
from myodistill.live.network import host_and_port
from myodistill.live.session import Session
from myodistill.live.sinks import Datagrams, Message, Several, Sink, open_sinks
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.sources import Chunk, open_chunks

live.register_sources()
DECISION: Message = {
    "seconds": 1.25,
    "sample": 1250,
    "gesture": "fist",
    "confidence": 0.5,
    "abstained": False,
}


def open_sink_of(*texts: str) -> Sink:
    return open_sinks(texts, ("a", "b", "c"))


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle(epochs=5)


def csv(signal: np.ndarray) -> bytes:
    return "".join(",".join(map(repr, map(float, row))) + "\n" for row in signal).encode()


def line(begin: int, end: int) -> bytes:
    return json.dumps({"samples": SIGNAL[begin:end].tolist(), "seq": begin}).encode() + b"\n"


def until(session: Session, chunks: Iterator[Chunk], samples: int) -> list[Message]:
    """Decode until so many samples were taken; 20 s at most."""
    messages, end = [], time.monotonic() + 20
    for chunk in chunks:
        messages += list(session.take(chunk))
        if session.health.samples >= samples:
            break
        assert time.monotonic() < end
    return messages


def gestures(student: Bundle, signal: np.ndarray) -> list[float]:
    return [one.confidence for one in Decoder(student).push(signal)]


def test_tcp_client_reads_until_the_other_side_ends(student: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def device() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(csv(SIGNAL[:600]) + b"garbage\n")
                connection.sendall(csv(SIGNAL[601:900]) + b"1,2,3")
                connection.shutdown(socket.SHUT_WR)  # half-closed
                with contextlib.suppress(OSError):
                    connection.recv(1)

        session = Session(Decoder(student))
        with beside(device):
            chunks = open_chunks(f"tcp:127.0.0.1:{server.getsockname()[1]}", student.spec)
            messages = list(session.run(chunks))
    whole = np.array(SIGNAL[:900])
    whole[600] = np.nan
    assert [one["confidence"] for one in messages] == gestures(student, whole)
    health = session.health
    assert (health.samples, health.gaps, health.lost, health.refused) == (899, 1, 1, 2)
    assert health.vanished == 1
    assert "expected an end of line" in health.reason


def test_tcp_listen_takes_one_device_after_another(student: Bundle) -> None:
    port = free_port()
    chunks = open_chunks(f"tcp-listen:{port}", student.spec)
    session = Session(Decoder(student))
    next(chunks)

    def devices() -> None:
        with connected(port) as one:
            one.sendall(line(0, 200) + line(200, 300))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            time.sleep(0.3)  # then it is reset, not closed
        with connected(port) as two:
            two.sendall(line(0, 300))
            time.sleep(0.3)

    with beside(devices):
        messages = until(session, chunks, 600)
    health = session.health
    assert (health.connections, health.vanished, health.restarts, health.gaps) == (2, 1, 1, 1)
    gap = np.full((100, 4), np.nan)
    expected = gestures(student, np.concatenate([SIGNAL[:300], gap, SIGNAL[:300]]))
    assert [one["confidence"] for one in messages] == expected


def test_a_device_that_stalls_is_told_and_makes_way(student: Bundle) -> None:
    port = free_port()
    told: list[str] = []
    session = Session(Decoder(student), tell=told.append)
    chunks = open_chunks(f"tcp-listen:{port}", student.spec)
    next(chunks)
    with contextlib.ExitStack() as open_ones:

        def devices() -> None:
            one = open_ones.enter_context(connected(port))
            one.sendall(csv(SIGNAL[:300]))
            two = open_ones.enter_context(connected(port))
            two.sendall(csv(SIGNAL[:300]))

        with beside(devices):
            messages = until(session, chunks, 600)
    assert session.health.silences == 1
    assert "silent: no samples come" in told
    assert "a device is back" in told
    assert sum(one["abstained"] for one in messages) > 1


def test_udp_counts_what_is_lost_doubled_and_foreign(student: Bundle) -> None:
    port = free_port(socket.SOCK_DGRAM)
    chunks = open_chunks(f"udp:{port}", student.spec)
    session = Session(Decoder(student))
    next(chunks)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for begin in (0, 20, 40, 60, 80, 80, 120, 100, 140, 160):
            device.sendto(line(begin, begin + 20), ("127.0.0.1", port))
        other.sendto(line(0, 20), ("127.0.0.1", port))
        device.sendto(line(200, 220), ("127.0.0.1", port))
        until(session, chunks, 180)
    # 0-100, 120-180 and 200-220 are in order
    health = session.health
    assert (health.samples, health.gaps, health.lost) == (180, 2, 40)
    assert (health.late, health.duplicated, health.refused) == (20, 20, 1)
    assert health.reason == "udp: expected one sender, got two"


def test_a_sender_that_vanishes_ends_the_stream_if_asked(student: Bundle) -> None:
    port = free_port(socket.SOCK_DGRAM)
    told: list[str] = []
    session = Session(Decoder(student), tell=told.append, give_up=0.7)
    chunks = open_chunks(f"udp:{port}", student.spec)
    next(chunks)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.sendto(line(0, 150), ("127.0.0.1", port))
    messages = list(session.run(chunks))
    assert session.health.silences == 1
    assert told[-1] == "silent for too long: the stream ends"
    assert messages[-1]["abstained"]


def test_a_device_that_says_nothing_of_use_is_one_line(student: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def device() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"1,2,3\n" * 50)

        address = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        with (
            beside(device),
            pytest.raises(DataError, match=r"expected 4 channels, got 3 .*none of the first 20"),
        ):
            list(Session(Decoder(student)).run(open_chunks(address, student.spec)))


def test_addresses(student: Bundle) -> None:
    assert host_and_port("7000") == ("127.0.0.1", 7000)
    assert host_and_port("a.b:7") == ("a.b", 7)
    for wrong in ("", "x", "a:", "a:0", "a:65536", "a:-1", "a:999999999"):
        with pytest.raises(SettingsError, match="address: expected HOST:PORT"):
            host_and_port(wrong)
    with pytest.raises(DataError, match=r"tcp: expected .* to answer, got: Connection refused"):
        next(open_chunks(f"tcp:127.0.0.1:{free_port()}", student.spec))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DataError, match=r"Address already in use.*; choose another port"):
            next(open_chunks(f"tcp-listen:{port}", student.spec))


@pytest.mark.parametrize("kind", ["udp", "osc"])
def test_datagram_sinks(kind: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        sink = open_sink_of(f"{kind}:127.0.0.1:{receiver.getsockname()[1]}")
        sink.send(DECISION)
        sink.send({**DECISION, "gesture": None, "abstained": True})
        data, withheld = receiver.recv(2000), receiver.recv(2000)
        sink.close()
    if kind == "udp":
        assert json.loads(data) == DECISION
        assert json.loads(withheld)["gesture"] is None
        return
    assert len(data) % 4 == len(withheld) % 4 == 0
    address, tags, rest = data[:24], data[24:32], data[32:]
    assert address == b"/myodistill/decision\0\0\0\0"
    assert tags == b",dhsfi\0\0"
    assert struct.unpack(">dq8sfi", rest) == (1.25, 1250, b"fist\0\0\0\0", 0.5, 0)
    assert struct.unpack(">dq4sfi", withheld[32:]) == (1.25, 1250, b"\0\0\0\0", 0.5, 1)


def test_an_absent_receiver_is_counted_and_holds_nothing_up() -> None:
    sink = open_sink_of(f"udp:127.0.0.1:{free_port(socket.SOCK_DGRAM)}")
    assert isinstance(sink, Datagrams)
    for _ in range(50):
        sink.send(DECISION)
    sink.close()
    assert sink.dropped > 0  # as far as the system tells


@pytest.mark.parametrize("wrong", ["", "jsn", "udp", "udp:", "udp:x", "tcp:127.0.0.1:7000"])
def test_unknown_sinks_are_one_line(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"expected (json, udp|HOST:PORT)"):
        open_sink_of(wrong)
    with pytest.raises(SettingsError, match="expected each sink once"):
        open_sink_of("json", "json")


def test_several_sinks_all_get_it_and_all_are_closed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        port = receiver.getsockname()[1]
        gone = free_port(socket.SOCK_DGRAM)
        sink = open_sink_of(f"udp:127.0.0.1:{gone}", f"udp:127.0.0.1:{port}", f"osc:{port}")
        for _ in range(20):
            sink.send(DECISION)
        assert json.loads(receiver.recv(2000)) == DECISION
        assert receiver.recv(2000).startswith(b"/myodistill/decision")
        sink.close()
    assert sink.dropped > 0

    class Broken(Datagrams):
        def close(self) -> None:
            super().close()
            raise RuntimeError("broken")

    one, two = Broken(str(gone), lambda message: b""), Datagrams(str(gone), lambda message: b"")
    with pytest.raises(RuntimeError, match="broken"):
        Several([two, one, two]).close()
    assert two._socket.fileno() == -1


def test_lsl_markers() -> None:
    pylsl = pytest.importorskip("pylsl")
    sink = open_sink_of("lsl:myodistill-test")
    (found,) = pylsl.resolve_byprop("name", "myodistill-test", timeout=20)
    assert (found.type(), found.channel_count(), found.nominal_srate()) == ("Markers", 1, 0)
    inlet = pylsl.StreamInlet(found)
    inlet.open_stream(timeout=20)
    for gesture in ("fist", None):
        sink.send({**DECISION, "gesture": gesture})
    assert [inlet.pull_sample(timeout=20)[0] for _ in range(2)] == [["fist"], [""]]
    sink.close()
    inlet.close_stream()


@pytest.mark.parametrize("to", ["osc:7000", "lsl:me"])
def test_a_library_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(libraries, "import_module", absent)
    with pytest.raises(ToolError, match=r"not; pip install 'myodistill\[live\]'"):
        open_sink_of(to)
