"""Frames of the live page, measured by its own animation loop in Chromium without a screen.

Usage: ``python benchmarks/page_frames.py [SECONDS]`` (10). Signals and decisions are made up and
served by this process. Without a graphics card Chromium draws by software, on the same cores.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "live"))

from page_browser import Browser
from page_server import PageServer, Stage
from page_signals import Person

GRID = (16, 16)
CASES = {
    "8 channels, lines": (Person(8), "lines"),
    "256 channels, heat map": (Person(256, 2000.0, grid=GRID), "heat"),
    "256 channels, lines": (Person(256, 2000.0, grid=GRID), "lines"),
}


def frame_times(browser: Browser, person: Person, style: str, seconds: float) -> np.ndarray:
    """Return the milliseconds between frames."""
    server = PageServer(Stage(person))
    browser.open(server.url)
    browser.wait(lambda: browser.text("#state") == "Streaming")
    browser.choose("#signal-style", style)
    time.sleep(4)  # the scale of the signals is found
    browser.load("frames.js", "return it.takeFrameTimes().length")
    time.sleep(seconds)
    times = browser.load("frames.js", "return it.takeFrameTimes()")
    server.stop()
    return np.array(times)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    browser = Browser()
    name = browser.run(
        "const gl = document.createElement('canvas').getContext('webgl');"
        "const info = gl?.getExtension('WEBGL_debug_renderer_info');"
        "return info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : 'software, no WebGL'"
    )
    version = browser.driver.capabilities["browserVersion"]
    load = os.getloadavg()[0]
    print(f"Chromium {version}, {name}, {os.cpu_count()} cores, load {load:.1f} before, 1280×800")
    for title, (person, style) in CASES.items():
        times = frame_times(browser, person, style, seconds)
        median, late = np.quantile(times, [0.5, 0.95])
        print(
            f"{title:24} {1000 / times.mean():5.1f} frames/s,"
            f" frame time median {median:.1f} ms, p95 {late:.1f} ms"
        )
    browser.close()


if __name__ == "__main__":
    main()
