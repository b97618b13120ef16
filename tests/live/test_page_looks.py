"""The page draws what comes, for any eye, hand, width and colour scheme."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest
from page_browser import Browser
from page_server import PageServer, Stage, decision
from page_signals import GESTURES, Person

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="chromedriver is missing"),
]


def painted(browser: Browser, selector: str = "#signals") -> int:
    """Count the pixels of a canvas that something was drawn to."""
    return int(
        browser.run(
            "const c = document.querySelector(arguments[0]); if (!c) return 0;"
            "const copy = c.cloneNode(); const pen = copy.getContext('2d',"
            "{ willReadFrequently: true }); pen.drawImage(c, 0, 0);"
            "const { data } = pen.getImageData(0, 0, c.width, c.height);"
            "let count = 0; for (let i = 3; i < data.length; i += 4) count += data[i] > 0;"
            "return count",
            selector,
        )
    )


def test_signals_and_electrodes_of_8_channels(
    serve: Callable[[Stage], PageServer], browser: Browser
) -> None:
    server = serve(Stage(Person(8, faults={2: "flat", 6: "missing"})))
    browser.open(server.url)
    browser.wait(lambda: painted(browser) > 3000)
    browser.wait(lambda: painted(browser, "#history") > 100)
    browser.wait(lambda: "flat: 3; missing: 7" in browser.text("#electrode-summary"))
    assert browser.text(".map text:nth-of-type(3)") == "3▬"  # a mark, not a colour alone
    browser.choose("#signal-view", "1")
    browser.wait(lambda: painted(browser, "#signal-one canvas") > 500)
    browser.choose("#signal-view", "all")
    browser.find("#pause").click()
    before = painted(browser)
    time.sleep(0.3)
    assert painted(browser) == before
    assert browser.find("#pause").get_attribute("aria-pressed") == "true"


def test_256_channels(serve: Callable[[Stage], PageServer], browser: Browser) -> None:
    server = serve(Stage(Person(256, 2000.0, grid=(16, 16), faults={17: "noisy"})))
    browser.open(server.url)
    browser.wait(lambda: painted(browser) > 20000)
    browser.choose("#signal-style", "lines")
    browser.wait(lambda: painted(browser) > 20000)
    browser.wait(lambda: "noisy: 18" in browser.text("#electrode-summary"))
    assert browser.run("return document.querySelectorAll('.map .cell').length") == 256


def test_a_gap_is_left_empty_and_a_new_stream_begins_anew(
    quiet: PageServer, browser: Browser
) -> None:
    script = """
      const b = new it.Buckets(2, 125, 100);
      const send = (first, count, value) => b.take({ first, buckets: count, channels: 2,
        values: new Float32Array(count * 4).fill(value) }, 0);
      const seen = (index) => b.values[b.at(index)];
      const out = [send(50, 10, 1), send(70, 5, 2), seen(59), seen(60), seen(69), seen(70)];
      return [...out, send(70, 5, 9), seen(70), send(3000000000, 4, 3), b.begin].map(String);
    """
    out = browser.load("buckets.js", script)
    assert out[:6] == ["false", "true", "1", "NaN", "NaN", "2"]
    assert out[6:] == ["true", "2", "false", "3000000000"]


def test_the_rate_of_buckets_is_measured(quiet: PageServer, browser: Browser) -> None:
    script = """
      const b = new it.Buckets(1, 125, 1000);
      for (let i = 0; i < 100; i += 1) {
        b.take({ first: i * 4, buckets: 4, channels: 1, values: new Float32Array(8) }, i * 40);
      }
      return b.perSecond;
    """
    assert browser.load("buckets.js", script) == pytest.approx(100)  # as for 200 samples a second


def test_no_horizontal_scrolling_at_360_pixels(
    serve: Callable[[Stage], PageServer], browser: Browser
) -> None:
    browser.resize(360, 740)
    long = tuple(f"{name} of a very long name" for name in GESTURES)
    server = serve(Stage(Person(256, 2000.0, grid=(8, 32)), gestures=long, source="s" * 90))
    browser.open(server.url)
    browser.wait(lambda: painted(browser) > 1000)
    server.say({"type": "refused", "line": "x" * 300})
    for view in ("live", "calibrate", "test", "help"):
        browser.run(f"location.hash = '{view}'")
        time.sleep(0.1)
        assert browser.run("return document.documentElement.scrollWidth") <= 360, view


WIDGETS = {"button", "link", "combobox", "slider", "switch", "spinbutton", "application", "image"}


@pytest.mark.parametrize("view", ["live", "calibrate", "test", "help"])
def test_every_control_has_a_name(quiet: PageServer, browser: Browser, view: str) -> None:
    browser.run(f"location.hash = '{view}'")
    time.sleep(0.1)
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [n for n in nodes if not n["ignored"] and n.get("role", {}).get("value") in WIDGETS]
    assert len(told) >= 6
    nameless = [n for n in told if not n.get("name", {}).get("value", "").strip()]
    assert nameless == []
    landmarks = {n["role"]["value"] for n in nodes if not n["ignored"] and "role" in n}
    assert {"banner", "navigation", "main", "heading"} <= landmarks


CONTRAST = """
  const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parts = (colour) => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() ||
      e.closest('svg, option, :disabled, .hidden, noscript')) continue;
    const [a, b] = [parts(getComputedStyle(e).color), ground(e)].map(light).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${e.textContent.slice(0, 20)} ${ratio}`);
  }
  return bad;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_in_light_and_dark(quiet: PageServer, browser: Browser, scheme: str) -> None:
    browser.prefer(prefers_color_scheme=scheme)
    quiet.say({"type": "refused", "line": "no"})
    quiet.say(quiet.counters(lost=3))
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(11, 16, 20)") == (scheme == "dark")
    for message in (decision(), decision(gesture=None, label=-1), decision(abstained=True)):
        quiet.say(message)
        time.sleep(0.1)
        for view in ("live", "calibrate", "test", "help"):
            browser.run(f"location.hash = '{view}'")
            assert browser.run(CONTRAST) == []


def test_colours_can_be_chosen(quiet: PageServer, browser: Browser) -> None:
    for theme, ground in (("dark", "rgb(11, 16, 20)"), ("light", "rgb(238, 241, 243)")):
        browser.choose("#theme", theme)
        assert browser.run("return getComputedStyle(document.body).backgroundColor") == ground
    browser.driver.refresh()
    browser.wait(lambda: browser.run("return document.documentElement.dataset.theme") == "light")


def test_less_motion_draws_in_place(serve: Callable[[Stage], PageServer], browser: Browser) -> None:
    """Where nothing new was drawn, pixels stay as they are."""
    browser.prefer(prefers_reduced_motion="reduce")
    server = serve(Stage(Person(8)))
    browser.open(server.url)
    browser.wait(lambda: painted(browser) > 30000, 20)
    strips = """
      const c = document.querySelector('#signals'); const copy = c.cloneNode();
      const pen = copy.getContext('2d', { willReadFrequently: true }); pen.drawImage(c, 0, 0);
      return Array.from({ length: 8 }, (_, i) =>
        pen.getImageData(i * c.width / 8, 0, c.width / 8, c.height).data.reduce((a, b) => a + b));
    """

    def unchanged() -> int:
        before = browser.run(strips)
        time.sleep(0.3)
        return sum(a == b for a, b in zip(before, browser.run(strips), strict=True))

    browser.wait(lambda: 5 <= unchanged() <= 7)
