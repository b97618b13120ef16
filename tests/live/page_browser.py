"""Chromium without a screen, looking at the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMEDRIVER = "/usr/bin/chromedriver"


class Browser:
    """A browser with what the tests and the pictures of the page need.

    Args:
        width: Of the page, in pixels.
        height: Of the page, in pixels.
        scale: Pixels of the screen to one of the page.
    """

    def __init__(self, width: int = 1280, height: int = 800, scale: int = 1) -> None:
        options = webdriver.ChromeOptions()
        for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--lang=en"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=_service())
        self.resize(width, height, scale)

    def close(self) -> None:
        self.driver.quit()

    def resize(self, width: int, height: int, scale: int = 1) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, **features: str) -> None:
        """Prefer what the media features say, such as ``prefers_color_scheme="dark"``."""
        wanted = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})

    def open(self, url: str, view: str = "live") -> None:
        self.driver.get(url)
        self.run(f"location.hash = '{view}'")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def load(self, module: str, script: str) -> Any:
        """Return what a script returns that uses a module of the page as ``it``."""
        return self.driver.execute_async_script(
            f"const done = arguments[0]; import('/static/{module}')"
            f".then((it) => {{ {script} }}).then(done, (error) => done(String(error)))"
        )

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def wait(self, true: Callable[[], object], seconds: float = 8) -> None:
        """Wait until something is true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not after {seconds} s"
            time.sleep(0.02)

    def choose(self, selector: str, value: str) -> None:
        """Set a select or a slider as a person does."""
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind))",
            selector,
            value,
        )

    def complaints(self) -> list[str]:
        """Return what the browser's console says since the last time."""
        entries: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]


def _service() -> webdriver.ChromeService:
    return webdriver.ChromeService(CHROMEDRIVER)
