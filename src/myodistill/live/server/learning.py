"""From the recordings of a guided calibration to a decoder, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from myodistill.datasets.recording import Recording
from myodistill.errors import OutputError, one_line
from myodistill.plugins import loaded_plugins
from myodistill.realtime.models import load_model
from myodistill.realtime.windows import Model

EXPECTED = "expected accuracy"
"""How the line of ``myodistill calibrate`` begins that says what to expect."""


def _nothing_later() -> str:
    return ""


@dataclass(frozen=True)
class Learned:
    """What calibration made.

    Attributes:
        model: Ready to decode.
        expected: A line about the accuracy to expect; empty where it is not known yet.
        later: Waits for that line; empty where it does not come.
    """

    model: Model
    expected: str = ""
    later: Callable[[], str] = _nothing_later


class Calibrate(Protocol):
    """Makes a decoder from a person's recordings; called in a thread of its own.

    Raises:
        MyoDistillError: It cannot.
    """

    def __call__(self, recordings: Sequence[Recording]) -> Learned:
        """Return what was made of them."""

    def close(self) -> None:
        """Break off what is being made."""


class CommandCalibration:
    """Runs ``myodistill calibrate`` on a person's folder, so that the stream is not held up.

    The decoder is there before what to expect of it is known, which takes as long again for each
    repetition.

    Args:
        population: Its folder.
        store: The person's folder.
        out: Folder of the bundle.
    """

    def __init__(self, population: Path, store: Path, out: Path) -> None:
        self._words = [str(population), str(store), "--out", str(out)]
        self._out = out
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def __call__(self, recordings: Sequence[Recording]) -> Learned:
        """Calibrate on all of the folder, which holds the recordings already."""
        self._end()
        plugins = [word for name in loaded_plugins() for word in ("--plugin", name)]
        command = [sys.executable, "-m", "myodistill", "calibrate", *self._words, *plugins]
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the stream
            env={**os.environ, **threads, "PYTHONIOENCODING": "utf-8"},
        )
        with self._lock:
            self._process = process
        if self._closed:
            self._end()
        errors: list[str] = []
        assert process.stdout is not None
        assert process.stderr is not None
        stderr = process.stderr
        reader = threading.Thread(target=lambda: errors.extend(stderr), daemon=True)
        reader.start()
        if not process.stdout.readline().startswith("bundle of "):
            process.wait()
            reader.join(timeout=5)
            reason = next((line for line in errors[::-1] if line.startswith("myodistill: ")), "")
            if not reason:
                reason = "calibrate: expected a decoder, it was broken off"
            raise OutputError(one_line(reason.removeprefix("myodistill: "), 380))
        return Learned(load_model(self._out), later=lambda: self._expected(process))

    def _expected(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        lines = [line.strip() for line in process.stdout]
        process.wait()
        return next((line for line in lines if line.startswith(EXPECTED)), "")

    def close(self) -> None:
        """End the process, if one runs, and begin none any more."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                process.kill()
