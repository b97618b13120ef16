"""Who may see the page: whoever has the token, by the address that it is served at."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Of every answer."""

_NO_TOKEN = "Open the address that 'myodistill live' printed, with its token.\n"


class Access:
    """Lets through who may see the page, and refuses everybody else before the application.

    Args:
        app: What is guarded.
        host: That is listened on, as the user named it.
        port: That is listened on.
        token: Of the address; a new one by default.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, token: str = "") -> None:
        self.token = token or secrets.token_urlsafe(24)
        self._app, self._port = app, port
        self._any = host in ("0.0.0.0", "::")
        names = {host} | ({"127.0.0.1", "localhost", "::1"} if is_loopback(host) else set())
        self._hosts = {_host_header(name, port) for name in names}
        self._cookie = f"myodistill-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand over."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        guarded = _with_headers(send)
        refusal = self._refusal(scope)
        if scope["type"] == "websocket":
            if refusal or not self._of_page(scope):
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
        elif refusal is None:
            await self._app(scope, receive, guarded)
        elif refusal:
            await _answer(guarded, 403, refusal)
        else:
            cookie = f"{self._cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            headers = [(b"location", b"/"), (b"set-cookie", cookie.encode())]
            await _answer(guarded, 303, "", headers)

    def _refusal(self, scope: Scope) -> str | None:
        """Return why a request is refused; None if it is not, nothing if it brings the token."""
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return "Open the page by the address that 'myodistill live' printed.\n"
        token = _token(scope)
        if scope["type"] == "http" and scope["path"] == "/" and token is not None:
            return "" if self._fits(token) else _NO_TOKEN
        return None if any(map(self._fits, self._cookies(scope))) else _NO_TOKEN

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names us; a name that was bound anew to our address does not."""
        if host.lower() in self._hosts:
            return True
        if not self._any:
            return False
        name, colon, port = host.rpartition(":")
        if not colon or port.endswith("]"):
            name, port = host, "80"
        if port != str(self._port):
            return False
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() == "localhost"
        return True

    def _of_page(self, scope: Scope) -> bool:
        origins = _values(scope, b"origin")
        return origins == [f"http://{_values(scope, b'host')[0].lower()}"]

    def _fits(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def _cookies(self, scope: Scope) -> Iterable[str]:
        for header in _values(scope, b"cookie"):
            try:
                found = SimpleCookie(header).get(self._cookie)
            except CookieError:
                continue
            if found is not None:
                yield found.value


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host_header(name: str, port: int) -> str:
    shown = f"[{name}]" if ":" in name else name.lower()
    return shown if port == 80 else f"{shown}:{port}"


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _token(scope: Scope) -> str | None:
    """Return the token of the address; None if there is none."""
    try:
        query = parse_qsl(scope["query_string"].decode("latin-1"), True, max_num_fields=8)
    except ValueError:  # more fields than any page of ours has
        return ""
    return dict(query).get("token")


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            mine = {name for name, _ in HEADERS}
            others = [pair for pair in message.get("headers", []) if pair[0].lower() not in mine]
            message = {**message, "headers": [*others, *HEADERS]}
        await send(message)

    return guarded


async def _answer(
    send: Send, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    body = text.encode()
    about = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*about, *headers]})
    await send({"type": "http.response.body", "body": body})
