"""Decisions as keys: nothing is pressed without the dead-man switch, and none stays pressed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from decoding import bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import SIGNAL, free_port, numbered

from myodistill.errors import DataError, SettingsError, ToolError
from myodistill.live import keyboard
from myodistill.live.keyboard import HeldKeys, Pynput
from myodistill.live.keys import KeyFile, KeyMap, Keys, read_mapping
from myodistill.live.running import run_stream
from myodistill.live.session import Session
from myodistill.realtime.decoder import Decoder

GESTURES = ("a", "b", "c")
ABSTAINED = "abstained"
FAKE = """
import sys
from pathlib import Path
from myodistill.live.keyboard import main
log = Path(sys.argv.pop(1)).open("a", buffering=1)
class Fake:
    def __init__(self, names): pass
    def press(self, key): print("press", key, file=log)
    def release(self, key): print("release", key, file=log)
main(Fake)
"""


def mapping(**changes: Any) -> dict[str, Any]:
    values = {
        "keys": {"a": "ctrl+left"},
        "taps": {"b": "space"},
        "dead_man": {"gesture": "c", "seconds": 0.5, "lasts": 5.0},
    }
    return values | changes


def message(gesture: str | None) -> dict[str, Any]:
    abstained = gesture == ABSTAINED
    return {"gesture": None if abstained else gesture, "abstained": abstained}


def pressed(key_map: KeyMap, gestures: list[str | None], step: float = 0.1) -> list[str]:
    return ["+".join(key_map.take(message(one), step * i)) for i, one in enumerate(gestures)]


def test_a_gesture_arms_the_keys_and_its_beginning_disarms_them() -> None:
    key_map = KeyMap(KeyFile.model_validate(mapping()))
    assert key_map.names == ["ctrl", "left", "space"]
    arm = ["c"] * 6
    said = pressed(key_map, ["a", "b", *arm, "a", "a", None, "b", "b", "c", "a", *arm, "a"])
    held = "ctrl+left"
    assert said == ["", "", *[""] * 6, held, held, "", "space", "", "", "", *[""] * 6, held]
    assert pressed(KeyMap(key_map.mapping), [*arm, *["a"] * 60])[-1] == ""  # it lasts five seconds


@pytest.mark.parametrize("broken", [ABSTAINED, "silence"])
def test_abstention_and_silence_disarm(broken: str) -> None:
    key_map = KeyMap(KeyFile.model_validate(mapping()))
    assert pressed(key_map, [*["c"] * 6, "a"])[-1] == "ctrl+left"
    if broken == ABSTAINED:
        assert key_map.take(message(ABSTAINED), 0.7) == ()
        assert key_map.take(message("a"), 0.8) == ()
    else:
        assert key_map.take(message("a"), 1.1) == ()


def test_a_heartbeat_arms_the_keys() -> None:
    dead_man = {"heartbeat": 7000, "seconds": 0.25}
    key_map = KeyMap(KeyFile.model_validate(mapping(dead_man=dead_man)))
    said = []
    for i in range(10):
        if i in (2, 4):
            key_map.beat(0.1 * i)
        said.append(bool(key_map.take(message("a"), 0.1 * i)))
    assert said == [False, False, True, True, True, True, True, False, False, False]
    key_map.beat(9.0)  # it may have waited while nothing was decided
    assert key_map.take(message("a"), 9.0) == ()


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([*GESTURES, None, ABSTAINED]), st.floats(0.01, 1.0)), max_size=60
    )
)
def test_nothing_is_held_unless_the_switch_was_held(steps: list[tuple[str | None, float]]) -> None:
    key_map = KeyMap(KeyFile.model_validate(mapping()))
    now, since, armed, before, fake = 0.0, None, -1.0, None, FakeKeyboard()
    held = HeldKeys(fake)
    for gesture, pause in steps:
        now += pause
        if gesture == ABSTAINED or pause > 0.3:
            armed, since, before = -1.0, None, None
        if gesture == "c":
            since = now if before != "c" or since is None else since
            armed = now + 5.0 if now - since >= 0.5 else -1.0
        before = gesture
        held.hold(key_map.take(message(gesture), now))
        assert not fake.down or (now < armed and gesture in ("a", "b"))
    held.release_all()
    assert not fake.down


class FakeKeyboard:
    def __init__(self, *, broken: str = "", once: str = "") -> None:
        self.down: list[str] = []
        self._broken, self._once = broken, once

    def press(self, key: str) -> None:
        self.down.append(key)
        if key == self._broken:
            raise RuntimeError("no")

    def release(self, key: str) -> None:
        if key == self._once:
            self._once = ""
            raise RuntimeError("not now")
        self.down.remove(key)


def test_a_press_or_release_that_fails_leaves_nothing_pressed() -> None:
    fake = FakeKeyboard(broken="left")
    with pytest.raises(RuntimeError):
        HeldKeys(fake).hold(("ctrl", "left"))
    assert fake.down == []
    fake = FakeKeyboard(once="ctrl")
    reading, writing = os.pipe()
    os.write(writing, b'["ctrl", "x"]\n')
    os.close(writing)
    keyboard.serve(reading, fake, 5.0)
    os.close(reading)
    assert fake.down == []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    dead_man = {"gesture": "c", "seconds": 0.05, "lasts": 30}
    path.write_text(yaml.safe_dump(mapping(keys={"a": "left+up"}, taps={}, dead_man=dead_man)))
    return path


def command(tmp_path: Path) -> list[str]:
    (tmp_path / "log").touch()
    return [sys.executable, "-c", FAKE, str(tmp_path / "log")]


def hold(sink: Any) -> None:
    """Arm, and hold two keys."""
    sink.send(message("c"))
    time.sleep(0.1)
    sink.send(message("c"))
    sink.send(message("a"))


def logged(tmp_path: Path, lines: int) -> list[str]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        said = (tmp_path / "log").read_text().splitlines()
        if len(said) >= lines:
            return said
        time.sleep(0.01)
    raise AssertionError((tmp_path / "log").read_text())


DOWN, UP = ["press left", "press up"], ["release up", "release left"]


@pytest.mark.parametrize("ending", ["close", "withheld", "abstained", "silence", "child is ended"])
def test_every_ordinary_end_releases_the_keys(tmp_path: Path, file: Path, ending: str) -> None:
    sink = Keys(file, GESTURES, command(tmp_path))
    hold(sink)
    assert logged(tmp_path, 2) == DOWN
    if ending == "close":
        sink.close()
        assert (tmp_path / "log").read_text().splitlines() == DOWN + UP
    elif ending == "child is ended":
        sink._process.terminate()
    elif ending != "silence":
        sink.send(message(None if ending == "withheld" else ABSTAINED))
    assert logged(tmp_path, 4) == DOWN + UP
    if ending == "child is ended":
        sink._process.wait(timeout=20)
        sink.send(message("a"))
        assert sink.dropped == 1
    if ending != "close":
        sink.close()
    assert sink._process.returncode == 0
    assert (tmp_path / "log").read_text().splitlines() == DOWN + UP


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGINT])
def test_a_decoder_that_is_killed_or_stopped_leaves_no_key_pressed(
    tmp_path: Path, file: Path, number: signal.Signals
) -> None:
    decoder = (
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "sys.path.insert(0, sys.argv[3])\n"
        "from test_key_sink import command, hold, message, GESTURES\n"
        "from myodistill.live.keys import Keys\n"
        "sink = Keys(Path(sys.argv[1]), GESTURES, command(Path(sys.argv[2])))\n"
        "hold(sink)\n"
        "while True:\n"
        "    sink.send(message('a'))\n"
        "    time.sleep(0.02)\n"
    )
    command(tmp_path)
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    process = subprocess.Popen(
        [sys.executable, "-c", decoder, str(file), str(tmp_path), paths[1]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *sys.path])},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert logged(tmp_path, 2) == DOWN
        process.send_signal(number)
        assert logged(tmp_path, 4) == DOWN + UP
    finally:
        process.kill()
        process.wait(timeout=20)


def test_an_exception_while_decoding_releases_the_keys(tmp_path: Path, file: Path) -> None:
    student = bundle(epochs=1)
    sink = Keys(file, student.spec.gestures, command(tmp_path))
    hold(sink)
    logged(tmp_path, 2)
    chunks = [*numbered(SIGNAL[:200]), *numbered(SIGNAL[:20, :3])]
    with pytest.raises(DataError, match="4 channels"):
        run_stream(Session(Decoder(student)), chunks, sink)
    assert logged(tmp_path, 4) == DOWN + UP
    assert sink._process.returncode == 0


def test_heartbeats_come_by_datagram(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump(mapping(dead_man={"heartbeat": port, "seconds": 0.2})))
    sink = Keys(path, GESTURES, command(tmp_path))
    with pytest.raises(DataError, match=f"expected a free port {port}"):
        Keys(path, GESTURES, command(tmp_path))
    sink.send(message("a"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pedal:
        for _ in range(5):
            pedal.sendto(b"1", ("127.0.0.1", port))
            time.sleep(0.05)
            sink.send(message("a"))
        assert logged(tmp_path, 2) == ["press ctrl", "press left"]
        for _ in range(10):
            time.sleep(0.05)
            sink.send(message("a"))
    assert logged(tmp_path, 4)[2:] == ["release left", "release ctrl"]
    sink.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dead_man": {}}, "a gesture or a heartbeat"),
        ({"dead_man": {"gesture": "c", "heartbeat": 7}}, "not both"),
        ({"dead_man": {"gesture": "z"}}, "unknown gesture 'z'"),
        ({"keys": {"z": "x"}}, "unknown gesture 'z'"),
        ({"keys": {"c": "x"}}, "the gesture of dead_man to press nothing"),
        ({"keys": [1]}, "keys"),
        ({"mouse": {}}, "mouse"),
        ({"release_after": 60}, "release_after"),
    ],
)
def test_a_file_that_is_no_mapping_is_one_line(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump(mapping(**change)))
    with pytest.raises(SettingsError) as caught:
        read_mapping(path, GESTURES)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    path.write_text(yaml.safe_dump({"keys": {"a": "x"}}))
    with pytest.raises(SettingsError, match="dead_man"):
        read_mapping(path, GESTURES)


def test_a_machine_without_pynput_is_one_line(tmp_path: Path, file: Path) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyboard, "import_module", absent)
        with pytest.raises(ToolError, match=r"pip install 'myodistill\[keys\]'"):
            Pynput(["a"])
    blocked = "import sys; sys.modules['pynput'] = None; from myodistill.live import keyboard"
    with pytest.raises(ToolError, match=r"pip install 'myodistill\[keys\]'"):
        Keys(file, GESTURES, [sys.executable, "-c", f"{blocked}; keyboard.main()"])
    with pytest.raises(ToolError, match="expected the keyboard within"):
        Keys(file, GESTURES, [sys.executable, "-c", ""])
