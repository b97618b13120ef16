"""Sources that need a library: run where it is installed, refused in one line where it is not."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from decoding import RATE

from myodistill import live
from myodistill.datasets.recording import SignalSpec, ring
from myodistill.errors import DataError, SettingsError, ToolError
from myodistill.live import devices
from myodistill.live.devices import _stretches
from myodistill.realtime.sources import Chunk, open_chunks

live.register_sources()
SPEC = SignalSpec(ring(8), 100, 250.0, ("a", "b"))


@pytest.mark.parametrize("source", ["lsl:myo", "brainflow:synthetic"])
def test_a_library_that_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(devices, "import_module", absent)
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


def test_brainflow_synthetic() -> None:
    pytest.importorskip("brainflow")
    chunks = collect("brainflow:synthetic", 100)
    assert chunks[0].joined
    assert {chunk.samples.shape[1] for chunk in chunks} == {8}
    with pytest.raises(SettingsError, match=r"the name of a board, .* got 'nothing'"):
        next(open_chunks("brainflow:nothing", SPEC))
    with pytest.raises(DataError, match="expected board 'cyton', got: UNABLE_TO_OPEN_PORT"):
        next(open_chunks("brainflow:cyton,/dev/nothing", SPEC))


def test_stretches_are_cut_where_stamps_jump() -> None:
    stamps = np.concatenate([np.arange(5), np.arange(80, 85)]) / 250
    parts = list(_stretches(np.zeros((10, 8), np.float32), stamps, SPEC, 3.0))
    assert [(len(one.samples), one.time, one.arrived) for one in parts] == [
        (5, 0.0, 3.0),
        (5, 0.32, 3.0),
    ]
