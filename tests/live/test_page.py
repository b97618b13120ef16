"""The page shows what the server says, asks for what the person wants, and breaks at nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from page_browser import Browser
from page_server import PageServer, Stage
from page_signals import GESTURES, Person, frame
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from myodistill.live.guide import Timing

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="chromedriver is missing"),
]
QUICK = Timing(ready=0.25, perform=0.3, rest=0.25)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Stage], PageServer]]:
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
    server = serve(Stage(streams=False))
    browser.open(server.url)
    browser.wait(lambda: browser.text("#name") == "anna")
    return server


def decision(label: int = 1, share: float = 0.9, **changes: Any) -> dict[str, Any]:
    rest = (1 - share) / (len(GESTURES) - 1)
    return {
        "type": "decision",
        "seconds": 1.0,
        "sample": 1000,
        "gesture": GESTURES[label],
        "label": label,
        "confidence": share,
        "probabilities": [share if index == label else rest for index in range(len(GESTURES))],
        "abstained": False,
        "delay_ms": 3.0,
    } | changes


def test_gesture_and_probabilities_of_a_decision(quiet: PageServer, browser: Browser) -> None:
    quiet.say(decision(5, 0.9))
    browser.wait(lambda: browser.text("#now-gesture") == "power grip")
    assert browser.text("#now-why") == "90\u00a0% certain"
    assert browser.text("#gesture-rows [data-chosen=true] .name") == "power grip"
    assert browser.text("#gesture-rows [data-chosen=true] .value") == "90\u00a0%"
    browser.wait(lambda: browser.text("#now-why") == "No decisions come")  # old ones are not of now


def test_withheld_and_abstained_differ_from_a_gesture(quiet: PageServer, browser: Browser) -> None:
    quiet.say(decision(2, 0.5, gesture=None, label=-1))
    browser.wait(lambda: browser.text("#now-gesture") == "Withheld")
    assert browser.text("#now-why") == "Perhaps wrist extension, 50\u00a0%: not certain enough"
    quiet.say(decision(gesture=None, label=-1, probabilities=None, abstained=True, confidence=0.0))
    browser.wait(lambda: browser.text("#now-gesture") == "No decision")
    assert "missing" in browser.text("#now-why")
    assert browser.find("#now").get_attribute("data-state") == "abstained"


def test_the_gesture_is_spoken_only_if_it_lasts(quiet: PageServer, browser: Browser) -> None:
    for second in range(12):
        quiet.say(decision(2 if second == 3 else 1, seconds=float(second) / 10))
        time.sleep(0.1)
    assert browser.text("#spoken") == "wrist flexion"


def test_controls_ask_the_server(quiet: PageServer, browser: Browser) -> None:
    browser.find("#threshold").send_keys(Keys.ARROW_RIGHT)
    browser.wait(lambda: {"type": "threshold", "value": 0.61} in quiet.heard)
    assert browser.text("#threshold-value") == "61 %"
    browser.find("#adapt").send_keys(Keys.SPACE)
    browser.wait(lambda: browser.find("#adapt").get_attribute("aria-checked") == "false")
    browser.find("#adapt-reset").click()
    browser.choose("#record-gesture", "pinch grip")
    browser.find("#record").click()
    browser.wait(lambda: browser.text("#record-line").startswith("Recording pinch grip"))
    browser.find("#record").click()
    browser.wait(lambda: browser.text("#record-line") == "1 repetition recorded in session day3.")
    assert quiet.heard[1:] == [
        {"type": "adapt", "on": False},
        {"type": "adapt-reset"},
        {"type": "record", "on": True, "gesture": "pinch grip"},
        {"type": "record", "on": False},
    ]


def test_suspended_adaptation_and_counters(quiet: PageServer, browser: Browser) -> None:
    adapt = {"available": True, "on": True, "suspended": True}
    quiet.say(quiet.counters(lost=7, state="silent", adapt=adapt, rate=None, delay_ms=None))
    browser.wait(lambda: browser.text("#state") == "Silent")
    assert browser.text("#adapt-line").startswith("Suspended")
    assert browser.text("#counters [data-trouble=true]") == "7"


def test_guided_calibration_by_keyboard(
    serve: Callable[[Stage], PageServer], browser: Browser
) -> None:
    server = serve(Stage(mode="calibrate", timing=QUICK, learning=0.5))
    browser.driver.get(server.url)
    browser.wait(lambda: browser.text(".stage .word") == "Calibrate to your arm")
    assert "#calibrate" in browser.driver.current_url  # it opens where there is something to do
    press = ActionChains(browser.driver)
    browser.find("#guide-repetitions").send_keys(Keys.BACKSPACE, "1")
    press.send_keys(Keys.TAB, Keys.BACKSPACE, "1", Keys.TAB, Keys.ENTER).perform()
    browser.wait(lambda: browser.text(".stage .word") == "Hold")
    press.send_keys(Keys.ENTER).perform()  # the same button pauses
    browser.wait(lambda: browser.text(".stage .word") == "Paused")
    press.send_keys(Keys.ENTER).perform()
    browser.wait(lambda: browser.text(".stage .gesture") not in ("", "rest"))
    assert browser.run("return document.querySelectorAll('.takes li').length") >= 1
    assert browser.find(".stage .hand")
    browser.wait(lambda: browser.text(".stage .word") == "All gestures are performed", 30)
    assert browser.text(".count").startswith("8 of 8 performances")
    browser.find(".takes button").send_keys(Keys.ENTER)
    browser.wait(lambda: server.heard[-1] == {"type": "guide", "action": "redo", "step": 7})
    browser.wait(lambda: browser.text(".stage .word") == "All gestures are performed", 10)
    browser.find(".stage .primary").send_keys(Keys.ENTER)
    browser.wait(lambda: browser.text(".stage .word") == "Learning…")
    browser.wait(lambda: browser.driver.current_url.endswith("#live"))
    assert "Expect about 94 %" in browser.text("#notice-line")
    browser.wait(lambda: browser.text("#now-why").endswith("certain"))
    started = {"type": "guide", "action": "start", "repetitions": 1, "seconds": 1}
    assert server.heard[:2] == [started, {"type": "guide", "action": "pause"}]


def test_a_refusal_is_shown(quiet: PageServer, browser: Browser) -> None:
    quiet.say({"type": "refused", "line": "guide: expected to start when nothing runs"})
    browser.wait(lambda: browser.find("#notice").is_displayed())
    assert "expected to start" in browser.text("#notice-line")
    assert "expected to start" in browser.text("#events")
    browser.find("#notice-close").click()
    assert not browser.find("#notice").is_displayed()


def test_a_connection_that_is_lost_is_made_anew(chromium: Browser) -> None:
    server = PageServer(Stage(streams=False))
    chromium.open(server.url)
    chromium.wait(lambda: chromium.text("#name") == "anna")
    server.drop()
    chromium.wait(lambda: "Connection lost" in chromium.text("#events"))
    chromium.wait(lambda: "Connected again" in chromium.text("#events"))
    server.stop()
    chromium.wait(lambda: chromium.text("#state") == "Disconnected")
    chromium.wait(lambda: "1 s" in chromium.text("#connection-line"))  # it waits longer and longer
    server.start()
    chromium.wait(lambda: not chromium.find("#connection").is_displayed())
    server.say(decision(3))
    chromium.wait(lambda: chromium.text("#now-gesture") == "radial deviation")
    server.stop()
    chromium.driver.get("about:blank")
    complaints = chromium.complaints()  # a refused connection is one, and the only one
    assert all("WebSocket" in line for line in complaints)


BAD = [
    "",
    "{",
    "null",
    "[]",
    '"hello"',
    "{}",
    '{"type": "nonsense"}',
    '{"type": "constructor"}',
    '{"type": "__proto__"}',
    '{"type": "decision"}',
    '{"type": "decision", "seconds": "soon"}',
    '{"type": "hello", "version": 1, "channels": -3}',
    '{"type": "hello", "version": 1, "channels": 1e9}',
    '{"type": "channels", "rms": [1], "quality": ["<b>"]}',
    '{"type": "channels", "rms": [1, 2], "quality": ["good", "good"]}',
    '{"type": "counters", "decisions": NaN}',
    '{"type": "guide", "phase": "flying"}',
    '{"type": "event", "line": {"a": 1}}',
    b"",
    b"\x01",
    b"\x01\x00\x00\x00" + b"\xff" * 40,
    b"\x02" + b"\x00" * 11,
    frame(0, np.zeros((3, 8, 2), np.float32))[:-1],
    frame(0, np.zeros((3, 5, 2), np.float32)),
]


def test_messages_that_are_not_as_agreed_are_ignored(quiet: PageServer, browser: Browser) -> None:
    for message in BAD:
        quiet.say(message)
    quiet.say({**decision(6, 0.8), "surplus": [1]})
    browser.wait(lambda: browser.text("#now-gesture") == "open hand")


def test_a_decision_of_too_few_gestures_breaks_nothing(quiet: PageServer, browser: Browser) -> None:
    quiet.say(decision(1, probabilities=[0.5]))
    quiet.say(decision(1, label=77, gesture="levitation", probabilities=[]))
    browser.wait(lambda: browser.text("#now-gesture") == "levitation")


def test_text_is_never_html(serve: Callable[[Stage], PageServer], browser: Browser) -> None:
    name = "<img src=x onerror=\"document.body.dataset.bad='1'\">"
    server = serve(Stage(streams=False, name=name, source=name, gestures=(name, *GESTURES[1:])))
    browser.open(server.url)
    browser.wait(lambda: browser.text("#name") == name)
    server.say(decision(1, gesture=name))
    server.say({"type": "event", "line": name})
    take = {"gesture": name, "repetition": 1, "ok": False, "line": name}
    state = {"phase": "perform", "gesture": name, "next": name, "repetition": 1, "repetitions": 1}
    rest = {"step": 1, "steps": 2, "remaining": 2.0, "takes": [take], "line": name}
    told = {"quality": {"ok": True, "line": name}, "expected": {"line": name}}
    server.say({"type": "guide", **state, **rest, **told})
    browser.wait(lambda: name in browser.text("#events"))
    browser.wait(lambda: browser.text("#now-gesture") == name)
    for view in ("calibrate", "test", "live"):
        browser.run(f"location.hash = '{view}'")
    assert browser.run("return document.querySelectorAll('img').length") == 0
    assert browser.run("return document.body.dataset.bad ?? ''") == ""


def painted(browser: Browser, selector: str = "#signals") -> int:
    """Count the pixels of a canvas that something was drawn to."""
    return int(
        browser.run(
            "const c = document.querySelector(arguments[0]);"
            "const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
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
    assert browser.text("#pause") == "Go on drawing"


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
    if (!own || !e.checkVisibility() || e.closest('svg, option, :disabled, .hidden, noscript')) continue;
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


def test_the_log_of_events_is_bounded(quiet: PageServer, browser: Browser) -> None:
    for number in range(230):
        quiet.say({"type": "event", "line": f"event {number}"})
    browser.wait(lambda: "event 229" in browser.text("#events li"))
    assert browser.run("return document.querySelectorAll('#events li').length") == 200
