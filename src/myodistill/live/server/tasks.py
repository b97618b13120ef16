"""What a page does with one person: recording by hand, and a guided calibration."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from myodistill.datasets.recording import Recording, Signal, SignalSpec
from myodistill.errors import DataError, MyoDistillError, one_line
from myodistill.live.guide import LEAD, Guide, Timing
from myodistill.live.server.keeping import HandRecorder, Keeper
from myodistill.live.server.learning import Calibrate, Learned
from myodistill.realtime.decoder import Decoder

Message = dict[str, Any]

EVERY = 0.2
"""Seconds from one message about a guide to the next while it runs."""

_RUNNING = ("ready", "perform", "rest", "learning")
_OVER = ("idle", "review", "done", "failed")


@dataclass(frozen=True)
class Person:
    """Whom a page can do something for.

    Attributes:
        spec: The signal, and the gestures that a guide asks for; None where nothing calibrates.
        keeper: Keeps what is recorded; None where nothing does.
        calibrate: Makes a decoder of it; None where nothing does.
        timing: Of a guided calibration.
    """

    spec: SignalSpec | None = None
    keeper: Keeper | None = None
    calibrate: Calibrate | None = None
    timing: Timing = field(default_factory=Timing)


class PersonTasks:
    """Recording and calibrating for one person; all of it runs in the stream's thread.

    Args:
        person: Whom it is for.
        unit: Of the samples.
        post: Takes messages for the page.
        say: Takes a line for everybody.
        later: Has something done in the stream's thread, from any thread.
        ready: Takes a new decoder.
        adapt: Whether a new decoder follows its wearer, where it can.
    """

    def __init__(
        self,
        person: Person,
        unit: str,
        *,
        post: Callable[[Message], None],
        say: Callable[[str], None],
        later: Callable[[Callable[[], None]], None],
        ready: Callable[[Decoder], None],
        adapt: bool = False,
    ) -> None:
        self._person, self._unit, self._adapt = person, unit, adapt
        self._post, self._say, self._later, self._ready = post, say, later, ready
        self._guide: Guide | None = None
        self._session = ""  # of the guide
        self._stored: list[Recording] = []  # of the guide, that are in the person's folder
        self._told: tuple[Any, ...] = ()  # of the guide
        self._told_at = 0.0
        self._recorder: HandRecorder | None = None
        self._names: set[str] = set()

    def asked(self) -> str | None:
        """Return the gesture to perform now; empty in a pause, None where no guide runs."""
        guide = self._guide
        if guide is None or guide.phase not in ("ready", "perform", "rest"):
            return None
        return str(guide.state(0.0)["gesture"]) if guide.phase == "perform" else ""

    def take(self, samples: Signal) -> None:
        """Take the samples of the stream."""
        if self._guide is not None:
            self._guide.take(samples, time.monotonic())
        if self._recorder is not None and self._recorder.gesture is not None:
            self._recorder.take(samples)
            if self._recorder.full:
                self._end_of_recording()

    def tick(self, now: float) -> None:
        """Go on without samples; tell of the guide when something changed, or it is time."""
        guide = self._guide
        if guide is None:
            return
        guide.tick(now)
        brief = (guide.phase, guide.line, guide.expected)
        due = guide.phase in _RUNNING and now - self._told_at >= EVERY
        if due or brief != self._told:
            self._told, self._told_at = brief, now
            self._post({"type": "guide", **guide.state(now)})

    def record(self, values: Message, spec: SignalSpec, recent: Signal) -> None:
        """Begin or end a recording by hand.

        Args:
            values: Of the request.
            spec: The signal, and the gestures that there are.
            recent: The newest samples.

        Raises:
            DataError: It cannot be done now.
        """
        keeper = self._person.keeper
        if keeper is None:
            raise DataError("record: expected a folder to record into, start with --record FOLDER")
        if self._guide is not None and self._guide.phase in _RUNNING:
            raise DataError("record: expected the guide to be over first")
        if self._recorder is None:
            name = self._new_session("-by-hand")
            self._recorder = HandRecorder(spec, self._unit, keeper.subject, name)
        if values["on"]:
            lead = recent[-round(LEAD * spec.sampling_rate) :]
            self._recorder.start(values["gesture"], lead)
            self._post(self._recorder.state())
        else:
            try:
                self._recorder.stop()
            finally:
                self._post(self._recorder.state())

    def guide(self, values: Message, now: float) -> None:
        """Do what is asked of the guided calibration.

        Raises:
            DataError: It cannot be done now.
        """
        person = self._person
        if person.calibrate is None or person.keeper is None or person.spec is None:
            raise DataError("guide: expected a population to calibrate by, start with one")
        if self._recorder is not None and self._recorder.gesture is not None:
            raise DataError("guide: expected the recording by hand to be over first")
        action = values["action"]
        if action == "redo" and self._stored:
            raise DataError(
                "guide: expected a performance that is not in the person's folder yet; start "
                "another calibration to perform it again"
            )
        guide = self._guide
        if guide is None or (action == "start" and guide.phase in _OVER):
            guide = self._new_guide(person.spec, person.keeper)
        guide.request(values, now)
        if self._guide is not guide:
            self._guide, self._stored = guide, []
        if action == "finish":
            self._learn(guide, guide.recordings(), person.keeper, person.calibrate)
        self._told = ()
        self.tick(now)

    def leave(self) -> None:
        """Keep what would be lost.

        Raises:
            MyoDistillError: It cannot be kept.
        """
        if self._recorder is not None and self._recorder.gesture is not None:
            self._end_of_recording()
        self._keep_by_hand()
        guide, keeper = self._guide, self._person.keeper
        if guide is None or keeper is None or guide.phase in ("idle", "learning", "done"):
            return
        try:
            recordings = guide.recordings()
        except DataError:  # not one complete repetition
            return
        self._keep_guided(recordings, keeper, "guided calibration, not finished")

    def _new_guide(self, spec: SignalSpec, keeper: Keeper) -> Guide:
        self._session = self._new_session("")
        return Guide(
            spec,
            self._unit,
            subject=keeper.subject,
            session=self._session,
            timing=self._person.timing,
            seed=len(self._names),
        )

    def _new_session(self, ending: str) -> str:
        base = datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
        name, number = f"{base}{ending}", 1
        while name in self._names:
            number += 1
            name = f"{base}{ending}-{number}"
        self._names.add(name)
        return name

    def _end_of_recording(self) -> None:
        assert self._recorder is not None
        try:
            self._recorder.stop()
        except MyoDistillError as error:
            self._say(str(error))
        self._post(self._recorder.state())

    def _keep_by_hand(self) -> None:
        """Put what was recorded by hand into the person's folder, as a session of its own."""
        recorder, keeper = self._recorder, self._person.keeper
        if recorder is None or keeper is None or not recorder.recordings:
            return
        keeper.keep(recorder.recordings, recorder.session, "recorded by hand on the page")
        self._say(f"{len(recorder.recordings)} recordings by hand are in {keeper.folder}")
        self._recorder = None

    def _keep_guided(self, recordings: Sequence[Recording], keeper: Keeper, source: str) -> None:
        """Put what was performed into the person's folder, what came later as a later session."""
        there = {id(one.signal) for one in self._stored}
        new = [one for one in recordings if id(one.signal) not in there]
        if new:
            keeper.keep(new, self._new_session("") if there else self._session, source)
            self._stored = [*self._stored, *new]

    def _learn(
        self, guide: Guide, recordings: list[Recording], keeper: Keeper, calibrate: Calibrate
    ) -> None:
        """Store and calibrate in a thread beside, and come back with the decoder."""

        def failed(line: str) -> None:
            self._later(lambda: guide.failed(line))
            self._say(line)

        def learn() -> None:
            try:
                self._keep_by_hand()
                self._keep_guided(recordings, keeper, "guided calibration")
                made = calibrate(recordings)
                decoder = _decoder(made, self._adapt)
                self._later(lambda: self._exchange(guide, decoder, made.expected))
                if line := made.later():
                    self._later(lambda: self._expect(guide, line))
            except MyoDistillError as error:
                failed(str(error))
            except Exception as error:  # a defect of ours; the recordings are kept
                traceback.print_exc(file=sys.stderr)
                failed(f"defect: {one_line(repr(error))}")

        threading.Thread(target=learn, daemon=True).start()

    def _exchange(self, guide: Guide, decoder: Decoder, expected: str) -> None:
        try:
            self._ready(decoder)
        except MyoDistillError as error:
            guide.failed(str(error))
            return
        guide.done(expected)

    def _expect(self, guide: Guide, line: str) -> None:
        if guide is self._guide and guide.phase == "done":
            guide.done(line)


def _decoder(made: Learned, adapt: bool) -> Decoder:
    """Return a decoder that has decided once already, as the first time takes longest."""
    spec = made.model.spec
    made.model._infer(np.zeros((1, spec.channels, spec.samples), np.float32))
    return Decoder(made.model, adapt=adapt and made.model.adaptation is not None)
