"""Sources that need a library: run where it is installed, refused in one line where it is not."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding import RATE, bundle

from myodistill import live
from myodistill.datasets.recording import SignalSpec, ring
from myodistill.errors import DataError, SettingsError, ToolError
from myodistill.live import boards, libraries
from myodistill.live.boards import PackageNumbers
from myodistill.live.lsl import _stretches
from myodistill.live.session import Session
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.sources import Chunk, open_chunks

live.register_sources()
SPEC = SignalSpec(ring(8), 100, 250.0, ("a", "b"))


@pytest.mark.parametrize("source", ["lsl:myo", "brainflow:synthetic", "serial:/dev/nothing"])
def test_a_library_that_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(libraries, "import_module", absent)
    with pytest.raises(ToolError, match=r"not; pip install 'myodistill\[live\]'"):
        next(open_chunks(source, SPEC))


def collect(source: str, samples: int) -> list[Chunk]:
    chunks, end = [], time.monotonic() + 20
    for chunk in open_chunks(source, SPEC):
        chunks.append(chunk)
        if sum(len(one.samples) for one in chunks) >= samples:
            return chunks
        assert time.monotonic() < end
    raise AssertionError(source)


def test_lsl_by_name_and_by_type() -> None:
    pylsl = pytest.importorskip("pylsl")
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("wrist", "armband", 8, 250.0, "float32", "one"))
    over = threading.Event()

    def send() -> None:
        count = 0
        while not over.wait(0.02):
            if outlet.have_consumers():
                outlet.push_chunk([[float(count + k)] * 8 for k in range(5)])
                count += 5

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        for name in ("wrist", "armband"):
            chunks = collect(f"lsl:{name}", 100)
            assert chunks[0].joined
            values = [row[0] for chunk in chunks for row in chunk.samples]
            assert set(np.diff(values)) == {1.0}
            assert all(chunk.time is not None for chunk in chunks if len(chunk.samples))
        with pytest.raises(
            DataError, match=r"or type 'legs', got 0; there are: .*wrist \(armband\)"
        ):
            next(open_chunks("lsl:legs", SPEC))
        slow = SignalSpec(ring(8), 100, RATE, ("a", "b"))
        with pytest.raises(DataError, match="expected 1000 samples a second, the stream says 250"):
            next(open_chunks("lsl:wrist", slow))
        with pytest.raises(DataError, match="lsl: expected 4 channels, got 8"):
            next(open_chunks("lsl:wrist", SignalSpec(ring(4), 100, 250.0, ("a", "b"))))
    finally:
        over.set()
        thread.join()


OUTLET = """
import sys, time
import pylsl
outlet = pylsl.StreamOutlet(pylsl.StreamInfo("elbow", "sleeve", 4, 250.0, "float32", "two"))
begin, sent = time.monotonic(), 0
print("there", flush=True)
while True:
    time.sleep(0.02)
    count = round((time.monotonic() - begin) * 250) - sent
    if count:
        outlet.push_chunk([[float(sent + k)] * 4 for k in range(count)])
        sent += count
"""


def test_an_lsl_stream_that_vanishes_and_comes_back() -> None:
    pytest.importorskip("pylsl")

    def outlet() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OUTLET], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        return process

    spec = SignalSpec(ring(4), 100, 250.0, ("a", "b", "c"))
    session = Session(_decoder(spec), enough=2.0)
    one, end, counts = outlet(), time.monotonic() + 60, [0]
    try:
        for chunk in open_chunks("lsl:elbow", spec):
            list(session.take(chunk))
            assert time.monotonic() < end
            if session.health.samples > 300 and session.health.connections == 1:
                assert session.measured_rate is None or abs(session.measured_rate - 250) < 5
                one.kill()
            if session.health.vanished and one.poll() is not None:
                one = outlet()
                counts.append(session.health.samples)
            if session.health.connections == 2 and session.health.samples > counts[-1] + 200:
                break
    finally:
        one.kill()
    health = session.health
    assert (health.connections, health.vanished, health.gaps) == (2, 1, 1)


@pytest.fixture
def shim() -> Any:
    pytest.importorskip("brainflow")
    chunks = open_chunks("brainflow:synthetic", SPEC)  # mends its module for Python 3.11
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    return importlib.import_module("brainflow.board_shim")


def test_brainflow_synthetic(shim: Any) -> None:
    chunks = collect("brainflow:synthetic", 100)
    assert chunks[0].joined
    assert chunks[0].note == "brainflow: the first 8 of 16 EMG channels are decoded"
    assert {chunk.samples.shape[1] for chunk in chunks} == {8}
    counts = [
        chunk.number + index for chunk in chunks for index in range(len(chunk.samples))
        if chunk.number is not None
    ]  # fmt: skip
    assert counts == list(range(len(counts)))
    for wrong, told in {
        "nothing": "brainflow: unknown board 'nothing'",
        "cyton,/dev/x,colour=3": "expected a setting of BrainFlow's, got 'colour=3'",
        "cyton,/dev/x,timeout=soon": "expected a setting of BrainFlow's, got 'timeout=soon'",
        "playback-file,file=x,master_board=none": "unknown board 'none'",
    }.items():
        with pytest.raises(SettingsError, match=told):
            next(open_chunks(f"brainflow:{wrong}", SPEC))
    with pytest.raises(DataError, match="expected board 'cyton', got: UNABLE_TO_OPEN_PORT"):
        next(open_chunks("brainflow:cyton,/dev/nothing", SPEC))


@pytest.mark.parametrize("fault", ["fails", "falls silent"])
def test_a_board_that_is_lost_is_connected_anew(
    shim: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    read, calls, opened = shim.BoardShim.get_board_data, [0], [0]

    def faulty(board: Any) -> Any:
        calls[0] += 1
        data = read(board)
        if calls[0] < 200 or opened[0] > 1:
            return data
        if fault == "fails":
            raise shim.BrainFlowError("lost", 1)
        return data[:, :0]

    prepare = shim.BoardShim.prepare_session

    def reluctant(board: Any) -> None:
        opened[0] += 1
        if opened[0] == 2:
            raise shim.BrainFlowError("not yet", 1)
        prepare(board)

    monkeypatch.setattr(boards, "_LOST", 0.2)
    monkeypatch.setattr(shim.BoardShim, "get_board_data", faulty)
    monkeypatch.setattr(shim.BoardShim, "prepare_session", reluctant)
    spec = SignalSpec(ring(4), 100, 250.0, ("a", "b", "c"))
    session, end = Session(_decoder(spec), enough=0), time.monotonic() + 30
    for chunk in open_chunks("brainflow:synthetic", spec):
        list(session.take(chunk))
        assert time.monotonic() < end, (session.health, calls, opened)
        if session.health.connections == 2 and calls[0] > 500:
            break
    assert opened[0] == 3
    assert (session.health.vanished, session.health.gaps) == (1, 1)


def played(tmp_path: Path, shim: Any, keep: np.ndarray, spec: SignalSpec, master: str) -> Session:
    """Decode a recording of a board, of which some samples are missing."""
    board = {"synthetic": -1, "brainbit": 7}[master]
    rows = shim.BoardShim.get_num_rows(board)
    rng = np.random.default_rng(0)
    data = rng.standard_normal((rows, len(keep)))
    data[shim.BoardShim.get_package_num_channel(board)] = np.arange(len(keep)) % 256
    data[shim.BoardShim.get_timestamp_channel(board)] = 1e9 + np.arange(len(keep)) / 250
    np.savetxt(tmp_path / "take.csv", data[:, keep].T, delimiter="\t", fmt="%.6f")
    session = Session(_decoder(spec), give_up=1.0)
    source = f"brainflow:playback-file,file={tmp_path / 'take.csv'},master_board={master}"
    list(session.run(open_chunks(source, spec)))
    return session


def test_brainflow_playback_tells_of_gaps(shim: Any, tmp_path: Path) -> None:
    keep = np.ones(500, bool)
    keep[200:220] = keep[300:301] = False
    spec = SignalSpec(ring(4), 100, 250.0, ("a", "b", "c"))
    session = played(tmp_path, shim, keep, spec, "synthetic")
    health = session.health
    assert (health.gaps, health.lost, health.duplicated, health.late) == (2, 21, 0, 0)
    assert health.samples == 479


def test_a_board_without_emg_channels_says_what_is_decoded(shim: Any, tmp_path: Path) -> None:
    told: list[str] = []
    spec = SignalSpec(ring(4), 100, 250.0, ("a", "b", "c"))
    source = f"brainflow:playback-file,file={tmp_path / 'none.csv'},master_board=brainbit"
    with pytest.raises(DataError, match="expected board 'playback-file'"):
        next(open_chunks(source, spec))
    np.savetxt(
        tmp_path / "none.csv", np.zeros((50, shim.BoardShim.get_num_rows(7))), delimiter="\t"
    )
    session = Session(_decoder(spec), tell=told.append, give_up=0.5)
    list(session.run(open_chunks(source, spec)))
    assert told[0] == "brainflow: playback-file has no EMG channels: its ExG channels are decoded"


def _decoder(spec: SignalSpec) -> Decoder:
    return Decoder(replace(bundle(epochs=1), spec=spec))


@pytest.mark.parametrize("step", [1, 2])
def test_package_numbers_go_round(step: int) -> None:
    rng = np.random.default_rng(0)
    true = np.delete(np.arange(3000), np.r_[500:510, 700:701, 900:1410, 2000:2256])
    numbers = (true * step % 256).astype(float)
    stamps = true / 250 + rng.uniform(0, 0.1, len(true))
    counter = PackageNumbers(numbers[:64], 250.0)
    assert counter.step == step
    cuts = np.sort(rng.choice(len(true), 40, replace=False))
    parts = np.split(np.arange(len(true)), cuts)
    counted = [counter.count(numbers[one], stamps[one]) for one in parts if len(one)]
    assert np.array_equal(np.concatenate(counted), true)


def test_numbers_that_count_no_samples_are_not_used() -> None:
    assert PackageNumbers(np.repeat(np.arange(50.0), 2), 200.0).step == 0  # two in a package
    assert PackageNumbers(np.zeros(64), 200.0).step == 0


def test_stretches_are_cut_where_stamps_jump() -> None:
    stamps = np.concatenate([np.arange(5), np.arange(80, 85)]) / 250
    parts = list(_stretches(np.zeros((10, 8), np.float32), stamps, SPEC, 3.0))
    assert [(len(one.samples), one.time, one.arrived) for one in parts] == [
        (5, 0.0, 3.0),
        (5, 0.32, 3.0),
    ]
