"""Decisions as keys that are held or tapped, behind a dead-man switch."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from myodistill.errors import DataError, SettingsError, ToolError, Wanted, one_line, unknown_name
from myodistill.live.network import host_and_port
from myodistill.readers import read_yaml

KEYBOARD = (sys.executable, "-m", "myodistill.live.keyboard")
"""The process that holds the keys."""

_START = 10.0  # seconds that it may take to start
_WANTED = Wanted("a mapping of gestures to keys with a dead_man", SettingsError)


class DeadMan(BaseModel):
    """Without it nothing is pressed.

    Attributes:
        gesture: Held for ``seconds`` it arms the keys for ``lasts`` seconds; its beginning disarms
            them.
        heartbeat: Or a port on which datagrams arm the keys for ``seconds`` each.
        seconds: See there.
        lasts: See there.
    """

    model_config = ConfigDict(extra="forbid")
    gesture: str = ""
    heartbeat: str = ""
    seconds: float = Field(default=1.0, gt=0, le=60)
    lasts: float = Field(default=10.0, gt=0, le=3600)

    @model_validator(mode="before")
    @classmethod
    def _port_as_text(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("heartbeat"), int):
            return values | {"heartbeat": str(values["heartbeat"])}
        return values

    @model_validator(mode="after")
    def _one_of_them(self) -> DeadMan:
        if bool(self.gesture) == bool(self.heartbeat):
            raise ValueError("dead_man needs a gesture or a heartbeat, and not both")
        return self


class KeyFile(BaseModel):
    """What a file says.

    Attributes:
        keys: By gesture the keys, joined by ``+``, that are held as long as it is decided.
        taps: The same for keys that are pressed once when it begins.
        dead_man: What must be there for anything to be pressed.
        release_after: Seconds without a decision after which all is released.
    """

    model_config = ConfigDict(extra="forbid")
    keys: dict[str, str] = {}
    taps: dict[str, str] = {}
    dead_man: DeadMan
    release_after: float = Field(default=0.3, ge=0.05, le=2)


class KeyMap:
    """What is to be held after each decision; pure: time is told.

    Args:
        mapping: What the file says.
    """

    def __init__(self, mapping: KeyFile) -> None:
        self.mapping = mapping
        self._held = {name: _names(keys) for name, keys in mapping.keys.items()}
        self._tapped = {name: _names(keys) for name, keys in mapping.taps.items()}
        self._gesture: str | None = None
        self._since = self._newest = self._armed = float("-inf")

    @property
    def names(self) -> list[str]:
        """The keys that may be pressed."""
        every = [*self._held.values(), *self._tapped.values()]
        return sorted({key for keys in every for key in keys})

    def beat(self, now: float) -> None:
        """Take a heartbeat."""
        self._armed = now + self.mapping.dead_man.seconds

    def take(self, message: Mapping[str, Any], now: float) -> tuple[str, ...]:
        """Return the keys to hold from now, in order, after a decision at a time in seconds."""
        dead_man, gesture = self.mapping.dead_man, message["gesture"]
        silent = now - self._newest > self.mapping.release_after
        self._newest = now
        if message["abstained"] or silent:  # after silence a heartbeat may have waited, too
            self._gesture, self._armed = None, float("-inf")
        begins = gesture != self._gesture
        if begins:
            self._gesture, self._since = gesture, now
        if gesture is not None and gesture == dead_man.gesture:
            long = now - self._since >= dead_man.seconds
            self._armed = now + dead_man.lasts if long else float("-inf")
            return ()
        if gesture is None or now >= self._armed:
            return ()
        return self._held.get(gesture, ()) + (self._tapped.get(gesture, ()) if begins else ())


def _names(keys: str) -> tuple[str, ...]:
    return tuple(part.strip() or "+" for part in keys.split("+")) if keys != "+" else ("+",)


def read_mapping(path: Path, gestures: Sequence[str]) -> KeyMap:
    """Read a YAML file of keys.

    Raises:
        SettingsError: It is none, has no dead-man switch, or names another gesture.
    """
    values = read_yaml(path, _WANTED)
    with _WANTED.reading(path):
        mapping = KeyFile.model_validate(values)
    named = [*mapping.keys, *mapping.taps, mapping.dead_man.gesture]
    for name in filter(None, named):
        if name not in gestures:
            raise SettingsError(f"keys: {unknown_name('gesture', name, gestures)}")
    switch = mapping.dead_man.gesture
    if switch and (switch in mapping.keys or switch in mapping.taps):
        raise SettingsError("keys: expected the gesture of dead_man to press nothing, it has a key")
    return KeyMap(mapping)


class Keys:
    """A sink that presses keys through a process beside it, which releases them whatever happens.

    Args:
        path: The YAML file.
        gestures: That are decided.
        command: The process that holds the keys; it is told the seconds and the keys' names.

    Raises:
        SettingsError: The file is no mapping, or names an unknown key.
        ToolError: There is no keyboard to press, or pynput is missing.
        DataError: The heartbeat's port is taken.
    """

    def __init__(
        self, path: Path, gestures: Sequence[str], command: Sequence[str] = KEYBOARD
    ) -> None:
        self.dropped = 0
        self._map = read_mapping(path, gestures)
        self._beats = _listen(self._map.mapping.dead_man.heartbeat)
        words = [str(self._map.mapping.release_after), *self._map.names]
        self._process = subprocess.Popen(
            [*command, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the decoder
        )
        said = self._answer()
        if said != "ready":
            self.close()
            kind = SettingsError if said.startswith("keys:") else ToolError
            raise kind(said or f"keys: expected the keyboard within {_START:g} s, got no answer")
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)

    def send(self, message: Mapping[str, Any]) -> None:
        """Hold the keys of a decision from now."""
        now = time.monotonic()
        if self._beats is not None and _drained(self._beats):
            self._map.beat(now)
        line = json.dumps(self._map.take(message, now)).encode() + b"\n"
        try:
            os.write(self._pipe, line)  # whole or not at all, as short as it is
        except OSError:  # it is busy, or gone: then all is released
            self.dropped += 1

    def close(self) -> None:
        """Release all; the process ends when its pipe does."""
        if self._beats is not None:
            self._beats.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:  # it releases the keys before it ends
            self.dropped += 1

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _START)[0]:
            return ""
        return one_line(self._process.stdout.readline().decode(errors="replace").strip(), 200)


def _listen(address: str) -> socket.socket | None:
    if not address:
        return None
    host, port = host_and_port(address)
    beats = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        beats.bind((host, port))
    except OSError as error:
        beats.close()
        raise DataError(f"keys: expected a free port {port}, got: {error.strerror}") from None
    beats.setblocking(False)
    return beats


def _drained(beats: socket.socket) -> bool:
    """Return whether datagrams have come; a flood is not waited for."""
    came = False
    for _ in range(64):
        try:
            beats.recv(64)
        except OSError:
            break
        came = True
    return came
