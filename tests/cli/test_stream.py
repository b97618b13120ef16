"""`myodistill stream`, as a user runs it."""

from __future__ import annotations

import json
import select
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from commands import call, refused
from decoding import adaptable, bundle
from people import record, write
from streams import SIGNAL, connected, free_port
from watched import decoder_files, start

from myodistill.bundle import Bundle
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.runtime import OnnxModel

HEAVY = """sorted({"torch", "pandas", "pyarrow"} & set(sys.modules))"""


@pytest.fixture(scope="module")
def student() -> Bundle:
    return adaptable(bundle(epochs=5))


@pytest.fixture
def files(student: Bundle, tmp_path: Path) -> Path:
    """A folder with a bundle, its exported form, and a take."""
    return decoder_files(student, tmp_path)


def run(folder: Path, *words: str) -> subprocess.Popen[str]:
    return start(folder, HEAVY, "stream", *words)


def test_a_replay_decides_as_offline(
    files: Path,
    student: Bundle,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["stream", "anna", "--source", "replay:take.npy", "--speed"]
    for speed in ("0", "5"):
        code, out, err = call(capsys, monkeypatch, *words, speed)
        assert code == 0
        lines = [json.loads(line) for line in out.splitlines()]
        expected = Decoder(student).push(SIGNAL)
        assert [(one["sample"], one["confidence"]) for one in lines] == [
            (one.sample, one.confidence) for one in expected
        ]
        assert set(lines[0]) == {"seconds", "sample", "gesture", "confidence", "abstained"}
        last = err.splitlines()[-1]
        assert last.startswith(
            f"1800 samples; {len(expected)} decisions; 0 abstained; 0 gaps (0 samples lost); "
            "0 duplicated; 0 late; 0 broken; 0 messages refused; 0 silences; rate not measured; "
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_an_exported_file_needs_no_torch(
    files: Path, number: signal.Signals
) -> None:
    port = free_port()
    words = ["--source", f"tcp-listen:{port}", "--adapt", "--state", "anna.state"]
    process = run(files, "anna.onnx", *words)
    with connected(port) as device:
        message = {"samples": SIGNAL[:300].tolist(), "seq": 0}
        device.sendall(json.dumps(message).encode() + b"\n")
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 20)[0]
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    *_, summary, loaded = err.splitlines()
    assert loaded == "[]"
    assert summary.startswith("300 samples; 9 decisions; 0 abstained; 0 gaps (0 samples lost); ")
    assert len(out.splitlines()) == 9
    decoder = Decoder(OnnxModel.load(files / "anna.onnx"), adapt=True)
    decoder.push(SIGNAL[:300])
    assert decoder.adapter is not None
    assert (files / "anna.state").read_text() == decoder.adapter.state()


def test_a_state_goes_on_and_belongs_to_one_bundle(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["stream", "anna.onnx", "--source", "replay:take.npy", "--speed", "0", "--adapt"]
    code, first, _ = call(capsys, monkeypatch, *words, "--state", "s")
    before = (files / "s").read_text()
    again, second, _ = call(capsys, monkeypatch, *words, "--state", "s")
    assert code == again == 0
    assert first != second
    assert (files / "s").read_text() != before
    for text, told in (
        (before.replace('"adaptation": "', '"adaptation": "0'), "it belongs to another one"),
        ("nonsense", "expected a state that a decoder saved"),
    ):
        (files / "s").write_text(text)
        assert told in refused(capsys, monkeypatch, *words, "--state", "s")
        assert (files / "s").read_text() == text
    Path("file").touch()
    code, shown, line = call(capsys, monkeypatch, *words, "--state", "file/s")
    assert (code, shown) == (2, "")
    assert "file/s" in line
    line = refused(capsys, monkeypatch, *words[:-1], "--state", "s")
    assert "expected --adapt beside --state" in line


def test_bad_input_is_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(files / "three.npy", SIGNAL[:, :3])
    for words, told in {
        ("anna", "--source", "nothing:here"): "unknown source 'nothing'",
        ("anna", "--source", "replay"): "expected NAME:ADDRESS",
        ("anna", "--source", "replay:none.npy"): "there is no file",
        ("anna", "--source", "replay:synthetic"): "a person of 'synthetic', got none; add one, as",
        ("anna", "--source", "replay:synthetic,Person99"): "unknown subject 'Person99'",
        ("anna", "--source", "replay:synthetic,Person5,x"): "unknown session 'x'",
        ("anna", "--source", "replay:synthetic,a,b,c"): "expected DATASET,SUBJECT,SESSION",
        ("anna", "--source", "replay:synthetic,Person5"): "4 channels at 1000 Hz, Person5 has 8",
        ("anna", "--source", "udp:7", "--loop"): "loop: expected a replay, got the source 'udp:7'",
        ("anna", "--source", "replay:three.npy"): "4 channels), got (20, 3)",
        ("anna", "--source", "udp:99999"): "expected HOST:PORT or a port",
        ("anna", "--source", "replay:take.npy", "--to", "carrier-pigeon"): "to: expected json",
        ("none", "--source", "replay:take.npy"): "none",
        ("none.onnx", "--source", "replay:take.npy"): "expected an exported student",
        ("take.npy", "--source", "replay:take.npy"): "take.npy",
    }.items():
        assert told in refused(capsys, monkeypatch, "stream", *words)


@pytest.mark.parametrize("gone", [False, True])
def test_a_reader_that_does_not_read_or_has_gone_holds_nothing_up(files: Path, gone: bool) -> None:
    """Of a live stream; 200 kB of decisions do not fit into a pipe."""
    port = free_port()
    process = run(files, "anna.onnx", "--source", f"tcp-listen:{port}", "--rate-after", "0")
    assert process.stdout is not None
    assert process.stderr is not None
    with connected(port) as device:
        if gone:
            process.stdout.close()
        for begin in range(0, 75_000, 300):
            message = {"samples": SIGNAL[:300].tolist(), "seq": begin}
            device.sendall(json.dumps(message).encode() + b"\n")
    for line in process.stderr:
        if "the device is gone" in line:
            break
    process.send_signal(signal.SIGTERM)
    err = process.stderr.read()
    assert process.wait(timeout=20) == 0, err
    summary = err.splitlines()[-2]
    assert "decisions not delivered" in summary
    if not gone:
        process.stdout.close()
    process.stderr.close()


def test_decisions_go_where_they_are_sent(files: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        to = f"udp:127.0.0.1:{receiver.getsockname()[1]}"
        process = run(files, "anna.onnx", "--source", "replay:take.npy", "--to", to, "--speed", "0")
        first = json.loads(receiver.recv(2000))
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, ""), err
    assert first["sample"] == 100


def test_a_person_of_a_dataset_is_replayed_session_by_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = record(subjects=1, hold=150)
    write(tmp_path / "people", takes, sampling_rate=1000)
    other = bundle(epochs=1)
    other.save(tmp_path / "anna")
    days = [takes["P1", day]["emg"] for day in ("day1", "day2")]
    gap = np.full((100, 4), np.nan, np.float32)
    monkeypatch.chdir(tmp_path)
    for person, parts in (
        ("people/people.yaml", [days[0], gap, days[1]]),
        ("people/people.yaml,P1,day2", days[1:]),
    ):
        words = ["stream", "anna", "--source", f"replay:{person}", "--speed", "0"]
        code, out, err = call(capsys, monkeypatch, *words)
        assert code == 0, err
        expected = Decoder(other).push(np.concatenate(parts))
        got = [(one["sample"], one["confidence"]) for one in map(json.loads, out.splitlines())]
        assert got == [(one.sample, one.confidence) for one in expected]
        assert "replay: P1, session day2, in " in err
        code, out, _ = call(capsys, monkeypatch, "decode", *words[1:4])
        assert code == 0
        assert len(out.splitlines()) == len(got)


def test_a_replay_begins_again(files: Path, student: Bundle) -> None:
    np.save(files / "short.npy", SIGNAL[:400])
    words = ["--source", "replay:short.npy", "--speed", "0", "--loop"]
    process = run(files, "anna.onnx", *words)
    assert process.stdout is not None
    whole = np.concatenate([SIGNAL[:400], np.full((100, 4), np.nan), SIGNAL[:400]])
    for one in Decoder(student).push(whole):
        assert json.loads(process.stdout.readline())["confidence"] == pytest.approx(
            one.confidence, abs=1e-5
        )
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    np.save(files / "none.npy", SIGNAL[:0])
    process = run(files, "anna.onnx", "--source", "replay:none.npy", "--loop")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2, err


def test_a_source_of_a_plugin(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "mine.py").write_text(
        "import numpy as np\n"
        "from myodistill.realtime.sources import register_source\n"
        "@register_source('mine-alone')\n"
        "def mine(address, spec):\n"
        "    yield np.ones((int(address), spec.channels))\n"
    )
    words = ["stream", "anna", "--plugin", str(files / "mine.py"), "--source", "mine-alone:300"]
    code, out, err = call(capsys, monkeypatch, *words)
    assert (code, len(out.splitlines())) == (0, 9)
    assert err.splitlines()[-1].startswith("300 samples; 9 decisions")


def test_headless_with_metrics_and_a_log_for_machines(files: Path) -> None:
    port, web = free_port(), free_port()
    words = ["--source", f"tcp-listen:{port}", "--metrics", f"127.0.0.1:{web}", "--log", "json"]
    process = run(files, "anna.onnx", *words)
    assert process.stdout is not None
    with connected(port) as device:
        for begin in (0, 320):
            message = {"samples": SIGNAL[begin : begin + 300].tolist(), "seq": begin}
            device.sendall(json.dumps(message).encode() + b"\n")
        process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/health", timeout=20) as answer:
            assert json.loads(answer.read())["status"] == "ok"
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/metrics", timeout=20) as answer:
            assert b"myodistill_decisions_total" in answer.read()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    *lines, loaded = err.splitlines()
    events = [json.loads(line) for line in lines]
    assert loaded == "[]"
    assert all({"time", "level", "event", "message"} <= set(one) for one in events)
    gap = next(one for one in events if one["event"] == "gap")
    assert (gap["level"], gap["lost"]) == ("warning", 20)
    last = events[-1]
    assert (last["event"], last["level"], last["samples"], last["lost"]) == (
        "summary",
        "info",
        600,
        20,
    )


def test_an_error_is_an_event_of_such_a_log(files: Path) -> None:
    process = run(files, "anna.onnx", "--source", "replay:none.npy", "--log", "json")
    _, err = process.communicate(timeout=20)
    line, _ = err.splitlines()
    told = json.loads(line)
    assert (process.returncode, told["event"], told["level"]) == (2, "error", "error")
    assert "there is no file" in told["message"]
