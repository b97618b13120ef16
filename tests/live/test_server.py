"""The page's server: who is let in, and what comes to a page over a real connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding import RATE, adaptable, bundle
from pages import Page, endless, noise, page_of, say, until
from streams import numbered
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from myodistill.bundle import Bundle
from myodistill.errors import SettingsError
from myodistill.live.running import paced
from myodistill.live.server import serving
from myodistill.live.server.serving import listen
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.sources import Chunk


@pytest.fixture(scope="module")
def student() -> Bundle:
    return adaptable(bundle(epochs=20))


@pytest.fixture(scope="module")
def page(student: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page_of(endless(noise()), student, tmp_path_factory.mktemp("page")) as page:
        yield page


def _token(page: Page) -> str:
    return page.server.address.partition("token=")[2]


def test_the_token_becomes_a_cookie_once(page: Page) -> None:
    assert page.server.address == f"http://{page.host}/?token={_token(page)}"
    status, headers, _ = page.get(f"/?token={_token(page)}", Cookie="")
    assert (status, headers["location"]) == (303, "/")
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert len(_token(page)) >= 32
    status, headers, body = page.get("/", Cookie=cookie)
    assert (status, b"<title>page" in body) == (200, True)
    assert page.get("/static/page.js", Cookie=cookie)[0] == 200


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"Cookie": ""}),
        ("/static/page.js", {"Cookie": ""}),
        ("/ws", {"Cookie": ""}),
        ("/", {"Cookie": "myodistill=x"}),
        ("/", {"Cookie": "\xff=;;;"}),
        ("/?token=", {"Cookie": ""}),
        ("/?token=wrong", {}),
        ("/?token=%ff%00&token=x", {}),
        ("/?" + "&".join("a=b" for _ in range(20)), {"Cookie": ""}),
        ("/static/page.js?token=TOKEN", {"Cookie": ""}),
        ("/", {"Host": "evil.example"}),
        ("/", {"Host": "127.0.0.1"}),
        ("/", {"Host": "evil.example:PORT"}),
        ("/", {"Host": "127.0.0.1.evil.example:PORT"}),
        ("/", {"Host": ""}),
        ("/?token=TOKEN", {"Host": "evil.example:PORT", "Cookie": ""}),
    ],
)
def test_others_are_refused(page: Page, path: str, headers: dict[str, str]) -> None:
    port = page.host.partition(":")[2]
    named = {name: value.replace("PORT", port) for name, value in headers.items()}
    status, answered, body = page.get(path.replace("TOKEN", _token(page)), **named)
    assert status in (400, 403)
    assert "set-cookie" not in answered
    assert b"<title>" not in body


def test_localhost_is_the_same_machine(page: Page) -> None:
    port = page.host.partition(":")[2]
    assert page.get("/", Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/nothing", "/static/../../x", "/ws"])
@pytest.mark.parametrize("cookie", [True, False])
def test_every_answer_has_the_headers(page: Page, path: str, cookie: bool) -> None:
    status, headers, _ = page.get(path, Cookie=page.cookie if cookie else "")
    assert status in ((200, 403, 404) if cookie else (403,))
    policy = dict(part.strip().split(" ", 1) for part in
                  headers["content-security-policy"].split(";"))  # fmt: skip
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
        "img-src": "'self' data:", "connect-src": "'self'", "base-uri": "'none'",
        "form-action": "'none'", "frame-ancestors": "'none'",
    }  # fmt: skip
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../serving.py",
        "/static/%2e%2e/index.html",
        "/static//etc/passwd",
        "/static/..%2f..%2fserving.py",
    ],
)
def test_files_beside_the_page_are_not_served(page: Page, path: str) -> None:
    assert page.get(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_is_changed_over_http(page: Page, method: str) -> None:
    assert page.get("/", method=method)[0] == 405


@pytest.mark.parametrize(
    "changes",
    [
        {"additional_headers": {}},
        {"additional_headers": {"Cookie": "myodistill-1=x"}},
        {"origin": None},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://HOST"},
        {"additional_headers": {"Cookie": "COOKIE", "Host": "evil.example"}},
    ],
)
def test_a_socket_needs_cookie_origin_and_host(page: Page, changes: dict[str, Any]) -> None:
    changes = json.loads(
        json.dumps(changes).replace("HOST", page.host).replace("COOKIE", page.cookie)
    )

    async def attempt() -> None:
        async with page.watch(**changes) as one:
            await one.recv()

    with pytest.raises(InvalidStatus) as refusal:
        asyncio.run(attempt())
    assert refusal.value.response.status_code in (400, 403)


def test_a_page_is_told_everything(page: Page, student: Bundle) -> None:
    async def look() -> None:
        async with page.watch() as one:
            first = json.loads(await one.recv())
            assert first["type"] == "hello"
            assert (first["version"], first["mode"], first["gestures"]) == (
                1,
                "decode",
                list("abc"),
            )
            assert (first["channels"], first["rate"], first["unit"]) == (4, RATE, "mV")
            assert first["step_seconds"] == student.step / RATE
            assert first["layout"] == {"kind": "ring"}
            assert first["adapt"] == {"available": True, "on": False, "suspended": False}
            assert (first["record"], first["guide"], first["threshold"]) == (False, False, 0.0)
            decision = await until(one, "decision", abstained=False)
            assert decision["gesture"] == first["gestures"][decision["label"]]
            assert sum(decision["probabilities"]) == pytest.approx(1, abs=1e-3)
            assert max(decision["probabilities"]) == pytest.approx(decision["confidence"], abs=1e-4)
            assert decision["seconds"] == decision["sample"] / RATE
            assert 0 <= decision["delay_ms"] < 1000
            channels = await until(one, "channels")
            assert channels["quality"] == ["good"] * 4
            assert min(channels["rms"]) > 10
            counters = await until(one, "counters")
            assert counters["state"] == "streaming"
            assert counters["watchers"] == 1
            assert counters["skipped"] == 0
            assert counters["decisions"] > 0
            assert counters["delay_ms"]["p99"] >= counters["delay_ms"]["median"] >= 0
            signals = await until(one, "signals")
            assert signals["spans"].shape[1:] == (4, 2)
            assert (signals["spans"][..., 0] <= signals["spans"][..., 1]).all()
            later = await until(one, "signals")
            assert later["first"] == signals["first"] + len(signals["spans"])

    asyncio.run(look())


def test_decisions_and_signals_are_those_of_the_samples(student: Bundle, tmp_path: Path) -> None:
    signal = noise()
    chunks = numbered(signal)
    del chunks[40]
    whole = np.array(signal)
    whole[800:820] = np.nan

    async def collect(page: Page) -> tuple[list[Any], dict[int, np.ndarray]]:
        decisions, buckets = [], {}
        async with page.watch() as one:
            await until(one, "hello")
            page.stream.start(paced(chunks, RATE, 2.0))
            while True:
                message = await asyncio.wait_for(one.recv(), 5)
                if isinstance(message, bytes):
                    first, count, channels = struct.unpack_from("<IHH", message, 4)
                    values = np.frombuffer(message, "<f4", offset=12)
                    for place, span in enumerate(values.reshape(count, channels, 2)):
                        buckets[first + place] = span
                    continue
                found = json.loads(message)
                if found["type"] == "decision":
                    decisions.append((found["sample"], found["label"], found["confidence"]))
                if found["type"] == "counters" and found["state"] == "ended":
                    return decisions, buckets

    with page_of(chunks, student, tmp_path, wait=True) as page:
        decisions, buckets = asyncio.run(collect(page))
    expected = Decoder(student).push(whole)
    assert decisions == [(one.sample, one.gesture, one.confidence) for one in expected]
    assert len(buckets) > 100  # a busy machine may leave some out
    for number, span in buckets.items():
        part = whole[8 * number : 8 * number + 8]
        sound = part[np.isfinite(part).all(axis=1)]
        least = sound.min(axis=0) if len(sound) else np.full(4, np.nan)
        greatest = sound.max(axis=0) if len(sound) else np.full(4, np.nan)
        np.testing.assert_array_equal(span, np.stack([least, greatest], axis=1))


def test_threshold_and_adapting_change_while_decoding(student: Bundle, tmp_path: Path) -> None:
    async def turn(one: ClientConnection) -> None:
        await say(one, "threshold", value=1)
        assert (await until(one, "hello", threshold=1.0))["threshold"] == 1.0
        await until(one, "decision", label=-1, gesture=None, abstained=False)
        await say(one, "threshold", value=0)
        await until(one, "hello", threshold=0.0)
        decision = await until(one, "decision", abstained=False)
        while decision["label"] == -1:
            decision = await until(one, "decision", abstained=False)
        await say(one, "adapt-reset")
        assert "expected adapting to be on" in (await until(one, "refused"))["line"]
        await say(one, "adapt", on=True)
        on = {"available": True, "on": True, "suspended": False}
        await until(one, "hello", adapt=on)
        await say(one, "adapt-reset")
        await say(one, "adapt", on=False)
        await until(one, "hello", adapt=on | {"on": False})
        for kind, values in (
            ("record", {"on": True, "gesture": "a"}),
            ("guide", {"action": "start"}),
        ):
            await say(one, kind, **values)
            assert "start with" in (await until(one, "refused"))["line"]

    async def look(page: Page) -> None:
        async with page.watch() as one:
            await turn(one)

    with page_of(endless(noise()), student, tmp_path) as page:
        asyncio.run(look(page))


@pytest.mark.parametrize(
    "frame",
    [
        "", "[]", "1", "nonsense", '{"type": "sing"}', '{"type": ["adapt"]}', b"\x00\x01",
        '{"type": "threshold"}', '{"type": "threshold", "value": 2}',
        '{"type": "threshold", "value": NaN}', '{"type": "threshold", "value": true}',
        '{"type": "adapt", "on": 1}', '{"type": "adapt", "on": true, "more": 1}',
        '{"type": "record", "on": true}', '{"type": "record", "on": false, "gesture": "a"}',
        '{"type": "guide", "action": "dance"}',
        '{"type": "guide", "action": "start", "repetitions": 21}',
        '{"type": "guide", "action": "redo", "step": -1}',
        json.dumps({"type": "record", "on": True, "gesture": "x" * 4096}),
        "[" * 4000, "9" * 4000,
    ],
)  # fmt: skip
def test_anything_else_closes_the_connection(page: Page, frame: str | bytes) -> None:
    async def send() -> int | None:
        async with page.watch() as one:
            await until(one, "hello")
            await one.send(frame)
            with pytest.raises(ConnectionClosed):
                await until(one, "nothing")
            return one.close_code

    assert asyncio.run(send()) == 1008


def test_a_huge_message_is_not_even_read(page: Page) -> None:
    async def send() -> int | None:
        async with page.watch() as one:
            await one.send("x" * (1 << 20))
            with pytest.raises(ConnectionClosed):
                await until(one, "nothing")
            return one.close_code

    assert asyncio.run(send()) in (1008, 1009)


def _nobody_watches(page: Page) -> None:
    end = time.monotonic() + 5
    while page.hub.watchers and time.monotonic() < end:
        time.sleep(0.02)
    assert not page.hub.watchers


def _decisions_while(page: Page, work: Any) -> list[float]:
    """Return the delays of decisions that come to a page while something is done."""

    async def look() -> list[float]:
        delays = []
        async with page.watch() as one:
            await until(one, "hello")
            async with asyncio.timeout(10):
                task = asyncio.create_task(work(page))
                while not task.done():
                    delays.append((await until(one, "decision"))["delay_ms"])
                await task
        return delays

    return asyncio.run(look())


def _handshake(page: Page, receive: int = 1 << 16) -> socket.socket:
    """Open a WebSocket by hand."""
    host, port = page.host.split(":")
    mute = socket.socket()
    mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    mute.connect((host, int(port)))
    mute.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {page.host}\r\nOrigin: http://{page.host}\r\n"
        f"Cookie: {page.cookie}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return mute


def test_a_client_that_never_reads_holds_up_nobody(page: Page) -> None:
    async def mutes(page: Page) -> None:
        every = [_handshake(page, 2048) for _ in range(3)]
        await asyncio.sleep(0.2)
        assert len(page.hub.watchers) == 4
        for _ in range(300):  # as much as minutes of a real stream
            page.hub.call(page.hub.draw, bytes(1 << 16))
            await asyncio.sleep(0.003)
        waiting = [one for one in page.hub.watchers if one.skipped > 200]
        assert len(waiting) == 3
        assert all(len(one._signals) <= 4 for one in waiting)
        for one in every:
            one.close()

    delays = _decisions_while(page, mutes)
    assert len(delays) >= 20
    _nobody_watches(page)


def test_damaged_frames_hold_up_nobody(page: Page) -> None:
    """Frames of any kind, cut, unmasked, too long, or of a reserved opcode."""

    def send(rng: np.random.Generator) -> None:
        one = _handshake(page)
        one.settimeout(5)
        for _ in range(rng.integers(1, 4)):
            body = rng.bytes(int(rng.integers(0, 200)))
            length = int(rng.choice(np.array([len(body), 125, 126, 127, 5])))
            mask = int(rng.choice([0, 0x80, 0x80]))
            head = bytes([int(rng.integers(256)), mask | min(length, 127)])
            with contextlib.suppress(OSError):
                one.sendall(head + rng.bytes(int(rng.integers(0, 12))) + body)
        one.close()

    async def many(page: Page) -> None:
        rng = np.random.default_rng(0)
        for _ in range(8):
            for _ in range(10):
                await asyncio.to_thread(send, rng)
            await asyncio.sleep(0.05)

    assert len(_decisions_while(page, many)) >= 5
    _nobody_watches(page)
    assert page.get("/")[0] == 200


def test_twenty_watchers_see_the_same(page: Page) -> None:
    async def look() -> list[list[int]]:
        async def one_of_them() -> list[int]:
            async with page.watch() as one:
                return [(await until(one, "decision"))["sample"] for _ in range(25)]

        return await asyncio.gather(*(one_of_them() for _ in range(20)))

    samples = asyncio.run(look())
    for one in samples:
        assert one == list(range(one[0], one[0] + 25 * 25, 25))
    newest = max(one[0] for one in samples)
    assert all(newest in one for one in samples)


def test_more_watchers_than_can_be_are_turned_away(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("myodistill.live.server.app.MOST", 2)
    _nobody_watches(page)

    async def look() -> int:
        async with page.watch() as one, page.watch() as two:
            await until(one, "hello")
            await until(two, "hello")
            with pytest.raises(InvalidStatus) as refusal:
                async with page.watch():
                    pass
            return refusal.value.response.status_code

    assert asyncio.run(look()) == 403


def test_slow_and_many_connections(
    student: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "DEADLINE", 0.6)
    monkeypatch.setattr(serving, "CONNECTIONS", 4)
    with page_of(endless(noise()), student, tmp_path) as page:
        host, port = page.host.split(":")
        slow = [socket.create_connection((host, int(port)), 5) for _ in range(4)]
        begin = time.monotonic()
        for one in slow:
            one.sendall(b"GET / HTTP/1.1\r\nHost: ")
        time.sleep(0.1)
        with socket.create_connection((host, int(port)), 5) as more:
            assert more.recv(100).startswith(b"HTTP/1.1 503")
        for one in slow:
            one.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(100) == b""
            one.close()
        assert 0.4 < time.monotonic() - begin < 3
        assert page.get("/")[0] == 200
        with socket.create_connection((host, int(port)), 5) as garbage:
            garbage.sendall(bytes(range(256)) * 300)
            garbage.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert b"400" in garbage.recv(100)
        assert page.get("/")[0] == 200


def test_a_source_that_fails_and_one_that_ends(student: Bundle, tmp_path: Path) -> None:
    def failing() -> Iterator[Chunk]:
        yield from numbered(noise())[:20]
        yield Chunk(np.zeros((5, 3), np.float32))

    async def ends(page: Page) -> str:
        async with page.watch() as one:
            await until(one, "hello")
            page.stream.start(failing())
            line = (await until(one, "event"))["line"]
            await until(one, "counters", state="ended")
            await say(one, "threshold", value=0.5)  # requests are still taken
            await until(one, "hello", threshold=0.5)
            return str(line)

    with page_of([], student, tmp_path, wait=True) as page:
        assert "4 channels" in asyncio.run(ends(page))
        assert page.stream.error


def test_silence_is_told(student: Bundle, tmp_path: Path) -> None:
    def quiet() -> Iterator[Chunk]:
        yield from numbered(noise())[:10]
        while True:
            time.sleep(0.05)
            yield Chunk(np.zeros((0, 4), np.float32), arrived=time.monotonic())

    async def look(page: Page) -> None:
        async with page.watch() as one:
            decision = await until(one, "decision", abstained=True)
            assert (decision["label"], decision["probabilities"]) == (-1, None)
            await until(one, "counters", state="silent")
            assert (await until(one, "channels"))["quality"] == ["missing"] * 4

    with page_of(quiet(), student, tmp_path) as page:
        asyncio.run(look(page))


def test_a_port_that_is_in_use_is_said() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"expected {port} of '127.0.0.1' to be free"):
            listen("127.0.0.1", port)
    with pytest.raises(SettingsError, match="expected an address of this machine"):
        listen("no such host", 0)
