"""Keys that are held for another process, and released when it is silent or has gone.

It runs beside the decoder as a process of its own, so that no end of the decoder, not even a kill,
leaves a key pressed. Each line of its standard input is a JSON list of the keys to hold from now.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any, Protocol

from myodistill.errors import SettingsError, ToolError, one_line, shown

_LINE = 1 << 12  # bytes of the longest line; longer ones hold nothing


class Keyboard(Protocol):
    """Presses keys by name."""

    def press(self, key: str) -> None:
        """Press a key down."""

    def release(self, key: str) -> None:
        """Let a key go."""


class HeldKeys:
    """The keys that are down.

    Args:
        keyboard: Where they are.
    """

    def __init__(self, keyboard: Keyboard) -> None:
        self._keyboard = keyboard
        self._down: list[str] = []

    def hold(self, keys: Iterable[str]) -> None:
        """Release all others and press these, in order; if one cannot be, all are released."""
        wanted = list(dict.fromkeys(keys))
        self._release([key for key in self._down if key not in wanted])
        try:
            for key in wanted:
                if key not in self._down:
                    self._down.append(key)  # before it is pressed: half a press is released, too
                    self._keyboard.press(key)
        except BaseException:
            self.release_all()
            raise

    def release_all(self) -> None:
        """Release every key, the newest first."""
        self._release(list(self._down))

    def _release(self, keys: list[str]) -> None:
        failed: Exception | None = None
        for key in reversed(keys):
            try:
                self._keyboard.release(key)
                self._down.remove(key)
            except Exception as error:  # the others are released first; it is tried again
                failed = error
        if failed is not None:
            raise failed


def serve(handle: int, keyboard: Keyboard, seconds: float) -> None:
    """Hold the keys that come, until the other side has gone.

    Args:
        handle: Of a pipe; each line replaces what was held.
        keyboard: Where they are pressed.
        seconds: Of silence after which all are released.
    """
    held, rest = HeldKeys(keyboard), b""
    try:
        while True:
            if not select.select([handle], [], [], seconds)[0]:
                held.release_all()
                continue
            data = os.read(handle, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            if lines or len(rest) > _LINE:
                rest = rest[:_LINE]
                held.hold(_keys(lines[-1] if lines else b""))  # the newest alone: none is late
    finally:
        with suppress(Exception):
            held.release_all()
        held.release_all()  # what failed for a moment is tried again


def _keys(line: bytes) -> list[str]:
    """Read a line; one that cannot be read holds nothing."""
    try:
        keys = json.loads(line) if len(line) <= _LINE else []
    except (ValueError, RecursionError):
        return []
    sound = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return keys if sound else []


class Pynput:
    """The keyboard of this machine's desktop, through pynput.

    Args:
        names: Of the keys that are used: one character, or a name of ``pynput.keyboard.Key``.

    Raises:
        ToolError: pynput is not installed, or there is no desktop.
        SettingsError: A name is unknown.
    """

    def __init__(self, names: Iterable[str]) -> None:
        try:
            module = import_module("pynput.keyboard")
        except ModuleNotFoundError:
            raise ToolError(
                "pynput: expected it to be installed, it is not; pip install 'myodistill[keys]'"
            ) from None
        except Exception as error:  # whatever its way to the desktop raises
            reason = one_line(str(error), 80)
            raise ToolError(f"pynput: expected a desktop with a keyboard, got: {reason}") from None
        self._controller = module.Controller()
        self._codes: dict[str, Any] = {}
        for name in names:
            code = name if len(name) == 1 else getattr(module.Key, name, None)
            if code is None:
                raise SettingsError(f"keys: expected a key as a, space or left, got {shown(name)}")
            self._codes[name] = code

    def press(self, key: str) -> None:
        """Press a key down."""
        self._controller.press(self._codes[key])

    def release(self, key: str) -> None:
        """Let a key go."""
        self._controller.release(self._codes[key])


def main(make: Callable[[Iterable[str]], Keyboard] = Pynput) -> None:
    """Run as a process: seconds of silence and the keys' names are its arguments."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that is for the decoder, which ends this
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        keyboard = make(sys.argv[2:])
    except (ToolError, SettingsError) as error:
        print(error, flush=True)
        raise SystemExit(2) from None
    print("ready", flush=True)
    serve(sys.stdin.fileno(), keyboard, float(sys.argv[1]))


if __name__ == "__main__":
    main()
