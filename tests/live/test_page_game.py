"""The target test of the page: by keyboard and by gestures to a result, and its measures."""

from __future__ import annotations

import json
import math
import shutil
import time

import pytest
from page_browser import Browser
from page_server import PageServer, decision
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="chromedriver is missing"),
]

PLACES = """
  const target = document.querySelector('.arena .target');
  const moved = document.querySelector('.arena .cursor').getAttribute('transform');
  const [x, y] = moved.match(/-?[\\d.]+/g).map(Number);
  const centre = target && target.x.baseVal.value + target.width.baseVal.value / 2;
  return target && [x, centre, target.width.baseVal.value / 2];
"""


def test_by_keyboard_to_the_result(quiet: PageServer, browser: Browser) -> None:
    browser.run("location.hash = 'test'")
    for name, value in {"dimensions": "1", "targets": "4", "speed": "260", "dwell": "0.5"}.items():
        browser.choose(f"#test-{name}", value)
    browser.run(
        "URL.createObjectURL = (blob) => { blob.text().then((t) => (window.saved ??= []).push(t));"
        "return 'data:,'; }; HTMLAnchorElement.prototype.click = () => {}"
    )
    browser.find(".field .primary").send_keys(Keys.ENTER)
    held: str | None = None
    end = time.monotonic() + 40
    while browser.run("return document.querySelector('.outcome').hidden"):
        assert time.monotonic() < end
        places = browser.run(PLACES)
        wanted = None
        if places:
            x, centre, half = places
            if abs(x - centre) > half * 0.5:
                wanted = Keys.ARROW_RIGHT if centre > x else Keys.ARROW_LEFT
        if wanted != held:
            keys = ActionChains(browser.driver, duration=0)
            if held:
                keys.key_up(held)
            if wanted:
                keys.key_down(wanted)
            keys.perform()
            held = wanted
    assert browser.text(".outcome dd") == "4 of 4 (100 %)"
    assert "bits/s" in browser.text(".outcome")
    assert "Moved by keyboard" in browser.text(".outcome")
    assert browser.run("return document.activeElement.id") == "outcome-title"
    for button in browser.driver.find_elements("css selector", ".outcome button"):
        button.click()
    browser.wait(lambda: browser.run("return window.saved?.length") == 2)
    table, report = browser.run("return window.saved")
    assert len(table.strip().split("\n")) == 5
    told = json.loads(report)
    assert told["summary"]["completion_rate"] == 1
    assert told["controlled_by"] == ["keyboard"]
    assert told["dimensions"] == 1
    for trial in told["trials"]:
        bits = math.log2(trial["distance"] / trial["width"] + 1)
        assert trial["difficulty_bits"] == pytest.approx(bits)
        assert trial["throughput"] == pytest.approx(bits / trial["seconds"])
        assert 0 < trial["path_efficiency"] <= 1


def test_gestures_move_the_cursor_and_escape_ends(quiet: PageServer, browser: Browser) -> None:
    browser.run("location.hash = 'test'")
    browser.choose("#test-ArrowUp", "open hand")
    browser.find(".field .primary").click()

    def moved() -> tuple[float, float]:
        place = browser.run(
            "return document.querySelector('.cursor').getAttribute('transform')"
            "?.match(/-?[\\d.]+/g).map(Number) ?? [0, 0]"
        )
        return place[0], place[1]

    def decide(label: int) -> None:
        for _ in range(4):
            quiet.say(decision(label))
            time.sleep(0.1)

    browser.wait(lambda: browser.find(".arena").get_attribute("data-state") == "running")
    decide(6)
    assert moved()[1] < -50  # up
    right = moved()[0]
    assert right == 0
    time.sleep(0.6)  # no decision comes: the cursor rests
    still = moved()
    quiet.say(decision(2, gesture=None, label=-1))  # withheld
    time.sleep(0.1)
    assert moved() == still
    decide(2)
    assert moved()[0] > 50  # wrist extension goes right unless something else is chosen
    browser.press(Keys.ESCAPE)
    browser.wait(lambda: browser.find(".arena").get_attribute("data-state") == "idle")
    assert not browser.find(".outcome").is_displayed()  # no target was over


def test_measures_of_a_trial(quiet: PageServer, browser: Browser) -> None:
    script = """
      const target = { distance: 300, width: 100, x: 300, y: 0 };
      const make = () => new it.Trial(target, { dimensions: 2, dwell: 1.5, limit: 10, speed: 100 });
      const go = (trial, [x, y], seconds) => {
        for (let i = 0; i < Math.round(seconds * 20); i += 1) trial.move([x, y], 0.05); };
      const straight = make(); go(straight, [1, 0], 3); go(straight, [0, 0], 2);
      const round = make(); go(round, [0, 1], 1); go(round, [0, -1], 1); go(round, [1, 0], 4);
      go(round, [-1, 0], 1); go(round, [0, 0], 1.2);
      const never = make(); go(never, [-1, 0], 12);
      const out = [straight, round, never].map((trial) => trial.result());
      return [out, it.summarize(out), it.toCsv(out), it.summarize([])];
    """
    (straight, around, never), summary, table, nothing = browser.load("fitts.js", script)
    assert straight["hit"] is True
    assert straight["difficulty_bits"] == pytest.approx(2)  # log2(300 / 100 + 1)
    assert straight["seconds"] == pytest.approx(2.5)  # until it enters: the dwell is not counted
    assert straight["throughput"] == pytest.approx(0.8)
    assert straight["path_efficiency"] == pytest.approx(1)
    assert straight["overshoots"] == 0
    assert around["overshoots"] == 1
    assert around["seconds"] == pytest.approx(6.5)
    assert around["path_efficiency"] == pytest.approx(3 / 7)
    assert never["hit"] is False
    assert never["throughput"] is None
    assert summary["completion_rate"] == pytest.approx(2 / 3)
    assert summary["throughput_bits_per_second"] == pytest.approx((0.8 + 2 / 6.5) / 2)
    assert len(table.strip().split("\n")) == 4
    assert nothing["completion_rate"] is None


def test_targets_are_repeatable_and_balanced(quiet: PageServer, browser: Browser) -> None:
    script = """
      const targets = (seed, dimensions) => it.makeTargets(48, dimensions, it.generator(seed));
      return [targets(1, 2), targets(1, 2), targets(2, 2), targets(3, 1)];
    """
    one, same, other, flat = browser.load("fitts.js", script)
    assert one == same != other
    assert {round(target["y"]) for target in flat} == {0}
    kinds = [(target["distance"], target["width"]) for target in one]
    assert {kinds.count(kind) for kind in kinds} == {8}
    assert all(target["distance"] + target["width"] / 2 <= 500 for target in one)
