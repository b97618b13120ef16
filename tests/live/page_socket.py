"""Where a page's WebSocket is, and what a browser brings along."""

from __future__ import annotations

from typing import Any


def page_socket(address: str) -> tuple[str, dict[str, Any]]:
    """From the address of a page with its token to its WebSocket, and how a browser connects."""
    origin, _, token = address.partition("/?token=")
    host = origin.removeprefix("http://")
    cookie = f"myodistill-{host.rpartition(':')[2]}={token}"
    return f"ws://{host}/ws", {
        "additional_headers": {"Cookie": cookie}, "origin": origin, "proxy": None,
    }  # fmt: skip
