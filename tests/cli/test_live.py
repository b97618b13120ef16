"""`myodistill live`, as a user runs it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import refused
from decoding import adaptable, bundle
from page_socket import page_socket
from pages import until
from people import record, write
from streams import SIGNAL, connected, free_port
from watched import decoder_files, start
from websockets.asyncio.client import connect

from myodistill import pretrain
from myodistill.bundle import Bundle
from myodistill.datasets.synthetic import Synthetic
from myodistill.live.server.serving import listen


@pytest.fixture(scope="module")
def student() -> Bundle:
    return adaptable(bundle(epochs=5))


@pytest.fixture
def files(student: Bundle, tmp_path: Path) -> Path:
    """A folder with a bundle, its exported form, and a take."""
    return decoder_files(student, tmp_path)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("populations") / "three"
    dataset = Synthetic(subjects=3, seconds=0.5, repetitions=1, gestures=("rest", "power grip"))
    pretrain(dataset, out=folder, teacher_model=["population"], student_model=["log-power-10k"],
             pretrain_student={"num_epochs": 1})  # fmt: skip
    return folder


def run(folder: Path, *words: str) -> subprocess.Popen[str]:
    return start(folder, '"torch" in sys.modules', "live", *words)


async def first_messages(address: str) -> tuple[dict[str, object], dict[str, object]]:
    """Open an address as a browser does; return what a page is told first, and a decision."""
    url, settings = page_socket(address)
    async with connect(url, **settings) as one:
        return await until(one, "hello"), await until(one, "decision", seconds=10)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_until_it_is_stopped(files: Path, end: signal.Signals) -> None:
    words = ("anna.onnx", "--source", "replay:take.npy", "--loop", "--port", "0", "--adapt",
             "--state", "anna.state", "--record", "folder", "--subject", "anna")  # fmt: skip
    process = run(files, *words)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    hello, decision = asyncio.run(first_messages(address))
    assert (hello["name"], hello["source"]) == ("anna.onnx", "replay:take.npy")
    assert hello["adapt"] == {"available": True, "on": True, "suspended": False}
    assert hello["record"]
    assert decision["sample"]
    process.send_signal(end)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    *_, summary, torch = err.strip().splitlines()
    assert "decisions" in summary
    assert torch == "False"
    assert "adaptation" in (files / "anna.state").read_text()


def test_a_source_that_fails_later_is_told_and_the_page_stays(files: Path) -> None:
    port = free_port()
    process = run(files, "anna.onnx", "--source", f"tcp-listen:{port}", "--port", "0")
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    with connected(port) as device:
        device.sendall(b"garbage\n" * 30)

    async def look() -> str:
        url, settings = page_socket(address)
        async with connect(url, **settings) as one:
            return str((await until(one, "counters", seconds=10, state="ended"))["type"])

    assert asyncio.run(look()) == "counters"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert err.count("none of the first 20 messages could be read") == 1


def test_without_a_source_somebody_who_does_not_exist_is_shown(files: Path) -> None:
    process = run(files, "anna", "--port", "0")
    assert process.stdout is not None
    hello, _ = asyncio.run(first_messages(process.stdout.readline().strip()))
    assert "generated" in str(hello["source"])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_what_cannot_be_shown_is_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(*words: str) -> str:
        return refused(capsys, monkeypatch, "live", *words, "--port", "0")

    anna = str(files / "anna")
    closed = free_port()
    np.save(files / "three.npy", SIGNAL[:, :3])
    three = line(anna, "--source", "replay:three.npy")
    assert "expected samples of shape (time, 4 channels), got (20, 3)" in three
    assert "start the device first" in line(anna, "--source", f"tcp:127.0.0.1:{closed}")
    assert "NAME:ADDRESS" in line(anna, "--source", "nonsense")
    assert "unknown source" in line(anna, "--source", "sing:song")
    assert "expected a replay" in line(anna, "--source", f"udp:{closed}", "--loop")
    assert "expected an address of this machine" in line(anna, "--host", "no such host")
    assert "add --population" in line(anna, "--out", "new")
    assert "add --record" in line(anna, "--subject", "anna")
    assert "expected --adapt beside --state" in line(anna, "--state", "anna.state")
    assert "expected a bundle" in line(str(files / "none"))
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        said = refused(capsys, monkeypatch, "live", anna, "--port", port)
    assert said.startswith(f"myodistill: port: expected {port} of '127.0.0.1' to be free")
    assert "--port 0" in said
    (files / "anna" / "weights.safetensors").write_bytes(b"damaged")
    assert "anna" in line(anna)
    assert not (files / "people").exists()


def test_recordings_of_another_kind_are_refused(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(source: str) -> str:
        return refused(capsys, monkeypatch, "live", str(files / "anna"), "--port", "0",
                       "--source", source)  # fmt: skip

    path = write(files / "others", record(subjects=1), unit="V")
    assert "expected samples in 'mV', those of" in line(f"replay:{path},P1")
    path = write(files / "more", record(subjects=1), unit="mV")
    assert "expected 4 channels at 1000 Hz, P1 has 4 at 500 Hz" in line(f"replay:{path},P1")


def test_a_population_needs_somebody_to_calibrate_for(
    people: Path, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(*words: str) -> str:
        return refused(capsys, monkeypatch, "live", *words, "--port", "0")

    assert "add --subject" in line(str(people))
    assert "'Person1' is; give another name" in line(str(people), "--subject", "Person1")
    assert "name of 1 to 100 printable" in line(str(people), "--subject", "../x")
    assert "expected a decoder that learned it" in line(
        str(people), "--subject", "zoe", "--state", "zoe.state", "--adapt"
    )
    other = line(str(files / "anna"), "--population", str(people), "--subject", "zoe")
    assert "expected the channels of the decoder, 4, got 8" in other


def test_a_population_shows_its_page(people: Path, tmp_path: Path) -> None:
    words = (str(people), "--port", "0", "--subject", "zoe", "--host", "0.0.0.0")
    process = run(tmp_path, *words)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    url, settings = page_socket(address)

    async def look() -> dict[str, object]:
        async with connect(url, **settings) as one:
            return await until(one, "hello")

    hello = asyncio.run(look())
    assert (hello["mode"], hello["guide"], hello["gestures"]) == (
        "calibrate", True, ["rest", "power grip"],
    )  # fmt: skip
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "warning: everybody who can reach 0.0.0.0" in err
    assert not (tmp_path / "people").exists()
