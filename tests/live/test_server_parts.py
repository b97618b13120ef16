"""The parts of the page's server that need no server."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myodistill.errors import DataError
from myodistill.live.health import judge
from myodistill.live.server.access import is_loopback
from myodistill.live.server.buckets import Buckets, decode
from myodistill.live.server.monitor import ChannelMonitor
from myodistill.live.server.requests import LONGEST, Request, parse_request
from myodistill.live.server.watchers import Hub, Watcher

SIGNAL = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)


@pytest.mark.parametrize("rate", [100.0, 200.0, 1000.0, 2048.0])
@given(cuts=st.lists(st.integers(0, len(SIGNAL)), max_size=8), begin=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_buckets_are_the_same_however_the_stream_is_cut(
    rate: float, cuts: list[int], begin: int
) -> None:
    buckets = Buckets(3, rate)
    found: dict[int, np.ndarray] = {}
    for start, end in pairwise(sorted({0, *cuts, *range(100, 700, 100)})):
        buckets.take(SIGNAL[start:end], begin + start)
        for message in buckets.drain():
            first, spans = decode(message)
            found |= {first + place: span for place, span in enumerate(spans)}
    width = max(rate / 125, 1.0)
    assert buckets.rate == rate / width
    numbers = ((begin + np.arange(len(SIGNAL))) / width + 1e-6).astype(int)
    assert sorted(found) == sorted(set(numbers.tolist()))[:-1]  # the last one is not complete
    for number, span in found.items():
        part = SIGNAL[numbers == number]
        np.testing.assert_array_equal(span, np.stack([part.min(0), part.max(0)], axis=1))


def test_lost_samples_are_holes_and_old_buckets_are_left_out() -> None:
    buckets = Buckets(3, 1000.0)
    buckets.take(np.full((16, 3), np.nan, np.float32), 0)
    buckets.take(SIGNAL[:16], 16)
    buckets.take(SIGNAL[:16], 3200)
    (first, missing), (second, spans) = map(decode, buckets.drain())
    assert (first, second) == (0, 400)
    assert np.isnan(missing[:2]).all()
    assert np.isfinite(missing[2:]).all()
    assert len(spans) == 1
    for begin in range(0, 80_000, 600):
        buckets.take(SIGNAL, 4000 + begin)
    assert sum(len(decode(message)[1]) for message in buckets.drain()) <= 125


def _second(rate: float = 1000.0) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(round(rate), 6)).astype(np.float32)


@pytest.mark.parametrize("mains", [50, 60])
def test_the_quality_of_each_channel(mains: int) -> None:
    block = _second()
    time = np.arange(len(block)) / 1000
    block[:, 1] = 3.0
    block[:, 2] = np.clip(block[:, 2], -0.5, 0.5)
    block[:, 3] += 20 * np.sin(2 * np.pi * mains * time) + 6 * np.sin(2 * np.pi * 3 * mains * time)
    block[::5, 4] = np.nan
    monitor = ChannelMonitor(6, 1000.0)
    for begin in range(0, len(block), 20):
        monitor.take(block[begin : begin + 20], begin)
    found = monitor.measure(judge(block), streaming=True, now=1.0)
    assert found["quality"] == ["good", "flat", "saturated", "noisy", "missing", "good"]
    assert found["rms"][0] == pytest.approx(block[-200:, 0].std(), rel=1e-4)
    assert found["rms"][1] == 0
    json.dumps(found, allow_nan=False)
    monitor.take(_second(), 1000)
    assert monitor.measure(streaming=True, now=1.5)["quality"][3] == "noisy"
    assert monitor.measure(streaming=True, now=2.0)["quality"] == ["good"] * 6
    assert monitor.measure(streaming=False, now=2.0)["quality"] == ["missing"] * 6


def test_a_monitor_keeps_a_second_and_no_more() -> None:
    monitor = ChannelMonitor(6, 200.0)
    assert monitor.measure(streaming=True, now=1.0)["quality"] == ["missing"] * 6
    for _ in range(100):
        monitor.take(_second(20.0), 0)
    assert len(monitor.newest()) == 200
    assert len(monitor._parts) <= 11


def test_a_slow_watcher_is_dropped_to_what_is_new() -> None:
    async def look() -> None:
        hub = Hub()
        hub.publish({"type": "hello", "threshold": 0.1})
        hub.publish({"type": "hello", "threshold": 0.2})
        watcher = hub.join()
        for number in range(600):
            hub.publish({"type": "decision", "sample": number})
            hub.publish({"type": "channels", "number": number})
            hub.publish({"type": "counters", "number": number})
            hub.draw(bytes([number % 256]))
        sent = []
        while watcher._states or watcher._lines or watcher._signals:
            sent.append(await watcher.next())
        texts = [json.loads(one) for one in sent if isinstance(one, str)]
        assert texts[0] == {"type": "hello", "threshold": 0.2}
        decisions = [one["sample"] for one in texts if one["type"] == "decision"]
        assert decisions == list(range(600 - 256, 600))
        others = {one["type"]: one for one in texts[257:]}
        assert others["channels"]["number"] == others["counters"]["number"] == 599
        assert others["counters"]["skipped"] == (600 - 256) + 2 * 599 + (600 - 4)
        assert [one for one in sent if isinstance(one, bytes)] == [bytes([n % 256]) for n in
                                                                  range(596, 600)]  # fmt: skip
        hub.leave(watcher)
        hub.publish({"type": "decision", "sample": 1})
        assert not watcher._lines

    asyncio.run(look())


def test_a_watcher_waits_for_news() -> None:
    async def look() -> None:
        watcher = Watcher()
        task = asyncio.create_task(watcher.next())
        await asyncio.sleep(0)
        assert not task.done()
        watcher.refuse("no")
        assert json.loads(await task) == {"type": "refused", "line": "no"}

    asyncio.run(look())


def test_requests_are_read() -> None:
    for text, kind, values in (
        ('{"type": "threshold", "value": 0.25}', "threshold", {"value": 0.25}),
        ('{"type": "adapt", "on": false}', "adapt", {"on": False}),
        ('{"type": "adapt-reset"}', "adapt-reset", {}),
        ('{"type": "record", "on": true, "gesture": "f"}', "record", {"on": True, "gesture": "f"}),
        ('{"type": "record", "on": false}', "record", {"on": False, "gesture": None}),
        ('{"type": "guide", "action": "redo", "step": 3}', "guide", {"action": "redo", "step": 3}),
    ):
        assert parse_request(text) == Request(kind, values)
    exact = '{"type": "record", "on": true, "gesture": "'
    exact += "x" * (LONGEST - len(exact) - 2) + '"}'
    assert parse_request(exact).kind == "record"
    for text in (exact + " ", '"é"' * 1400, "\ud800", '{"type": {}}', "{" * 4000):
        with pytest.raises(DataError):
            parse_request(text)


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.0.1", True),
     ("0.0.0.0", False), ("::", False), ("192.168.0.2", False), ("example.org", False)],
)  # fmt: skip
def test_loopback(host: str, own: bool) -> None:
    assert is_loopback(host) == own
