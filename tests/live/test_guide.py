"""Guided calibration: what is asked for, what is kept, and what goes wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from myodistill.datasets.recording import Signal, SignalSpec, ring
from myodistill.errors import DataError
from myodistill.live.guide import LEAD, REACTION, STALLED, Guide, Timing

RATE = 200.0
SPEC = SignalSpec(ring(4), 40, RATE, ("fist", "rest", "point"))
TIMING = Timing(ready=2.0, perform=1.0, rest=1.0)
CHUNK = 10


class Person:
    """Does what the guide asks, with as much strength as a gesture is given."""

    def __init__(self, guide: Guide, strengths: dict[str, float] | None = None) -> None:
        self.guide, self.now = guide, 0.0
        self.strengths = {"rest": 1.0, "fist": 5.0, "point": 4.0} | (strengths or {})
        self.random = np.random.default_rng(1)
        self.asked: list[tuple[str, int]] = []
        self.flaw: Any = None

    def samples(self) -> Signal:
        gesture = self.guide.state(self.now)["gesture"] or "rest"
        part = self.random.normal(size=(CHUNK, 4)) * self.strengths[gesture]
        return part.astype(np.float32)

    def chunk(self) -> None:
        samples = self.samples()
        if self.flaw is not None and self.guide.phase == "perform":
            samples = self.flaw(samples)
        self.now += CHUNK / RATE
        before = self.guide.phase
        self.guide.take(samples, self.now)
        if before != "perform" and self.guide.phase == "perform":
            state = self.guide.state(self.now)
            self.asked.append((state["gesture"], state["repetition"]))

    def until(self, phase: str) -> None:
        for _ in range(10_000):
            if self.guide.phase == phase:
                return
            self.chunk()
        raise AssertionError(f"{self.guide.phase}, never {phase}")

    def does(self, action: str, **more: object) -> None:
        self.guide.request({"action": action, **more}, self.now)


def _guide() -> Guide:
    return Guide(SPEC, "mV", subject="anna", session="monday", timing=TIMING)


def test_every_gesture_is_asked_for_in_every_repetition_with_rest_first() -> None:
    person = Person(_guide())
    person.does("start", repetitions=4)
    person.until("review")
    rounds = [person.asked[begin : begin + 3] for begin in range(0, 12, 3)]
    for number, one in enumerate(rounds, 1):
        assert one[0] == ("rest", number)
        assert sorted(one) == [(name, number) for name in ("fist", "point", "rest")]
    assert len({tuple(name for name, _ in one) for one in rounds}) == 2  # not always one order
    state = person.guide.state(person.now)
    assert (state["step"], state["steps"], state["line"]) == (12, 12, "")


def test_the_recordings_hold_the_gesture_after_the_reaction_and_what_came_before() -> None:
    person = Person(_guide())
    person.does("start", repetitions=2)
    person.until("review")
    recordings = person.guide.recordings()
    assert [one.annotations[0].repetition for one in recordings] == [0, 0, 0, 1, 1, 1]
    assert {one.gestures for one in recordings} == {SPEC.gestures}
    for one in recordings:
        (note,) = one.annotations
        assert (one.unit, one.subject, one.session) == ("mV", "anna", "monday")
        assert note.stop == len(one.signal)
        assert CHUNK > note.stop - note.start - TIMING.perform * RATE >= 0
        lead = note.start - REACTION * RATE
        assert LEAD * RATE <= lead < LEAD * RATE + CHUNK
        strong = np.std(one.signal[note.start :])
        assert strong == pytest.approx(person.strengths[SPEC.gestures[note.gesture]], rel=0.1)


def test_a_weak_gesture_is_pointed_out_and_can_be_performed_again() -> None:
    person = Person(_guide(), {"point": 1.0})
    person.does("start", repetitions=1)
    person.until("review")
    takes = person.guide.state(person.now)["takes"]
    assert [one["gesture"] for one in takes if not one["ok"]] == ["point"]
    index = next(i for i, one in enumerate(takes) if not one["ok"])
    assert "stronger than rest" in takes[index]["line"]
    person.strengths["point"] = 4.0
    person.does("redo", step=index)
    assert person.guide.state(person.now)["gesture"] == "point"
    person.until("review")
    assert all(one["ok"] for one in person.guide.state(person.now)["takes"])
    assert len(person.guide.recordings()) == 3


def test_tense_rest_is_pointed_out() -> None:
    person = Person(_guide())
    person.does("start", repetitions=2)
    person.until("perform")
    person.until("rest")
    person.strengths["rest"] = 9.0
    person.until("review")
    bad = [one for one in person.guide.state(person.now)["takes"] if not one["ok"]]
    assert [(one["gesture"], one["repetition"]) for one in bad] == [("rest", 2)]
    assert "relax" in bad[0]["line"]


def test_the_line_while_performing_tells_strength() -> None:
    person = Person(_guide())
    person.does("start", repetitions=1)
    person.until("perform")
    assert person.guide.state(person.now)["quality"] is None  # nothing to compare rest with
    person.until("rest")
    person.until("perform")
    for _ in range(12):
        person.chunk()
    quality = person.guide.state(person.now)["quality"]
    assert quality["ok"]
    assert "as strong as rest" in quality["line"]


def _missing(samples: Signal) -> Signal:
    samples[3] = np.nan
    return samples


def _flat(samples: Signal) -> Signal:
    samples[:, 2] = 7.0
    return samples


def _saturated(samples: Signal) -> Signal:
    return np.clip(samples, -9, 0.2).astype(np.float32)


@pytest.mark.parametrize(
    ("flaw", "line"),
    [(_missing, "samples are missing"), (_flat, "electrode 3 is flat"), (_saturated, "saturated")],
)
def test_what_cannot_be_learned_from_has_to_be_performed_again(flaw: Any, line: str) -> None:
    person = Person(_guide())
    person.does("start", repetitions=1)
    person.until("perform")
    person.until("ready")
    person.until("perform")
    person.flaw = flaw
    person.until("rest")
    person.flaw = None
    person.until("review")
    state = person.guide.state(person.now)
    assert [one["ok"] for one in state["takes"]] == [True, False, True]
    assert line in state["takes"][1]["line"]
    assert "1 performances are missing" in state["line"]
    with pytest.raises(DataError, match="perform what is missing"):
        person.does("finish")
    person.does("go-on")
    person.until("review")
    person.does("finish")
    assert person.guide.phase == "learning"
    assert all(np.isfinite(one.signal).all() for one in person.guide.recordings())


def test_samples_missing_before_the_cue_shorten_what_is_kept_of_it() -> None:
    person = Person(_guide())
    person.does("start", repetitions=1)
    person.until("ready")
    for _ in range(25):
        person.chunk()
    person.guide.take(np.full((2, 4), np.nan, np.float32), person.now)
    person.until("review")
    first = min(person.guide.recordings(), key=lambda one: one.annotations[0].start)
    assert REACTION * RATE <= first.annotations[0].start < (REACTION + LEAD) * RATE - 20


def test_a_device_that_falls_silent_pauses_and_the_performance_begins_anew() -> None:
    person = Person(_guide())
    person.does("start", repetitions=1)
    person.until("perform")
    person.chunk()
    person.now += STALLED + 0.1
    person.guide.tick(person.now)
    assert person.guide.phase == "paused"
    assert "no samples come" in person.guide.line
    person.does("go-on")
    person.until("review")
    assert person.asked[:2] == [("rest", 1), ("rest", 1)]
    assert len(person.guide.recordings()) == 3


def test_no_cue_without_samples() -> None:
    guide = _guide()
    guide.request({"action": "start", "repetitions": 1}, 0.0)
    guide.tick(TIMING.ready + 0.1)
    assert guide.phase == "paused"


def test_finishing_early_keeps_complete_repetitions() -> None:
    person = Person(_guide())
    person.does("start", repetitions=3)
    while len(person.guide.state(person.now)["takes"]) < 5:
        person.chunk()
    person.does("finish")
    assert {one.annotations[0].repetition for one in person.guide.recordings()} == {0}
    person.guide.failed("the disk is full")
    assert len(person.guide.recordings()) == 3  # nothing is lost
    person.does("finish")
    person.guide.done("expected accuracy: 90 %")
    state = person.guide.state(person.now)
    assert (state["phase"], state["expected"]) == ("done", {"line": "expected accuracy: 90 %"})


def test_pausing_in_the_pause_after_a_gesture_loses_nothing() -> None:
    person = Person(_guide())
    person.does("start", repetitions=1)
    person.until("perform")
    person.until("rest")
    person.does("pause")
    person.does("go-on")
    person.until("review")
    assert [name for name, _ in person.asked].count("rest") == 1


def test_cancelling_forgets_and_another_start_begins_anew() -> None:
    person = Person(_guide())
    person.does("start", repetitions=1)
    person.until("review")
    person.does("cancel")
    assert person.guide.state(person.now)["takes"] == []
    person.does("start", repetitions=2, seconds=2)
    person.until("review")
    note = person.guide.recordings()[0].annotations[0]
    assert note.stop - note.start >= 2 * RATE


@pytest.mark.parametrize(
    ("before", "message", "line"),
    [
        ("idle", {"action": "sing"}, "expected one of start"),
        ("idle", {"action": "finish"}, "after gestures were performed"),
        ("idle", {"action": "pause"}, "while gestures are performed"),
        ("idle", {"action": "go-on"}, "after a pause"),
        ("idle", {"action": "start", "repetitions": 0}, "1 to 20 repetitions"),
        ("idle", {"action": "start", "repetitions": True}, "1 to 20 repetitions"),
        ("idle", {"action": "start", "seconds": "5"}, "1 to 30 seconds"),
        ("idle", {"action": "start", "seconds": float("nan")}, "1 to 30 seconds"),
        ("perform", {"action": "start"}, "cancel first"),
        ("review", {"action": "redo", "step": 3}, "one of 3 performances"),
        ("review", {"action": "redo", "step": "0"}, "one of 3 performances"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    before: str, message: dict[str, Any], line: str
) -> None:
    person = Person(_guide())
    if before != "idle":
        person.does("start", repetitions=1)
        person.until(before)
    state = person.guide.state(person.now)
    with pytest.raises(DataError, match=line):
        person.guide.request(message, person.now)
    assert person.guide.state(person.now) == state
