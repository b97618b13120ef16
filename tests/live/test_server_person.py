"""Recording by hand and guided calibration, over a real connection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding import bundle
from pages import Page, endless, noise, page_of, say, until
from websockets.asyncio.client import ClientConnection

from myodistill import Population, pretrain
from myodistill.bundle import Bundle
from myodistill.datasets.recording import Recording
from myodistill.datasets.subject_store import SubjectStore
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import BundleError, DataError, MyoDistillError
from myodistill.live.demo import Performer
from myodistill.live.guide import Timing
from myodistill.live.running import paced
from myodistill.live.server.keeping import HandRecorder, Keeper
from myodistill.live.server.learning import CommandCalibration, Learned
from myodistill.live.server.starting import _facts
from myodistill.live.server.tasks import Person
from myodistill.realtime.sources import Chunk

PEOPLE = Synthetic(subjects=4, seconds=1.0, repetitions=2, gestures=("rest", "power grip"))
QUICK: dict[str, Any] = {
    "student_model": ["log-power-10k"],
    "teacher_model": ["population"],
    "pretrain_student": {"num_epochs": 2},
    "distill": {"num_epochs": 2},
}
TIMING = Timing(ready=0.2, perform=0.6, rest=0.1)


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle(epochs=20)


def _keeper(folder: Path, student: Bundle) -> Keeper:
    return Keeper(folder, "anna", _facts(student))


def test_recording_by_hand(student: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "anna"

    async def record(one: ClientConnection) -> None:
        assert (await until(one, "hello"))["record"]
        await say(one, "record", on=False)
        assert "nothing is" in (await until(one, "refused"))["line"]
        await say(one, "record", on=True, gesture="z")
        assert "one of the gestures" in (await until(one, "refused"))["line"]
        await asyncio.sleep(0.6)
        for number, gesture in enumerate(("a", "b", "a")):
            await say(one, "record", on=True, gesture=gesture)
            state = await until(one, "record", on=True)
            assert (state["gesture"], state["repetitions"]) == (gesture, number // 2)
            if not number:
                await say(one, "record", on=True, gesture="b")
                assert "to be over first" in (await until(one, "refused"))["line"]
            await asyncio.sleep(0.6)
            await say(one, "record", on=False)
            assert (await until(one, "record", on=False))["repetitions"] == number + 1
        await say(one, "record", on=True, gesture="c")
        await say(one, "record", on=False)
        assert "got less" in (await until(one, "refused"))["line"]

    async def look(page: Page) -> None:
        async with page.watch() as one:
            await record(one)

    person = Person(keeper=_keeper(folder, student))
    with page_of(endless(noise()), student, tmp_path / "page", person=person) as page:
        asyncio.run(look(page))
        assert not folder.exists()  # a session is written whole
    store = SubjectStore(folder)
    (session,) = store.sessions
    assert (session.name.endswith("-by-hand"), session.repetitions) == (True, 2)
    recordings = store.recordings("anna")
    notes = [one.annotations[0] for one in recordings]
    assert [(note.gesture, note.repetition) for note in notes] == [(0, 0), (1, 0), (0, 1)]
    for one, note in zip(recordings, notes, strict=True):
        assert (one.unit, note.stop) == ("mV", len(one.signal))
        assert 500 <= note.stop - note.start <= 1000
        assert 500 <= note.start <= 1020  # what came before, for filters


def test_missing_samples_and_too_long_ones(student: Bundle) -> None:
    recorder = HandRecorder(student.spec, "mV", "anna", "monday")
    lead = noise()[:1000]
    lead[:990] = np.nan
    recorder.start("a", lead)
    recorder.take(noise()[:600])
    recorder.stop()
    assert recorder.recordings[0].annotations[0].start == 10
    recorder.start("a", lead)
    recorder.take(np.full((600, 4), np.nan, np.float32))
    with pytest.raises(DataError, match="600 samples of 'a' are missing"):
        recorder.stop()
    recorder.start("b", lead)
    assert not recorder.full
    for _ in range(20):
        recorder.take(noise())
    assert recorder.full
    assert [one.annotations[0].gesture for one in recorder.recordings] == [0]


def test_another_persons_folder_is_refused(student: Bundle, tmp_path: Path) -> None:
    store = SubjectStore.create(tmp_path / "eve", "eve", PEOPLE.facts)
    with pytest.raises(DataError, match="expected --subject"):
        Keeper(tmp_path / "new", "", PEOPLE.facts)
    (recording, _) = PEOPLE.recordings("Person1")
    store.append([replace(recording, subject="eve")])
    assert Keeper(tmp_path / "eve", "", PEOPLE.facts).subject == "eve"
    with pytest.raises(DataError, match="expected recordings of 'eve'"):
        Keeper(tmp_path / "eve", "anna", PEOPLE.facts)
    with pytest.raises(DataError, match=r"sampling rate|unit|electrodes"):
        Keeper(tmp_path / "eve", "eve", _facts(student))


class _Made:
    """Calibrates at once, or fails."""

    def __init__(self, student: Bundle, failure: MyoDistillError | None = None) -> None:
        self.student, self.failure = student, failure
        self.given: list[Sequence[Recording]] = []
        self.threads: list[threading.Thread] = []
        self.told = threading.Event()

    def __call__(self, recordings: Sequence[Recording]) -> Learned:
        self.given.append(recordings)
        self.threads.append(threading.current_thread())
        time.sleep(0.3)
        if self.failure is not None:
            raise self.failure
        return Learned(self.student, later=self._later)

    def _later(self) -> str:
        assert self.told.wait(5)
        return "expected accuracy: 90 %"

    def close(self) -> None:
        self.told.set()


def _guided(
    student: Bundle, made: _Made, folder: Path, static: Path, work: Callable[..., Any]
) -> None:
    async def look(page: Page) -> None:
        async with page.watch() as one:
            await work(one, page)

    spec = student.spec
    person = Person(spec, _keeper(folder, student), made, TIMING)
    with page_of(endless(noise(), speed=2.0), None, static, person=person, spec=spec) as page:
        asyncio.run(look(page))


def test_a_guided_calibration_ends_in_decoding(student: Bundle, tmp_path: Path) -> None:
    made = _Made(student)

    async def guide(one: ClientConnection, page: Page) -> None:
        first = await until(one, "hello")
        assert (first["mode"], first["guide"], first["record"]) == ("calibrate", True, True)
        assert not first["adapt"]["available"]
        await say(one, "threshold", value=0.5)
        assert "calibrate first" in (await until(one, "refused"))["line"]
        await say(one, "guide", action="finish")
        assert "after gestures" in (await until(one, "refused"))["line"]
        await say(one, "guide", action="start", repetitions=1)
        seen = [await until(one, "guide", phase="ready")]
        await say(one, "record", on=True, gesture="a")
        assert "guide to be over" in (await until(one, "refused"))["line"]
        while seen[-1]["phase"] != "review":
            seen.append(await until(one, "guide"))
        performing = [one for one in seen if one["phase"] == "perform"]
        assert len(performing) >= 3 * 3  # five a second
        assert {one["gesture"] for one in performing} == {"a", "b", "c"}
        assert 0 < performing[1]["remaining"] < 1.5
        assert len(seen[-1]["takes"]) == seen[-1]["step"] == seen[-1]["steps"] == 3
        await say(one, "guide", action="finish")
        await until(one, "guide", phase="learning")
        begin = time.monotonic()
        await until(one, "signals")
        assert time.monotonic() - begin < 0.2  # the page lives on meanwhile
        now = await until(one, "hello", mode="decode")
        assert now["step_seconds"] == student.step / 1000
        assert (first["name"], now["name"]) == ("student", "anna")
        state = await until(one, "guide", phase="done")
        assert state["expected"] is None
        decision = await until(one, "decision", abstained=False)
        assert decision["sample"] > 3000
        made.told.set()
        await until(one, "guide", phase="done", expected={"line": "expected accuracy: 90 %"})
        await say(one, "guide", action="start", repetitions=1)
        assert (await until(one, "guide", phase="ready"))["expected"] is None

    _guided(student, made, tmp_path / "anna", tmp_path / "page", guide)
    assert len(made.given) == 1
    (session,) = SubjectStore(tmp_path / "anna").sessions
    assert session.repetitions == 1
    assert made.threads[0] is not threading.main_thread()


def test_a_calibration_that_fails_keeps_what_was_performed(student: Bundle, tmp_path: Path) -> None:
    made = _Made(student, BundleError("expected a sound one, got another; calibrate again"))

    async def guide(one: ClientConnection, page: Page) -> None:
        await say(one, "guide", action="start", repetitions=1)
        await until(one, "guide", phase="review", seconds=8)
        for _ in range(2):
            await say(one, "guide", action="finish")
            state = await until(one, "guide", phase="failed")
            assert state["line"] == "expected a sound one, got another; calibrate again"
            assert len(state["takes"]) == 3
        made.failure = None
        await say(one, "guide", action="finish")
        await until(one, "hello", mode="decode")

    _guided(student, made, tmp_path / "anna", tmp_path / "page", guide)
    assert len(made.given) == 3
    assert len(SubjectStore(tmp_path / "anna").sessions) == 1  # stored once


def test_what_is_performed_after_a_failure_is_kept_beside_the_rest(
    student: Bundle, tmp_path: Path
) -> None:
    made = _Made(student, BundleError("expected more, got one; perform another"))

    async def guide(one: ClientConnection, page: Page) -> None:
        await say(one, "guide", action="start", repetitions=2)
        await until(one, "guide", step=3, phase="rest", seconds=8)
        await say(one, "guide", action="finish")  # with the first repetition alone
        await until(one, "guide", phase="failed")
        await say(one, "guide", action="redo", step=0)
        assert "start another calibration" in (await until(one, "refused"))["line"]
        made.failure = None
        await say(one, "guide", action="go-on")
        await until(one, "guide", phase="review", seconds=8)
        await say(one, "guide", action="finish")
        await until(one, "hello", mode="decode")

    _guided(student, made, tmp_path / "anna", tmp_path / "page", guide)
    store = SubjectStore(tmp_path / "anna")
    assert [one.repetitions for one in store.sessions] == [1, 1]
    assert len(store.recordings("anna")) == 6


def test_a_decoder_for_another_signal_is_not_taken(student: Bundle, tmp_path: Path) -> None:
    made = _Made(bundle(channels=5, epochs=1))

    async def guide(one: ClientConnection, page: Page) -> None:
        await say(one, "guide", action="start", repetitions=1)
        await until(one, "guide", phase="review", seconds=8)
        await say(one, "guide", action="finish")
        assert "4 channels" in (await until(one, "guide", phase="failed"))["line"]
        made.told.set()

    _guided(student, made, tmp_path / "anna", tmp_path / "page", guide)


def test_stopping_half_way_keeps_complete_repetitions(student: Bundle, tmp_path: Path) -> None:
    async def guide(one: ClientConnection, page: Page) -> None:
        await say(one, "guide", action="start", repetitions=1)
        await until(one, "guide", phase="review", seconds=8)

    _guided(student, _Made(student), tmp_path / "anna", tmp_path / "page", guide)
    (session,) = SubjectStore(tmp_path / "anna").sessions
    assert session.source == "guided calibration, not finished"


@pytest.mark.slow
def test_a_generated_person_is_calibrated_and_decoded(tmp_path: Path) -> None:
    everybody = pretrain(PEOPLE, out=tmp_path / "people", **QUICK)
    spec = everybody.facts.spec()
    stranger = Synthetic(
        subjects=1, seconds=2.0, repetitions=3, gestures=PEOPLE.facts.gestures, seed=7
    ).recordings("Person1")
    keeper = Keeper(tmp_path / "zoe", "zoe", everybody.facts)
    calibrate = CommandCalibration(tmp_path / "people", keeper.folder, tmp_path / "bundle")
    person = Person(spec, keeper, calibrate, TIMING)
    asked: list[Callable[[], str | None]] = []

    def chunks() -> Iterator[Chunk]:
        performer = Performer(stranger, spec, lambda: asked[0]())
        yield from paced(performer.chunks(), spec.sampling_rate, 1.0)

    async def look(page: Page) -> None:
        async with page.watch() as one:
            await say(one, "guide", action="start", repetitions=2, seconds=1)
            review = await until(one, "guide", phase="review", seconds=20)
            assert all(take["ok"] for take in review["takes"]), review["takes"]
            await say(one, "guide", action="finish")
            await until(one, "hello", mode="decode", seconds=60)
            await until(one, "guide", phase="done")
            await until(one, "decision", abstained=False)
            state = await until(one, "guide", phase="done", seconds=60)
            assert state["expected"]["line"].startswith("expected accuracy: ")

    with page_of(
        chunks(), None, tmp_path / "page", person=person, spec=spec, unit="µV", wait=True
    ) as page:
        asked.append(page.stream.tasks.asked)
        page.stream.start(chunks())
        asyncio.run(look(page))
    made = Bundle.load(tmp_path / "bundle")
    assert made.origin["subject"] == "zoe"
    test = [one for one in stranger if one.session == "test"]
    assert made.predict(test[0]).shape[0] > 0
    assert Population.load(tmp_path / "people").hash == made.origin["population"]


def test_a_calibration_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    calibrate = CommandCalibration(tmp_path / "none", tmp_path / "nobody", tmp_path / "bundle")
    with pytest.raises(MyoDistillError, match="expected a population"):
        calibrate([])
    assert not (tmp_path / "bundle").exists()
    calibrate.close()
