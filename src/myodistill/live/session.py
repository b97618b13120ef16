"""A decoder on a live stream: it abstains where the stream is broken, and counts everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.decision_rule import REJECTED
from myodistill.errors import DataError, one_line
from myodistill.live.continuity import Continuity
from myodistill.live.events import Event
from myodistill.live.health import ENOUGH, BurstMeter, ChannelCheck, Health, RateMeter
from myodistill.live.sinks import Message
from myodistill.realtime.decoder import Decision
from myodistill.realtime.sources import Chunk
from myodistill.realtime.windows import LIMIT
from myodistill.signals.samples import real_numbers

SILENT = 0.5
"""Seconds without samples after which a stream counts as silent."""
HOPELESS = 20
"""Messages that are refused before the first is read; then the device speaks something else."""

_FAULTS = ("flat", "saturated", "invalid")


class Deciding(Protocol):
    """What a session needs of a decoder."""

    abstained: int

    @property
    def spec(self) -> SignalSpec:
        """The signal that it reads."""

    @property
    def step(self) -> int:
        """Samples from one decision to the next."""

    def push(self, samples: Signal) -> list[Decision]:
        """Take the next samples; return what they decide."""


class Session:
    """One decoder, one stream.

    Args:
        decoder: Fresh, or restored.
        tell: Takes a line for the user when something happens to the stream.
        enough: Seconds after which the rate is judged; 0 for never.
        give_up: Seconds of silence that end the stream; None for never.
        log: Takes the same as an event.
        tap: Takes the samples, raw, after they were decided, and the place of the first in the
            stream; lost ones are not finite.

    Attributes:
        health: What the stream was like.
        decisions: Windows that were decided or abstained from.
        newest: The decision of the message that was yielded last; None where silence was.
        delay: Seconds from the arrival of the newest decision's last sample to the decision; None
            before there was one, and of a file.
    """

    def __init__(
        self,
        decoder: Deciding,
        *,
        tell: Callable[[str], None] = lambda line: None,
        enough: float = ENOUGH,
        give_up: float | None = None,
        log: Callable[[Event], None] = lambda event: None,
        tap: Callable[[Signal, int], None] = lambda samples, begin: None,
    ) -> None:
        spec = decoder.spec
        self.health, self.decisions = Health(), 0
        self.delay: float | None = None
        self.newest: Decision | None = None
        self._decoder, self._spec, self._give_up = decoder, spec, give_up
        self._tell, self._log, self._tap = tell, log, tap
        self._abstained = 0  # of decoders that were exchanged
        self._continuity = Continuity(spec.sampling_rate, spec.samples, decoder.step, self.health)
        self._rate = RateMeter(spec.sampling_rate, enough)
        self._bursts = BurstMeter(spec.sampling_rate, self.health)
        self._channels = ChannelCheck(spec.sampling_rate, self.health)
        self._bad: dict[str, list[int]] = {}  # channels of the newest second, by what is wrong
        self._heard: float | None = None
        self._silent = False
        self._position = 0  # samples of the stream so far, lost ones among them
        self._ahead = 0  # lost ones that the decoder knows nothing of

    @property
    def abstained(self) -> int:
        """Decisions that were withheld because the stream was broken."""
        return self._abstained + self._decoder.abstained

    def exchange(self, decoder: Deciding) -> None:
        """Go on with another decoder of the same stream, which begins with the next sample.

        Raises:
            DataError: It was made for other channels or another rate.
        """
        old, new = self._spec, decoder.spec
        if (new.channels, new.sampling_rate) != (old.channels, old.sampling_rate):
            raise DataError(
                f"decoder: expected one for {old.channels} channels at {old.sampling_rate:g} Hz, "
                f"got {new.channels} at {new.sampling_rate:g} Hz"
            )
        self._abstained += self._decoder.abstained
        self._decoder, self._spec, self._ahead = decoder, new, self._position
        self._continuity.fit(new.samples, decoder.step)

    @property
    def measured_rate(self) -> float | None:
        """Samples a second, as they came; None before two seconds, and of a file."""
        return self._rate.measured

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Message]:
        """Yield what is decided, until the source ends or is silent for too long.

        Raises:
            DataError: Nothing can be read, or the rate is another one.
        """
        for chunk in chunks:
            yield from self.take(chunk)
            if self._over(chunk):
                self._say("over", "silent for too long: the stream ends")
                return

    def take(self, chunk: Chunk) -> Iterator[Message]:
        """Yield what one chunk decides."""
        chunk = replace(chunk, samples=real_numbers(chunk.samples, what="stream"))
        if chunk.samples.ndim != 2 or chunk.samples.shape[1] != self._spec.channels:
            self._decoder.push(chunk.samples)  # says what is wrong
        self._connections(chunk)
        self._refusals(chunk)
        if not len(chunk.samples):
            yield from self._listen(chunk)
            self._continuity.take(chunk)
            return
        if self._silent:
            self._say("resumed", "samples come again", "info")
            self._rate.restart()
        self._heard, self._silent = chunk.arrived, False
        self.health.newest = time.monotonic()
        before = replace(self.health)
        gap, samples, skipped = self._continuity.take(chunk)
        if self.health.gaps > before.gaps:
            lost = self.health.lost - before.lost
            what = f"{lost} samples are missing" if lost else "nothing is decided across a break"
            self._say("gap", f"gap: {what}", lost=lost)
        if len(gap):
            yield from self._decide(gap)
            self._position += skipped
            self._ahead += skipped
        self.health.samples += len(samples)
        self.health.broken += int((~(np.abs(samples) <= LIMIT).all(axis=1)).sum())
        for message in self._decide(samples):
            if chunk.arrived is not None:
                self.delay = time.monotonic() - chunk.arrived
            yield message
        if self._channels.take(samples):
            self._tell_quality()
        if chunk.arrived is not None:
            self._bursts.take(len(samples), chunk.arrived)
            if self.health.bursts > before.bursts:
                delay = f"burst: samples were held up for {self.health.delay:.2f} s at most"
                self._say("burst", delay, delay=self.health.delay)
            lost = self.health.lost - before.lost
            self._rate.take(len(samples) + lost, chunk.arrived)

    def summary(self, seconds: float) -> str:
        """Return one line about the stream so far."""
        health = self.health
        parts = [
            f"{health.samples} samples",
            f"{self.decisions} decisions",
            f"{self.abstained} abstained",
            f"{health.gaps} gaps ({health.lost} samples lost)",
            f"{health.duplicated} duplicated",
            f"{health.late} late",
            f"{health.broken} broken",
            f"{health.refused} messages refused",
            f"{health.silences} silences",
        ]
        if health.bursts:
            parts += [f"{health.bursts} bursts (samples up to {health.delay:.2f} s late)"]
        if health.vanished or health.restarts:
            parts += [f"device gone {health.vanished} times, restarted {health.restarts}"]
        for name in _FAULTS:
            if channels := getattr(health, name):
                parts.append(f"{name} channels {', '.join(map(str, sorted(channels)))}")
        rate = self.measured_rate
        parts.append("rate not measured" if rate is None else f"{rate:.1f} samples/s")
        return "; ".join([*parts, f"{seconds:.1f} s"])

    def _say(self, name: str, text: str, level: str = "warning", **fields: Any) -> None:
        self._tell(text)
        self._log(Event(name, text, level, fields))

    def _tell_quality(self) -> None:
        """Say which channels have become bad or sound in the newest second."""
        for name in _FAULTS:
            now = np.flatnonzero(getattr(self.health.quality, name)).tolist()
            before, self._bad[name] = self._bad.get(name, []), now
            for channels, word in ((set(now) - set(before), ""), (set(before) - set(now), "not ")):
                if channels:
                    which = sorted(channels)
                    text = f"channels {one_line(str(which)[1:-1], 60)}: {word}{name}"
                    level = "info" if word else "warning"
                    self._say(f"{word}{name}".replace(" ", "-"), text, level, channels=which)

    def _connections(self, chunk: Chunk) -> None:
        if chunk.note:
            self._say("source", chunk.note)
        if chunk.joined:
            self.health.connections += 1
            self._continuity.interrupt()
            self._rate.restart()
            self._bursts.restart()
            self._heard = chunk.arrived
            if self.health.connections > 1:
                self._say("connected", "a device is back", "info")
        if chunk.left:
            self.health.vanished += 1
            self._say("vanished", "the device is gone")

    def _refusals(self, chunk: Chunk) -> None:
        if not chunk.refused:
            return
        health = self.health
        if chunk.reason != health.reason:
            self._say("refused", f"refused: {chunk.reason}")
        health.refused += chunk.refused
        health.reason = chunk.reason
        if not health.samples and health.refused >= HOPELESS:
            raise DataError(f"{chunk.reason}; none of the first {HOPELESS} messages could be read")

    def _listen(self, chunk: Chunk) -> Iterator[Message]:
        """Notice that nothing comes; say at once that nothing is decided meanwhile."""
        if self._heard is None:
            self._heard = chunk.arrived
        if chunk.arrived is None or self._silent or not self.health.samples:
            return
        if self._heard is not None and chunk.arrived - self._heard >= SILENT:
            self._silent = True
            self.health.silences += 1
            self._say("silent", "silent: no samples come")
            if not self._continuity.counts:
                self._continuity.interrupt()
            self.newest = None
            yield self._message(self._position, REJECTED, 0.0, abstained=True)

    def _over(self, chunk: Chunk) -> bool:
        if self._give_up is None or chunk.arrived is None or self._heard is None:
            return False
        return chunk.arrived - self._heard >= self._give_up

    def _decide(self, samples: Signal) -> Iterator[Message]:
        for one in self._decoder.push(samples):
            self.decisions += 1
            abstained = one.prediction == REJECTED
            sample = one.sample + self._ahead
            self.newest = one
            yield self._message(sample, one.gesture, one.confidence, abstained=abstained)
        self._tap(samples, self._position)
        self._position += len(samples)

    def _message(self, sample: int, gesture: int, confidence: float, *, abstained: bool) -> Message:
        return {
            "seconds": sample / self._spec.sampling_rate,
            "sample": sample,
            "gesture": self._spec.gestures[gesture] if gesture >= 0 else None,
            "confidence": confidence,
            "abstained": abstained,
        }
