"""Pictures of the live page in Chromium, and an animated one for the README.

Usage: ``python benchmarks/page_pictures.py FOLDER [NAME ...]``, names as in PICTURES and
``animation``; all of them take five minutes. The signals are made up.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "live"))

from page_browser import Browser
from page_server import PageServer, Stage
from page_signals import Person

from myodistill.live.guide import Timing

ANIMATED = 500_000
"""Bytes that the animated picture may have."""
SECONDS = (2.2, 5.2)
"""Of calibration, and of the live view, in the animated picture."""
WIDTH = 960
FRAME = 0.3
"""Seconds that a picture of it is shown."""


def eight() -> Stage:
    return Stage(Person(8, seed=2))


def faults() -> Stage:
    return Stage(Person(8, faults={2: "flat", 5: "noisy"}, seed=2))


def many() -> Stage:
    faults = {17: "flat", 40: "noisy", 203: "missing"}
    person = Person(256, 2000.0, grid=(16, 16), faults=faults, seed=3)
    return Stage(person, name="hyser-3", source="replay:hyser,subject3")


def calibration() -> Stage:
    timing = Timing(ready=1.5, perform=2.0, rest=1.2)
    return Stage(Person(8, seed=2), mode="calibrate", timing=timing)


def until_word(word: str, after: int, browser: Browser, server: PageServer) -> None:
    """Start the calibration, and wait for a word after so many performances."""
    browser.choose("#guide-seconds", "2")
    browser.choose("#guide-repetitions", "1" if word.startswith("All") else "3")
    browser.find(".stage .primary").click()
    browser.wait(
        lambda: browser.run("return document.querySelectorAll('.takes li').length") >= after, 90
    )
    browser.wait(lambda: browser.text(".stage .word") == word, 60)
    if word == "Hold":
        browser.wait(lambda: browser.text(".live-quality"), 30)
        time.sleep(0.5)


def as_lines(browser: Browser, server: PageServer) -> None:
    browser.choose("#signal-style", "lines")


def one_channel(browser: Browser, server: PageServer) -> None:
    browser.choose("#signal-view", "5")


def withheld(browser: Browser, server: PageServer) -> None:
    """Let only the threshold rule: a decision that is not certain enough."""
    server.stage.threshold = 1.0
    server.say(server.hello())
    server.say({"type": "event", "line": "gap: 24 samples are lost"})


def played(count: int, browser: Browser, server: PageServer) -> None:
    """Play the target test with the arrow keys, as a page does to itself."""
    browser.choose("#test-targets", "4" if count == 4 else "12")
    browser.choose("#test-dwell", "0.5")
    for key in ("Left", "Right", "Up", "Down"):
        browser.choose(
            f"#test-Arrow{key}",
            ""
            if count == 4
            else browser.run(f"return document.querySelector('#test-Arrow{key}').value"),
        )
    browser.find(".field .primary").click()
    browser.run(PLAYER)
    if count == 4:
        browser.wait(lambda: browser.find(".outcome").is_displayed(), 60)
    else:
        time.sleep(4.4)


PLAYER = """
  const arena = document.querySelector('.arena');
  const tell = (key, down) => arena.dispatchEvent(
    new KeyboardEvent(down ? 'keydown' : 'keyup', { key, cancelable: true }));
  setInterval(() => {
    const target = arena.querySelector('.target');
    const moved = arena.querySelector('.cursor').getAttribute('transform');
    if (!target || !moved) return;
    const [x, y] = moved.match(/-?[\\d.]+/g).map(Number);
    const [right, down] = [target.cx.baseVal.value - x, target.cy.baseVal.value - y];
    tell('ArrowRight', right > 18); tell('ArrowLeft', right < -18);
    tell('ArrowDown', down > 18); tell('ArrowUp', down < -18);
  }, 30);
"""


@dataclass(frozen=True)
class Picture:
    """What a picture shows, after so many seconds and an act."""

    stage: Callable[[], Stage] = eight
    view: str = "live"
    seconds: float = 2.0
    size: tuple[int, int] = (1280, 800)
    scheme: str = "light"
    act: Callable[[Browser, PageServer], None] = field(default=lambda browser, server: None)
    whole: bool = False
    """The page to its end, not what fits onto the screen."""


PHONE = (390, 844)
PICTURES = {
    "desktop-8-light": Picture(seconds=33, whole=True),
    "desktop-8-dark": Picture(scheme="dark", seconds=33),
    "desktop-8-faults": Picture(faults, seconds=12, act=withheld),
    "desktop-8-one": Picture(seconds=8, act=one_channel),
    "desktop-256-light": Picture(many, seconds=33),
    "desktop-256-dark": Picture(many, seconds=33, scheme="dark"),
    "desktop-256-lines": Picture(many, seconds=14, act=as_lines, whole=True),
    "phone-8-light": Picture(seconds=14, size=PHONE, whole=True),
    "phone-256-dark": Picture(many, seconds=14, size=PHONE, scheme="dark", whole=True),
    "guide-start": Picture(calibration, "calibrate"),
    "guide-ready": Picture(calibration, "calibrate", 0, act=partial(until_word, "Get ready", 1)),
    "guide-hold": Picture(
        calibration, "calibrate", 0, scheme="dark", act=partial(until_word, "Hold", 3)
    ),
    "guide-review": Picture(
        calibration, "calibrate", 0, act=partial(until_word, "All gestures done", 8)
    ),
    "guide-phone": Picture(calibration, "calibrate", 0, PHONE, act=partial(until_word, "Hold", 1)),
    "game": Picture(view="test", seconds=0, scheme="dark", act=partial(played, 12)),
    "game-result": Picture(view="test", seconds=0, act=partial(played, 4)),
    "game-phone": Picture(
        view="test", seconds=0, size=PHONE, scheme="dark", act=partial(played, 12)
    ),
    "help": Picture(view="help", whole=True),
}


@contextlib.contextmanager
def opened(picture: Picture) -> Iterator[tuple[Browser, PageServer]]:
    server = PageServer(picture.stage())
    width, height = picture.size
    scale = 2 if picture.size == PHONE else 1
    browser = Browser(width, height, scale)
    browser.prefer(prefers_color_scheme=picture.scheme)
    browser.open(server.url, picture.view)
    browser.wait(lambda: browser.text("#state") == "Streaming")
    yield browser, server
    for complaint in browser.complaints():
        print(complaint)
    browser.close()
    server.stop()


def take(picture: Picture) -> Image.Image:
    with opened(picture) as (browser, server):
        picture.act(browser, server)
        time.sleep(picture.seconds)
        if picture.whole:
            width, _ = picture.size
            height = browser.run("return document.documentElement.scrollHeight")
            browser.resize(width, height, 2 if picture.size == PHONE else 1)
            time.sleep(0.7)
        image = screen(browser)
        over = browser.run("return document.documentElement.scrollWidth - innerWidth")
        if over > 0:
            print(f"{over} pixels too wide")
        return image


def screen(browser: Browser) -> Image.Image:
    shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


def film(browser: Browser, seconds: float) -> tuple[list[Image.Image], list[int]]:
    """Return frames, and the milliseconds for which each is shown."""
    images, times = [], [time.monotonic()]
    while times[-1] - times[0] < seconds:
        image = screen(browser)
        height = round(image.height * WIDTH / image.width)
        images.append(image.resize((WIDTH, height), Image.Resampling.LANCZOS))
        time.sleep(max(0.0, times[-1] + FRAME - time.monotonic()))
        times.append(time.monotonic())
    return images, [round(1000 * (b - a)) for a, b in itertools.pairwise(times)]


def animate(path: Path) -> None:
    """Write calibration and the live view, in the best quality that fits."""
    images: list[Image.Image] = []
    shown: list[int] = []
    for picture, seconds in (
        (Picture(calibration, "calibrate", act=partial(until_word, "Hold", 2)), SECONDS[0]),
        (Picture(seconds=30), SECONDS[1]),
    ):
        with opened(picture) as (browser, server):
            picture.act(browser, server)
            time.sleep(0 if picture.view == "calibrate" else picture.seconds)
            part, times = film(browser, seconds)
        images += part
        shown += times
    for quality in (70, 60, 50, 40, 30, 20, 10):
        images[0].save(
            path,
            save_all=True,
            append_images=images[1:],
            duration=shown,
            loop=0,
            quality=quality,
            method=4,
        )
        if path.stat().st_size <= ANIMATED:
            break
    size, seconds = path.stat().st_size, sum(shown) / 1000
    print(f"{path}: {len(images)} frames, {seconds:.1f} s, {size} bytes, quality {quality}")


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or [*PICTURES, "animation"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name == "animation":
            animate(folder / "live.webp")
            continue
        take(PICTURES[name]).save(folder / f"{name}.png", optimize=True)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
