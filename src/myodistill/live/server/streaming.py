"""The stream behind a page: decoded in a thread of its own, which takes requests between chunks."""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.errors import BundleError, DataError, MyoDistillError, one_line
from myodistill.live.models import StateFile
from myodistill.live.server.buckets import Buckets
from myodistill.live.server.monitor import ChannelMonitor
from myodistill.live.server.requests import Request
from myodistill.live.server.tasks import Person, PersonTasks
from myodistill.live.session import SILENT, Session
from myodistill.realtime.decoder import Decision, Decoder
from myodistill.realtime.sources import Chunk

Message = dict[str, Any]

_DELAYS = 1000  # newest decisions whose delays are told
_COUNTS = ("samples", "gaps", "lost", "duplicated", "late", "broken", "refused", "silences")


class Undecided:
    """Stands where there is no decoder yet: takes samples, and decides nothing.

    Args:
        spec: The signal that is to be decoded.
    """

    def __init__(self, spec: SignalSpec) -> None:
        self.spec, self.step, self.abstained = spec, spec.samples, 0

    def push(self, samples: Signal) -> list[Decision]:
        """Take samples of the right shape.

        Raises:
            DataError: They have another number of channels.
        """
        if samples.ndim != 2 or samples.shape[1] != self.spec.channels:
            raise DataError(
                f"stream: expected samples of shape (time, {self.spec.channels} channels), got "
                f"{samples.shape}; check the device's channels"
            )
        return []


class LiveStream:
    """One stream, its decoder, and what a page shows of them and asks of them.

    Args:
        spec: The signal, and the gestures.
        unit: Of the samples.
        decoder: None where a guided calibration is to make it.
        name: Of the decoder, for people.
        source: Of the samples, for people.
        post: Takes messages for the page.
        person: Whom something can be done for.
        tell: Takes lines for whoever started the server.
        enough: Seconds after which the rate is judged; 0 for never.
        adapt: Whether a new decoder follows its wearer, where it can.
        state: Keeps what the decoder learns.

    Attributes:
        buckets: Signals for drawing.
        tasks: What is done for the person.
        error: Why the stream ended, if it had to; one line.
        defect: Whether that was a defect of the software.
    """

    def __init__(
        self,
        spec: SignalSpec,
        unit: str,
        decoder: Decoder | None,
        *,
        name: str,
        source: str,
        post: Callable[[Message], None],
        person: Person | None = None,
        tell: Callable[[str], None] = lambda line: None,
        enough: float = 0.0,
        adapt: bool = False,
        state: StateFile | None = None,
    ) -> None:
        self.error, self.defect = "", False
        self._never = False  # the source gave nothing but an error
        self.buckets = Buckets(spec.channels, spec.sampling_rate)
        self._monitor = ChannelMonitor(spec.channels, spec.sampling_rate)
        self._spec, self._unit, self._decoder = spec, unit, decoder
        self._name, self._source, self._kept = name, source, state
        self._post, self._tell = post, tell
        self._person = person or Person()
        self._session = Session(
            decoder or Undecided(spec), tell=self._say, enough=enough, tap=self._tap
        )
        self._delays: deque[float] = deque(maxlen=_DELAYS)
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.tasks = PersonTasks(
            self._person, unit, post=post, say=self._say, later=self._work.put,
            ready=self._exchange, adapt=adapt,
        )  # fmt: skip
        self._stop, self._started, self._ended = (threading.Event() for _ in range(3))
        self._thread: threading.Thread | None = None
        self._begin = time.monotonic()
        self._hello: Message = {}
        self._lasting = self._described()
        self._tell_hello()

    # From any thread.

    def start(self, chunks: Iterable[Chunk]) -> None:
        """Decode from now on."""
        self._thread = threading.Thread(target=self._run, args=(chunks,), daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until the source gave something, or ended.

        Raises:
            DataError: It ended with an error before it gave anything.
        """
        self._started.wait(seconds)
        if self._never:
            raise DataError(self.error)

    def stop(self) -> str:
        """End the stream, keep what was recorded, and return a summary."""
        self._stop.set()
        if self._person.calibrate is not None:
            self._person.calibrate.close()
        if self._thread is not None:
            self._thread.join(timeout=10)
        return self._session.summary(time.monotonic() - self._begin)

    def ask(self, request: Request, answer: Callable[[str], None]) -> None:
        """Have something done between two chunks.

        Args:
            request: What.
            answer: Is called in the stream's thread, with the reason if it was refused, else with
                nothing.
        """
        self._work.put(lambda: answer(self._try(request)))

    def counters(self) -> Message:
        """Return the counts so far, as a page shows them."""
        session, delays = self._session, list(self._delays)
        median, late = np.percentile(delays, (50, 99)).round(3).tolist() if delays else (0, 0)
        return {
            "type": "counters",
            **{name: getattr(session.health, name) for name in _COUNTS},
            "decisions": session.decisions,
            "abstained": session.abstained,
            "rate": session.measured_rate,
            "delay_ms": {"median": median, "p99": late} if delays else None,
            "state": self.state,
            "adapt": self._hello["adapt"],
        }

    def channels(self) -> Message:
        """Return the strength and the quality of each channel now."""
        quality, streaming = self._session.health.quality, self.state == "streaming"
        found = self._monitor.measure(quality, streaming=streaming, now=time.monotonic())
        return {"type": "channels", **found}

    @property
    def state(self) -> str:
        """``"waiting"`` for the first samples, ``"streaming"``, ``"silent"`` or ``"ended"``."""
        newest = self._session.health.newest
        if self._ended.is_set():
            return "ended"
        if newest is None:
            return "waiting"
        return "streaming" if time.monotonic() - newest < SILENT else "silent"

    # In the stream's thread.

    def _run(self, chunks: Iterable[Chunk]) -> None:
        source = iter(chunks)
        try:
            while not self._stop.is_set() and (chunk := next(source, None)) is not None:
                self._take(chunk)
            if not self._stop.is_set():
                self._say("the source has ended")
        except MyoDistillError as error:
            self.error = str(error)
        except Exception as error:  # a defect of ours: said on the page, and in full on stderr
            self.error, self.defect = f"defect: {one_line(repr(error))}", True
            traceback.print_exc(file=sys.stderr)
        finally:
            if isinstance(source, Generator):
                with suppress(Exception):
                    source.close()
        self._never = bool(self.error) and not self._started.is_set()
        if self.error and not self._never:
            self._say(self.error)
        self._ended.set()
        self._started.set()
        while not self._stop.is_set():
            with suppress(queue.Empty):
                self._work.get(timeout=0.1)()
            self._go_on(time.monotonic())
        self._leave()

    def _take(self, chunk: Chunk) -> None:
        if chunk.arrived is None:
            chunk = replace(chunk, arrived=time.monotonic())
        while not self._work.empty():
            self._work.get()()
        for message in self._session.take(chunk):
            self._post(self._decision(message))
        self._started.set()
        self._go_on(time.monotonic())

    def _decision(self, message: Message) -> Message:
        newest, delay = self._session.newest, self._session.delay
        sure = newest.probabilities if newest is not None else None
        late = None if delay is None or newest is None else round(1000 * delay, 3)
        if late is not None:
            self._delays.append(late)
        return {
            "type": "decision",
            **message,
            "label": newest.gesture if newest is not None else -1,
            "probabilities": None if sure is None else sure.round(5).tolist(),
            "delay_ms": late,
        }

    def _tap(self, samples: Signal, begin: int) -> None:
        self.buckets.take(samples, begin)
        self._monitor.take(samples, begin)
        self.tasks.take(samples)

    def _go_on(self, now: float) -> None:
        """Do what is due with or without samples."""
        self.tasks.tick(now)
        if self._kept is not None:
            self._kept.save_if_due()
        self._tell_hello()

    def _leave(self) -> None:
        """Keep what would be lost."""
        try:
            self.tasks.leave()
            if self._kept is not None and self._session.decisions:
                self._kept.save()
        except MyoDistillError as error:
            self.error = self.error or str(error)
            self._say(str(error))

    def _try(self, request: Request) -> str:
        """Do what is asked; return the reason where it cannot be done."""
        try:
            self._do(request)
        except MyoDistillError as error:
            return str(error)
        self._tell_hello()
        return ""

    def _do(self, request: Request) -> None:
        values = request.values
        if request.kind == "record":
            self.tasks.record(values, self._spec, self._monitor.newest())
        elif request.kind == "guide":
            self.tasks.guide(values, time.monotonic())
        elif self._decoder is None:
            raise DataError(f"{request.kind}: expected a decoder, calibrate first")
        elif request.kind == "threshold":
            self._decoder.threshold = values["value"]
        elif request.kind == "adapt":
            self._decoder.follow(values["on"])
        elif self._decoder.adapter is None:
            raise BundleError("adapt-reset: expected adapting to be on, it is off")
        else:
            self._decoder.adapter.reset()

    def _exchange(self, decoder: Decoder) -> None:
        self._session.exchange(decoder)
        if self._kept is not None:
            self._kept = None
            self._say("state: what the former decoder learned is kept, the new one begins anew")
        self._decoder, self._spec = decoder, decoder.spec
        if self._person.keeper is not None:
            self._name = self._person.keeper.subject
        self._lasting = self._described()
        self._tell_hello()

    def _say(self, line: str) -> None:
        self._tell(line)
        self._post({"type": "event", "line": one_line(line, 400)})

    def _tell_hello(self) -> None:
        """Tell the page how things stand, if anything changed; asked after every chunk."""
        decoder = self._decoder
        adapter = decoder.adapter if decoder is not None else None
        hello = self._lasting | {
            "adapt": {
                "available": decoder is not None and decoder.model.adaptation is not None,
                "on": adapter is not None,
                "suspended": adapter is not None and adapter.suspended,
            },
            "threshold": 0.0 if decoder is None else decoder.threshold,
        }
        if hello != self._hello:
            self._hello = hello
            self._post(hello)

    def _described(self) -> Message:
        """Return what stays as it is while one decoder, or none, is there."""
        decoder, spec, electrodes = self._decoder, self._spec, self._spec.electrodes
        shape = {"kind": "grid", "rows": electrodes.rows, "columns": electrodes.columns}
        step = spec.samples if decoder is None else decoder.step
        return {
            "type": "hello",
            "version": 1,
            "mode": "calibrate" if decoder is None else "decode",
            "name": self._name,
            "source": self._source,
            "gestures": list(spec.gestures),
            "channels": spec.channels,
            "rate": spec.sampling_rate,
            "unit": self._unit,
            "step_seconds": step / spec.sampling_rate,
            "layout": shape if spec.channels > 16 else {"kind": "ring"},
            "order": electrodes.positions().ravel().tolist(),
            "buckets": self.buckets.rate,
            "record": self._person.keeper is not None,
            "guide": self._person.calibrate is not None,
        }
