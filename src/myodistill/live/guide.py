"""Leads a person through their gestures and keeps what they perform, to calibrate by.

Nothing here knows of a clock, a page or a thread: time is passed in, so that tests do without
waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from myodistill.datasets.recording import Recording, Signal, SignalSpec
from myodistill.errors import DataError, shown
from myodistill.live.performances import Performance, Performances, Step
from myodistill.live.verdicts import STRONGER, TENSE, Levels, judge, levels, strength

Phase = Literal[
    "idle", "ready", "perform", "rest", "review", "paused", "learning", "done", "failed"
]

REACTION = 0.5
"""Seconds after the cue that belong to no gesture yet."""
LEAD = 1.0
"""Seconds before the cue that are kept, without a label, for filters to settle in."""
STALLED = 1.0
"""Seconds without samples after which a performance is broken off."""

_RUNNING: tuple[Phase, ...] = ("ready", "perform", "rest")


@dataclass(frozen=True)
class Timing:
    """How long everything takes.

    Attributes:
        ready: Seconds to get ready in, the gesture in sight.
        perform: Seconds that a gesture is held and labelled.
        rest: Seconds of pause after it.
    """

    ready: float = 2.0
    perform: float = 3.0
    rest: float = 2.0


class Guide:
    """One guided calibration, from the first cue to the recordings.

    Args:
        spec: The signal, and the gestures that are asked for.
        unit: Of the samples.
        subject: The person's name.
        session: Name of the session that is recorded.
        timing: How long everything takes.
        seed: Of the order.
    """

    def __init__(
        self,
        spec: SignalSpec,
        unit: str,
        *,
        subject: str,
        session: str,
        timing: Timing | None = None,
        seed: int = 0,
    ) -> None:
        self.phase: Phase = "idle"
        self.line = ""
        self.expected = ""
        self._spec, self._unit, self._subject, self._session = spec, unit, subject, session
        self._timing = timing or Timing()
        self._made = Performances(spec, seed=seed)
        self._steps: deque[Step] = deque()  # that are still to come, the present one first
        self._until = 0.0  # when the phase ends
        self._heard = 0.0  # when samples came last
        self._rest: Levels | None = None
        self._lead = round(LEAD * spec.sampling_rate)
        self._recent: deque[Signal] = deque([np.zeros((0, spec.channels), np.float32)])
        self._performed: list[Signal] = []

    def request(self, message: Mapping[str, Any], now: float) -> None:
        """Do what the person asks for.

        Args:
            message: ``action``, and what belongs to it, as the page sends it.
            now: In seconds.

        Raises:
            DataError: It cannot be done now; nothing has changed.
        """
        action = message.get("action")
        actions = {
            "start": self._start,
            "pause": self._pause,
            "go-on": self._go_on,
            "redo": self._redo,
            "finish": self._finish,
            "cancel": self._cancel,
        }
        if action not in actions:
            raise DataError(f"guide: expected one of {', '.join(actions)}, got {shown(action)}")
        actions[action](message, now)

    def take(self, samples: Signal, now: float) -> None:
        """Take samples as they come.

        Args:
            samples: Shape ``(time, channel)``, raw; not finite where some are missing.
            now: In seconds.
        """
        self.tick(now)
        if not len(samples):
            return
        self._heard = now
        if self.phase == "perform":
            self._performed.append(samples)
            if sum(map(len, self._performed)) >= self._wanted:
                self._end_of_performance(now)
            return
        self._recent.append(samples)
        while sum(map(len, self._recent)) - len(self._recent[0]) >= self._lead:
            self._recent.popleft()  # about as much as is kept before a cue

    def tick(self, now: float) -> None:
        """Go on to the next phase when it is time; break off when no samples come."""
        if self.phase == "perform" and now - self._heard > STALLED:
            self._break_off("no samples come: see to the device, then go on")
        elif self.phase in ("ready", "rest") and now >= self._until:
            if self.phase == "rest":
                self._next(now)
            elif now - self._heard > STALLED:
                self._break_off("no samples come: see to the device, then go on")
            else:
                self.phase, self._performed = "perform", []

    def state(self, now: float) -> dict[str, Any]:
        """Return what a page shows of it."""
        step = self._steps[0] if self._steps else None
        following = self._steps[1] if len(self._steps) > 1 else None
        asked = step if self.phase in (*_RUNNING, "paused") else None
        names = self._spec.gestures
        return {
            "phase": self.phase,
            "gesture": names[asked.gesture] if asked else None,
            "next": names[following.gesture] if asked and following else None,
            "repetition": asked.repetition + 1 if asked else 0,
            "repetitions": self._made.repetitions,
            "step": self._made.repetitions * len(names) - len(self._made.missing()),
            "steps": self._made.repetitions * len(names),
            "remaining": self._remaining(now),
            "quality": self._quality(),
            "takes": [
                {
                    "gesture": names[step.gesture],
                    "repetition": step.repetition + 1,
                    "ok": one.verdict.good,
                    "line": one.verdict.line,
                }
                for step, one in self._made.performed.items()
            ],
            "expected": {"line": self.expected} if self.expected else None,
            "line": self.line,
        }

    def recordings(self) -> list[Recording]:
        """Return the performances of the complete repetitions, a recording each.

        Raises:
            DataError: Not every gesture was performed once.
        """
        return self._made.recordings(self._subject, self._session, self._unit)

    def done(self, expected: str) -> None:
        """Take note that there is a decoder, and of the accuracy to expect."""
        self.phase, self.expected, self.line = "done", expected, ""

    def failed(self, line: str) -> None:
        """Take note that calibration failed; the performances are still there."""
        self.phase, self.line = "failed", line

    @property
    def _wanted(self) -> int:
        return round((REACTION + self._timing.perform) * self._spec.sampling_rate)

    def _start(self, message: Mapping[str, Any], now: float) -> None:
        if self.phase in (*_RUNNING, "paused", "learning"):
            raise DataError("guide: expected to start when nothing runs; cancel first")
        count, seconds = message.get("repetitions", 3), message.get("seconds")
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 20:
            raise DataError(f"guide: expected 1 to 20 repetitions, got {shown(count)}")
        if seconds is not None:
            if not isinstance(seconds, int | float) or not 1 <= seconds <= 30:
                raise DataError(f"guide: expected 1 to 30 seconds a gesture, got {shown(seconds)}")
            self._timing = replace(self._timing, perform=float(seconds))
        self._made, self._rest = replace(self._made, repetitions=count, performed={}), None
        self.expected = ""
        self._steps = deque(self._made.order())
        self._get_ready(now)

    def _pause(self, message: Mapping[str, Any], now: float) -> None:
        if self.phase not in _RUNNING:
            raise DataError("guide: expected to pause while gestures are performed")
        self._break_off("")

    def _break_off(self, line: str) -> None:
        """Stop where it is; a performance that is not over begins anew."""
        if self.phase == "rest" and self._steps[0] in self._made.performed:
            self._steps.popleft()
        self.phase, self.line, self._performed = "paused", line, []
        if not self._steps:
            self._review()

    def _go_on(self, message: Mapping[str, Any], now: float) -> None:
        if self.phase in ("review", "failed") and (missing := self._made.missing()):
            self._steps = deque(missing)
        elif self.phase != "paused":
            raise DataError("guide: expected to go on after a pause, or where something is missing")
        self._get_ready(now)

    def _redo(self, message: Mapping[str, Any], now: float) -> None:
        if self.phase not in (*_RUNNING, "paused", "review", "failed"):
            raise DataError("guide: expected to redo a gesture before the end of calibration")
        index, taken = message.get("step"), list(self._made.performed)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(taken):
            raise DataError(f"guide: expected one of {len(taken)} performances, got {shown(index)}")
        if self.phase == "rest" and self._steps:
            self._steps.popleft()  # it is performed already
        self._made.performed.pop(taken[index])
        self._steps.appendleft(taken[index])
        self._get_ready(now)

    def _finish(self, message: Mapping[str, Any], now: float) -> None:
        if self.phase not in (*_RUNNING, "paused", "review", "failed"):
            raise DataError("guide: expected to finish after gestures were performed")
        self.recordings()
        self.phase, self.line, self._performed = "learning", "", []
        self._steps.clear()

    def _cancel(self, message: Mapping[str, Any], now: float) -> None:
        if self.phase == "learning":
            raise DataError("guide: expected to wait, it is being learned from")
        self.phase, self.line, self._performed = "idle", "", []
        self._made = replace(self._made, repetitions=0, performed={})
        self._steps.clear()

    def _get_ready(self, now: float) -> None:
        self.phase, self.line, self._performed = "ready", "", []
        self._until = now + self._timing.ready
        self._heard = max(self._heard, now)

    def _next(self, now: float) -> None:
        self._steps.popleft()
        if self._steps:
            self._get_ready(now)
        else:
            self._review()

    def _review(self) -> None:
        missing = len(self._made.missing())
        self.phase = "review"
        self.line = f"{missing} performances are missing: go on to perform them" if missing else ""

    def _end_of_performance(self, now: float) -> None:
        rate, step = self._spec.sampling_rate, self._steps[0]
        lead, performed = _unbroken(self._recent), np.concatenate(self._performed)
        reaction = round(REACTION * rate)
        whole = bool(np.isfinite(performed).all())
        judged = performed[reaction:] if whole else performed
        resting = step.gesture == self._made.resting
        verdict = judge(judged, rate, resting=resting, rest=self._rest)
        signal = np.concatenate([lead, performed])
        self._made.performed[step] = Performance(signal, len(lead) + reaction, verdict)
        if resting and verdict.usable:
            found = levels(judged, rate)
            self._rest = found if self._rest is None else np.minimum(self._rest, found)
        self._performed = []
        self._recent = deque([signal[:0]])
        self.phase, self.line = "rest", verdict.line
        self._until = now + self._timing.rest

    def _remaining(self, now: float) -> float:
        if self.phase == "perform":
            left = self._wanted - sum(map(len, self._performed))
            return max(left, 0) / self._spec.sampling_rate
        return max(self._until - now, 0.0) if self.phase in _RUNNING else 0.0

    def _quality(self) -> dict[str, Any] | None:
        """Say while a gesture is performed whether it can be told from rest."""
        if self.phase != "perform" or self._rest is None or not self._performed:
            return None
        rate = self._spec.sampling_rate
        newest = np.concatenate(self._performed)[-round(0.5 * rate) :]
        if len(newest) < 0.1 * rate:  # too few to tell
            return None
        if not np.isfinite(newest).all():
            return {"ok": False, "line": "samples are missing"}
        times = strength(levels(newest, rate), self._rest)
        if self._steps[0].gesture == self._made.resting:
            return {"ok": times <= TENSE, "line": f"{times:.1f} times the quietest rest"}
        return {"ok": times >= STRONGER, "line": f"{times:.1f} times as strong as rest"}


def _unbroken(parts: Iterable[Signal]) -> Signal:
    """Return the samples after the last one that is missing."""
    signal = np.concatenate(list(parts))
    broken = np.flatnonzero(~np.isfinite(signal).all(axis=1))
    return signal[broken[-1] + 1 :] if len(broken) else signal
