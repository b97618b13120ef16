"""Who is let in, without a server."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from myodistill.live.server.access import Access

TOKEN = "t" * 32
URL = "ws://127.0.0.1:8765/ws"


def _client(listens: str, address: str, port: int = 8765, *, cookie: bool = True) -> TestClient:
    async def page(request: object) -> PlainTextResponse:
        return PlainTextResponse("page", headers={"Referrer-Policy": "unsafe-url"})

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", echo)])
    client = TestClient(Access(app, listens, port, TOKEN), base_url=f"http://{address}")
    if cookie:
        client.headers["Cookie"] = f"other=1; myodistill-{port}={TOKEN}"
    return client


@pytest.mark.parametrize(
    ("listens", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.1:8765", 8765),
        ("127.0.0.1", "LOCALHOST:8765", 8765),
        ("localhost", "[::1]:8765", 8765),
        ("192.168.0.7", "192.168.0.7:8765", 8765),
        ("Lab.example", "lab.example:8765", 8765),
        ("0.0.0.0", "192.168.0.7:8765", 8765),
        ("0.0.0.0", "localhost:8765", 8765),
        ("::", "[fe80::1]:8765", 8765),
        ("0.0.0.0", "192.168.0.7", 80),
        ("127.0.0.1", "127.0.0.1", 80),
    ],
)
def test_hosts_that_are_listened_on(listens: str, address: str, port: int) -> None:
    answer = _client(listens, address, port).get("/")
    assert (answer.status_code, answer.text) == (200, "page")
    assert answer.headers.get_list("referrer-policy") == ["no-referrer"]


@pytest.mark.parametrize(
    ("listens", "address"),
    [
        ("127.0.0.1", "evil.example:8765"),
        ("127.0.0.1", "127.0.0.1:80"),
        ("127.0.0.1", "192.168.0.7:8765"),
        ("192.168.0.7", "localhost:8765"),
        ("0.0.0.0", "evil.example:8765"),
        ("0.0.0.0", "192.168.0.7:8766"),
        ("0.0.0.0", "192.168.0.7.evil.example:8765"),
        ("::", "evil.example:8765"),
    ],
)
def test_others_are_not(listens: str, address: str) -> None:
    client = _client(listens, address)
    assert client.get("/").status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(f"ws://{address}/ws", headers={"Origin": f"http://{address}"}),
    ):
        pass


def test_a_token_is_not_part_of_another() -> None:
    client = _client("127.0.0.1", "127.0.0.1:8765", cookie=False)
    for wrong in ("", TOKEN[:-1], TOKEN + "t", TOKEN.upper(), "é", "\ud800"):
        params = {"token": wrong.encode("utf-8", "surrogatepass")}
        answer = client.get("/", params=params, follow_redirects=False)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert answer.status_code == 303
    assert f"myodistill-8765={TOKEN}" in answer.headers["set-cookie"]


def test_a_socket_is_opened_by_the_page_alone() -> None:
    client = _client("127.0.0.1", "127.0.0.1:8765")
    with client.websocket_connect(URL, headers={"Origin": "http://127.0.0.1:8765"}) as socket:
        assert socket.receive_text() == "hello"
    for origin in ("http://localhost:8765", "https://127.0.0.1:8765", "null", "http://127.0.0.1"):
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(URL, headers={"Origin": origin}),
        ):
            pass
