"""Guided calibration in a browser, performed by a recorded person: how long until it decodes.

    python benchmarks/guided_calibration.py POPULATION [--dataset myo] [--subject NAME]
        [--repetitions 4] [--session training0] [--then Test1]

Starts `myodistill live POPULATION --source tcp-listen:PORT` and opens its page in headless
Chromium. A device in this process sends at the true rate what the person performed in the
recordings: the gesture that the page asks for, in the repetition that it asks for, and rest in
between. It is told by a second connection to the page's own socket. When the last gesture is
performed the page's button is pressed, and the time is taken until the first decision of the new
decoder. Then the gestures of another session are sent, one after the other, and the decisions that
come are scored. Fails where that takes 30 s or more.

Nobody who is in the population may be performed: it knows recordings again only as they were made.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import machine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "live"))

from page_browser import Browser
from page_socket import page_socket
from websockets.sync.client import connect

from myodistill.datasets.recording import Recording, Signal
from myodistill.datasets.registry import open_dataset
from myodistill.evaluation.events import rest_of

LIMIT = 30.0  # seconds from the last repetition to the first decision
CHUNK = 0.02  # seconds of signal in a line
REACTION = 0.3  # seconds between a cue and the gesture, as of a quick person
SETTLED = 0.5  # seconds after a change that are not scored


class Device:
    """Sends the person's recordings at their rate, until it is closed.

    Attributes:
        wanted: What is performed from now on.
    """

    def __init__(self, port: int, rate: float, rest: Signal) -> None:
        self.rest = self.wanted = rest
        self.sent = 0
        self._rate, self._port, self._stop = rate, port, threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the stream."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _send(self) -> None:
        count, begin, playing, at = round(CHUNK * self._rate), time.monotonic(), self.wanted, 0
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            while not self._stop.is_set():
                if playing is not self.wanted:
                    playing, at = self.wanted, 0
                rows = np.arange(at, at + count) % len(playing)
                line = json.dumps({"samples": playing[rows].tolist(), "seq": self.sent})
                connection.sendall(line.encode() + b"\n")
                at += count
                self.sent += count
                due = begin + self.sent / self._rate
                time.sleep(max(due - time.monotonic(), 0.0))


class Person:
    """What somebody performed in the recordings of a dataset.

    Args:
        recordings: Of the person.
        guided: Session that the guided calibration is performed from.
        later: Session that is scored.
    """

    def __init__(self, recordings: list[Recording], guided: str, later: str) -> None:
        self.gestures = recordings[0].gestures
        self.rate = recordings[0].sampling_rate
        self._performed = {
            (one.session, marked.gesture, marked.repetition): one.signal[marked.start : marked.stop]
            for one in recordings
            for marked in one.annotations
        }
        self._guided, self._later = guided, later
        resting = rest_of(self.gestures)
        self.rest = self.performed(guided, 0 if resting is None else resting, 0)

    def performed(self, session: str, gesture: int, repetition: int) -> Signal:
        """A performance; the repetitions begin again where there are not so many."""
        count = sum(key[:2] == (session, gesture) for key in self._performed)
        return self._performed[session, gesture, repetition % count]

    def asked(self, guide: dict[str, object]) -> Signal:
        """What is performed now that the page shows ``guide``."""
        if guide["phase"] != "perform":
            return self.rest
        gesture = self.gestures.index(str(guide["gesture"]))
        return self.performed(self._guided, gesture, int(str(guide["repetition"])) - 1)

    def later(self) -> list[tuple[int, Signal]]:
        """The gestures of the session that is scored, each once or oftener, in order."""
        return [
            (gesture, signal)
            for (session, gesture, _), signal in self._performed.items()
            if session == self._later
        ]


class Ear:
    """Follows the page's socket, performs what is asked, and keeps what is decided.

    Attributes:
        phase: Of the guided calibration.
        expected: What the page says of the accuracy to expect.
        decisions: Sample and gesture of each decision, and when it came.
    """

    def __init__(self, address: str, person: Person, device: Device) -> None:
        self.phase, self.expected, self.line = "idle", "", ""
        self.decisions: list[tuple[int, str | None, float]] = []
        self._person, self._device = person, device
        url, settings = page_socket(address)
        self._socket = connect(url, **settings)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _listen(self) -> None:
        for message in self._socket:  # until it is closed
            if isinstance(message, bytes):
                continue
            told = json.loads(message)
            if told["type"] == "decision":
                self.decisions.append((told["sample"], told["gesture"], time.monotonic()))
            elif told["type"] == "guide":
                begins = told["phase"] == "perform" and self.phase != "perform"
                self.phase, self.line = told["phase"], told["line"]
                self.expected = (told["expected"] or {}).get("line", self.expected)
                if begins:
                    time.sleep(REACTION)
                self._device.wanted = self._person.asked(told)


def guided(browser: Browser, address: str, ear: Ear, repetitions: int) -> tuple[float, str]:
    """Go through the calibration on the page; return how long learning took, and what to expect."""
    browser.open(address, "calibrate")
    browser.wait(lambda: browser.find("#guide-repetitions").is_displayed(), 30)
    browser.choose("#guide-repetitions", str(repetitions))
    _click(browser, "Start")
    while ear.phase not in ("review", "failed"):
        time.sleep(0.02)
    if ear.phase == "failed" or ear.line:
        raise SystemExit(f"guided calibration: {ear.line or ear.phase}")
    performed, known = time.monotonic(), len(ear.decisions)
    _click(browser, "Learn from these")
    while ear.phase != "failed" and len(ear.decisions) == known:
        time.sleep(0.005)
    if ear.phase == "failed":
        raise SystemExit(f"guided calibration: {ear.line}")
    return ear.decisions[known][2] - performed, ear.expected


def _click(browser: Browser, text: str) -> None:
    browser.wait(lambda: browser.text("#guide button.primary") == text)
    browser.run("document.querySelector('#guide button.primary').click()")


def scored(ear: Ear, person: Person, device: Device) -> tuple[float, int, int]:
    """Perform the other session; return the share of right decisions, and how many of how many."""
    right = total = withheld = 0
    for gesture, signal in person.later():
        begin = device.sent
        device.wanted = signal
        time.sleep(len(signal) / person.rate)
        end = device.sent
        time.sleep(0.2)
        settled = begin + round(SETTLED * person.rate)
        for sample, decided, _ in list(ear.decisions):
            if settled <= sample < end:
                total += 1
                right += decided == person.gestures[gesture]
                withheld += decided is None
    return right / max(total, 1), total, withheld


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("population", type=Path)
    parser.add_argument("--dataset", default="myo")
    parser.add_argument("--subject", default="evaluation-Male0")
    parser.add_argument("--session", default="training0")
    parser.add_argument("--then", default="Test1")
    parser.add_argument("--repetitions", type=int, default=4)
    given = parser.parse_args()
    print(machine())
    recordings = open_dataset(given.dataset).recordings(given.subject)
    person = Person(list(recordings), given.session, given.then)
    port = _free()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "myodistill", "live", str(given.population),
            "--source", f"tcp-listen:{port}", "--port", "0", "--subject", given.subject,
            "--record", f"{folder}/person", "--out", f"{folder}/bundle",
        ]  # fmt: skip
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = re.sub(r"\s", "", server.stdout.readline())
        device = Device(port, person.rate, person.rest)
        ear = Ear(address, person, device)
        browser = Browser(1280, 900)
        try:
            begin = time.monotonic()
            seconds, expected = guided(browser, address, ear, given.repetitions)
            print(
                f"{given.subject}: {len(person.gestures)} gestures x {given.repetitions} in "
                f"{time.monotonic() - begin - seconds:.0f} s; the first decision came "
                f"{seconds:.1f} s after the last repetition"
            )
            share, total, withheld = scored(ear, person, device)
            print(
                f"live on {given.then}: {100 * share:.1f} % of {total} decisions right, {withheld} "
                f"withheld; {ear.expected or expected or 'nothing said of what to expect'}"
            )
        finally:
            browser.close()
            ear.close()
            device.close()
            server.terminate()
            server.wait(timeout=20)
    if seconds >= LIMIT:
        raise SystemExit(f"{seconds:.1f} s: expected less than {LIMIT:.0f}")


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main()
