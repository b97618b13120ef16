"""The page shows what the server says, asks for what the person wants, and breaks at nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import numpy as np
import pytest
from page_browser import Browser
from page_server import PageServer, Stage, decision
from page_signals import GESTURES, frame
from selenium.webdriver.common.keys import Keys

from myodistill.live.guide import Timing

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="chromedriver is missing"),
]
QUICK = Timing(ready=0.25, perform=0.3, rest=0.25)


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
    for tenth in range(18):
        quiet.say(decision(1 if tenth > 3 else tenth, seconds=tenth / 10))
        assert tenth > 9 or browser.text("#spoken") == ""
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
    few = ("rest", "power grip", "open hand")
    server = serve(Stage(mode="calibrate", timing=QUICK, learning=0.5, gestures=few))
    browser.driver.get(server.url)
    browser.wait(lambda: browser.text(".stage .word") == "Calibrate to your arm")
    assert "#calibrate" in browser.driver.current_url  # it opens where there is something to do
    browser.find("#guide-repetitions").send_keys(Keys.ARROW_DOWN * 2)
    browser.press(Keys.TAB, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.TAB, Keys.ENTER)
    browser.wait(lambda: browser.text(".stage .word") == "Hold")
    browser.press(Keys.ENTER)  # the same button pauses
    browser.wait(lambda: browser.text(".stage .word") == "Paused")
    browser.press(Keys.ENTER)
    browser.wait(lambda: browser.text(".stage .gesture") not in ("", "rest"))
    assert browser.run("return document.querySelectorAll('.takes li').length") >= 1
    assert browser.find(".stage .hand")
    browser.wait(lambda: browser.text(".stage .word") == "All gestures done", 30)
    assert browser.text(".count").startswith("3 of 3 performances")
    browser.find(".takes button").send_keys(Keys.ENTER)
    browser.wait(lambda: server.heard[-1] == {"type": "guide", "action": "redo", "step": 2})
    browser.wait(lambda: browser.text(".stage .word") in ("Get ready", "Hold"))
    browser.wait(lambda: browser.text(".stage .word") == "All gestures done", 10)
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


BAD: list[str | bytes] = [
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


def test_the_log_of_events_is_bounded(quiet: PageServer, browser: Browser) -> None:
    for number in range(230):
        quiet.say({"type": "event", "line": f"event {number}"})
    browser.wait(lambda: "event 229" in browser.text("#events li"))
    assert browser.run("return document.querySelectorAll('#events li').length") == 200
