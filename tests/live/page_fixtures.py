"""A browser and servers for tests of the page; what they need is imported when they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from page_browser import Browser
    from page_server import PageServer, Stage


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    from page_browser import Browser

    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Stage], PageServer]]:
    """Start servers, which are stopped in the end."""
    from page_server import PageServer

    servers: list[PageServer] = []

    def start(stage: Stage) -> PageServer:
        servers.append(PageServer(stage))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A browser that must not have complained at the end, and is as it was."""
    chromium.complaints()
    yield chromium
    complaints = chromium.complaints()
    chromium.driver.get("about:blank")
    chromium.resize(1280, 800)
    chromium.prefer()
    assert complaints == []


@pytest.fixture
def quiet(serve: Callable[[Stage], PageServer], browser: Browser) -> PageServer:
    """A server that says only what it is told to, with the page open."""
    from page_server import Stage

    server = serve(Stage(streams=False))
    browser.open(server.url)
    browser.wait(lambda: browser.text("#name") == "anna")
    return server
