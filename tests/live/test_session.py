"""A live decoder decides as offline where the stream is whole, and abstains where it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from decoding import STEP, adaptable, bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import SIGNAL, numbered

from myodistill.bundle import Bundle
from myodistill.datasets.recording import SignalSpec
from myodistill.errors import DataError
from myodistill.live.events import Event
from myodistill.live.session import Session
from myodistill.live.sinks import Message
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.sources import SOURCES, Chunk, open_chunks, open_source


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle(epochs=20)


def offline(student: Bundle, signal: np.ndarray) -> list[tuple[int, str | None, float]]:
    names = student.spec.gestures
    return [
        (one.sample, names[one.gesture] if one.gesture >= 0 else None, one.confidence)
        for one in Decoder(student).push(signal)
    ]


def said(messages: list[Message]) -> list[tuple[int, str | None, float]]:
    return [(one["sample"], one["gesture"], one["confidence"]) for one in messages]


def live(student: Bundle, chunks: list[Chunk]) -> tuple[Session, list[Message]]:
    session = Session(Decoder(student))
    return session, list(session.run(chunks))


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, len(SIGNAL)), max_size=9), numbers=st.booleans())
def test_chunks_change_nothing(student: Bundle, cuts: list[int], numbers: bool) -> None:
    edges = [0, *sorted(cuts), len(SIGNAL)]
    chunks = [Chunk(SIGNAL[a:b], number=a if numbers else None) for a, b in pairwise(edges)]
    session, messages = live(student, chunks)
    assert said(messages) == offline(student, SIGNAL)
    assert (session.health.samples, session.health.gaps) == (len(SIGNAL), 0)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 60),
    lost=st.sets(st.integers(1, 29), max_size=4),
    doubled=st.sets(st.integers(0, 29), max_size=3),
)
def test_gaps_and_duplicates_in_any_place(
    student: Bundle, length: int, lost: set[int], doubled: set[int]
) -> None:
    chunks = numbered(SIGNAL[:1500], length)
    last = len(chunks) - 1
    lost = {index for index in lost if index < last and {index - 1, index + 1}.isdisjoint(lost)}
    whole = np.array(SIGNAL[:1500])
    sent = []
    for index, chunk in enumerate(chunks):
        if index in lost:
            whole[index * length : (index + 1) * length] = np.nan
            continue
        sent += [chunk] * (2 if index in doubled else 1)
    session, messages = live(student, sent)
    again = [i for i in doubled if i <= last and i not in lost]
    assert said(messages) == offline(student, whole)
    assert session.health.lost == int(np.isnan(whole).any(axis=1).sum())
    assert session.health.gaps == len(lost)
    assert session.health.duplicated == sum(len(chunks[i].samples) for i in again)
    assert session.health.late == 0


@pytest.mark.parametrize("gap", [101, 137, 500, 1000])
def test_a_long_gap_is_bounded_and_places_stay(student: Bundle, gap: int) -> None:
    sent = [*numbered(SIGNAL[:300]), *numbered(SIGNAL[300 + gap :], begin=300 + gap)]
    session, messages = live(student, sent)
    ends = [one["sample"] for one in messages if not one["abstained"]]
    assert ends == [
        end for end in range(100, len(SIGNAL) + 1, STEP) if end <= 300 or end >= 400 + gap
    ]
    assert (session.health.gaps, session.health.lost) == (1, gap)
    assert session.decisions <= len(SIGNAL) // STEP


def test_reordered_samples_are_late_once_and_then_double(student: Bundle) -> None:
    chunks = numbered(SIGNAL[:400])
    chunks[5], chunks[6] = chunks[6], chunks[5]
    session, messages = live(student, [*chunks, chunks[6]])
    whole = np.array(SIGNAL[:400])
    whole[100:120] = np.nan
    assert said(messages) == offline(student, whole)
    health = session.health
    assert (health.gaps, health.lost, health.late, health.duplicated) == (1, 20, 20, 20)


def test_overlapping_samples_are_taken_once(student: Bundle) -> None:
    begins = [(i, max(i - 7, 0)) for i in range(0, 400, 20)]
    chunks = [Chunk(SIGNAL[begin : i + 20], number=begin) for i, begin in begins]
    session, messages = live(student, chunks)
    assert said(messages) == offline(student, SIGNAL[:400])
    assert session.health.duplicated == 7 * 19


def test_time_stamps_tell_of_gaps_but_jitter_is_none(student: Bundle) -> None:
    rng = np.random.default_rng(0)
    stamps = np.arange(0, 1000, 20) / 1000 + rng.uniform(-0.002, 0.002, 50)
    chunks = [Chunk(SIGNAL[20 * i : 20 * i + 20], time=stamps[i]) for i in range(50)]
    session, messages = live(student, chunks)
    assert said(messages) == offline(student, SIGNAL[:1000])
    session, messages = live(student, chunks[:10] + chunks[14:] + chunks[20:21])
    health = session.health
    assert (health.gaps, health.late) == (1, 20)
    assert abs(health.lost - 80) <= 4


def test_broken_values_flat_and_saturated_channels(student: Bundle) -> None:
    signal = np.array(SIGNAL)
    signal[150, 2] = np.nan
    signal[:, 0] = 7
    signal[:, 3] = np.clip(signal[:, 3], 290, 310)
    session, messages = live(student, numbered(signal))
    assert said(messages) == offline(student, signal)
    assert session.health.broken == 1
    assert (session.health.flat, session.health.saturated) == ({0}, {3})
    assert "flat channels 0; saturated channels 3" in session.summary(1.0)


def test_a_refused_message_of_a_device_that_does_not_count_is_a_gap(student: Bundle) -> None:
    empty = np.zeros((0, 4), np.float32)
    chunks = [Chunk(SIGNAL[:300]), Chunk(empty, refused=2, reason="x"), Chunk(SIGNAL[302:600])]
    session, messages = live(student, chunks)
    whole = np.array(SIGNAL[:600])
    whole[300:302] = np.nan
    assert said(messages) == offline(student, whole)
    assert (session.health.refused, session.health.lost) == (2, 2)


@pytest.mark.parametrize(
    ("rate", "fits"), [(1000, True), (1015, True), (1030, False), (500, False)]
)
def test_another_rate_is_refused(student: Bundle, rate: float, fits: bool) -> None:
    chunks = [
        Chunk(SIGNAL[:20], number=20 * i, arrived=20 * (i + 1) / rate) for i in range(int(rate))
    ]
    session = Session(Decoder(student, step=1000))
    if fits:
        list(session.run(chunks))
        assert session.measured_rate == pytest.approx(rate, rel=1e-3)
        return
    with pytest.raises(DataError, match=r"expected 1000 samples a second, measured \d+\.\d over 1"):
        list(session.run(chunks))


def test_silence_is_said_at_once_and_is_a_gap_without_counts(student: Bundle) -> None:
    empty = np.zeros((0, 4), np.float32)
    for counts in (True, False):
        told: list[str] = []
        session = Session(Decoder(student), tell=told.append)
        ticks = [Chunk(empty, arrived=0.1 * i) for i in range(1, 20)]
        chunks = [
            Chunk(SIGNAL[:300], number=0 if counts else None, arrived=0.0),
            *ticks,
            Chunk(SIGNAL[300:600], number=300 if counts else None, arrived=2.0),
        ]
        messages = list(session.run(chunks))
        silent = {"seconds": 0.3, "sample": 300, "gesture": None, "confidence": 0.0}
        assert messages.pop(9) == {**silent, "abstained": True}
        assert told[0] == "silent: no samples come"
        assert session.health.silences == 1
        assert session.health.gaps == (not counts)
        if counts:
            assert said(messages) == offline(student, SIGNAL[:600])
        else:
            gap = np.full((100, 4), np.nan)
            assert said(messages) == offline(
                student, np.concatenate([SIGNAL[:300], gap, SIGNAL[300:600]])
            )


def test_a_device_that_begins_anew_is_not_spliced(student: Bundle) -> None:
    empty = np.zeros((0, 4), np.float32)
    back = [Chunk(empty, left=True), Chunk(empty, joined=True)]
    chunks = [*back[1:], *numbered(SIGNAL[:300]), *back, *numbered(SIGNAL[300:600])]
    session, messages = live(student, chunks)
    gap = np.full((100, 4), np.nan)
    assert said(messages) == offline(student, np.concatenate([SIGNAL[:300], gap, SIGNAL[300:600]]))
    health = session.health
    assert (health.connections, health.vanished, health.restarts, health.gaps) == (2, 1, 1, 1)
    session, _ = live(student, [*numbered(SIGNAL, begin=5000), *numbered(SIGNAL)])
    assert session.health.restarts == 1
    assert session.health.duplicated == 1000  # a second of them, then it is another count


def test_adaptation_rests_in_gaps(student: Bundle) -> None:
    decoders = [Decoder(adaptable(student), adapt=True) for _ in range(2)]
    whole = np.array(SIGNAL)
    whole[400:440] = np.nan
    list(Session(decoders[0]).run([*numbered(SIGNAL[:400]), *numbered(SIGNAL[440:], begin=440)]))
    decoders[1].push(whole)
    assert decoders[0].adapter is not None
    assert decoders[1].adapter is not None
    assert decoders[0].adapter.state() == decoders[1].adapter.state()


def test_another_number_of_channels_is_one_line(student: Bundle) -> None:
    with pytest.raises(DataError, match=r"4 channels\), got \(10, 3\)"):
        live(student, [Chunk(SIGNAL[:10, :3])])


def test_a_plugin_may_tell_of_its_chunks_or_not(
    student: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mine(address: str, spec: SignalSpec) -> list[Any]:
        odd = {"text": np.array([["a"] * 4]), "number": 3.0, "objects": np.array([[None] * 4])}
        if address in odd:
            return [odd[address]]
        return [SIGNAL[:200].tolist(), Chunk(SIGNAL[200:300], number=200), *numbered(SIGNAL[300:])]

    monkeypatch.setitem(SOURCES, "mine", mine)
    chunks = list(open_chunks("mine:", student.spec))[:2]
    _, messages = live(student, chunks)
    assert said(messages) == offline(student, SIGNAL[:300])
    assert sum(map(len, open_source("mine:", student.spec))) == len(SIGNAL)
    for odd in ("text", "number", "objects"):
        with pytest.raises(DataError) as caught:
            live(student, list(open_chunks(f"mine:{odd}", student.spec)))
        assert len(str(caught.value).splitlines()) == 1


def test_the_quality_of_channels_is_that_of_the_newest_second(student: Bundle) -> None:
    signal = np.array(np.tile(SIGNAL, (2, 1))[:3000])
    signal[:1000, 1] = 3.0
    signal[1000:1100, 2] = np.nan
    signal[2000:2099, 2] = np.nan  # less than a tenth of a second
    events: list[Event] = []
    session = Session(Decoder(student), log=events.append)
    bad = []
    for chunk in numbered(signal):
        list(session.take(chunk))
        if session.health.samples % 1000 == 0:
            quality = session.health.quality
            assert quality is not None
            bad.append([np.flatnonzero(one).tolist() for one in (quality.flat, quality.invalid)])
            part = signal[session.health.samples - 1000 : session.health.samples]
            assert np.allclose(quality.rms, np.nanstd(part.astype(float), axis=0), rtol=1e-4)
    assert bad == [[[1], []], [[], [2]], [[], []]]
    assert (session.health.flat, session.health.invalid) == ({1}, {2})
    assert "flat channels 1; invalid channels 2" in session.summary(1.0)
    assert [(one.name, one.fields) for one in events] == [
        ("flat", {"channels": [1]}),
        ("not-flat", {"channels": [1]}),
        ("invalid", {"channels": [2]}),
        ("not-invalid", {"channels": [2]}),
    ]
    told = json.loads(events[0].to_json())
    assert told["message"] == "channels 1: flat"
    assert set(told) == {"time", "level", "event", "message", "channels"}


@pytest.mark.parametrize(
    ("arrivals", "bursts", "delay"),
    [
        ([0.02 * i for i in range(50)], 0, 0.0),
        ([0.02 * i for i in range(10)] + [0.68 + 0.001 * i for i in range(25)], 1, 0.5),
        ([0.02 * i for i in range(10)] + [0.68 + 0.02 * i for i in range(25)], 0, 0.0),  # lost
        ([0.02 * (i - i % 10 + 9) for i in range(50)], 4, 0.2),  # the first has not waited for us
    ],
)
def test_samples_that_were_held_up_are_a_burst(
    student: Bundle, arrivals: list[float], bursts: int, delay: float
) -> None:
    session = Session(Decoder(student))
    chunks = numbered(SIGNAL[: 20 * len(arrivals)])
    for chunk, arrived in zip(chunks, arrivals, strict=True):
        list(session.take(replace(chunk, arrived=arrived)))
    assert session.health.bursts == bursts
    assert session.health.delay == pytest.approx(delay, abs=0.01)
    assert ("bursts" in session.summary(1.0)) == bool(bursts)


def test_another_decoder_goes_on_in_the_middle(student: Bundle) -> None:
    heard: list[tuple[int, int]] = []

    def tap(samples: np.ndarray, begin: int) -> None:
        heard.append((begin, len(samples)))

    session = Session(Decoder(student), tap=tap)
    chunks = numbered(SIGNAL)
    first = [message for chunk in chunks[:41] for message in session.take(chunk)]
    session.exchange(Decoder(student, step=40))
    lost = range(60, 70)  # a gap longer than a window
    rest = [chunk for number, chunk in enumerate(chunks[41:], 41) if number not in lost]
    later = [message for chunk in rest for message in session.take(chunk)]
    assert said(first) == offline(student, SIGNAL[:820])
    names = student.spec.gestures
    whole = np.array(SIGNAL[820:])
    whole[380:580] = np.nan
    expected = [
        (one.sample + 820, names[one.gesture], one.confidence)
        for one in Decoder(student, step=40).push(whole)
        if one.gesture >= 0
    ]
    decided = [one for one in said(later) if one[1] is not None]
    assert [one[:2] for one in decided] == [one[:2] for one in expected]
    assert [one[2] for one in decided] == pytest.approx([one[2] for one in expected], abs=0.01)
    assert session.abstained == sum(message["abstained"] for message in [*first, *later]) > 0
    assert [begin for begin, _ in heard[:3]] == [0, 20, 40]
    assert heard[-1] == (1780, 20)
    with pytest.raises(DataError, match="expected one for 4 channels at 1000 Hz, got 5 at 1000 Hz"):
        session.exchange(Decoder(bundle(channels=5, epochs=1)))
