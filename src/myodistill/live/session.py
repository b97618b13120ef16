"""A decoder on a live stream: it abstains where the stream is broken, and counts everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from myodistill.datasets.recording import Signal
from myodistill.decision_rule import REJECTED
from myodistill.errors import DataError
from myodistill.live.continuity import Continuity
from myodistill.live.health import ENOUGH, ChannelCheck, Health, RateMeter
from myodistill.live.sinks import Message
from myodistill.realtime.decoder import LIMIT, Decoder
from myodistill.realtime.sources import Chunk
from myodistill.signals.samples import real_numbers

SILENT = 0.5
"""Seconds without samples after which a stream counts as silent."""
HOPELESS = 20
"""Messages that are refused before the first is read; then the device speaks something else."""


class Session:
    """One decoder, one stream.

    Args:
        decoder: Fresh, or restored.
        tell: Takes a line for the user when something happens to the stream.
        enough: Seconds after which the rate is judged; 0 for never.
        give_up: Seconds of silence that end the stream; None for never.

    Attributes:
        health: What the stream was like.
        decisions: Windows that were decided or abstained from.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        tell: Callable[[str], None] = lambda line: None,
        enough: float = ENOUGH,
        give_up: float | None = None,
    ) -> None:
        spec = decoder.model.spec
        self.health, self.decisions = Health(), 0
        self._decoder, self._spec, self._tell, self._give_up = decoder, spec, tell, give_up
        self._continuity = Continuity(spec.sampling_rate, spec.samples, decoder.step, self.health)
        self._rate = RateMeter(spec.sampling_rate, enough)
        self._channels = ChannelCheck(spec.sampling_rate, self.health)
        self._heard: float | None = None
        self._silent = False
        self._position = 0  # samples of the stream so far, lost ones among them
        self._ahead = 0  # lost ones that the decoder knows nothing of

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
                self._tell("silent for too long: the stream ends")
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
            self._tell("samples come again")
            self._rate.restart()
        self._heard, self._silent = chunk.arrived, False
        before = replace(self.health)
        gap, samples, skipped = self._continuity.take(chunk)
        if self.health.gaps > before.gaps:
            self._tell(f"gap: {self.health.lost - before.lost} samples are missing")
        if len(gap):
            yield from self._decide(gap)
            self._position += skipped
            self._ahead += skipped
        self.health.samples += len(samples)
        self.health.broken += int((~(np.abs(samples) <= LIMIT).all(axis=1)).sum())
        self._channels.take(samples)
        yield from self._decide(samples)
        if chunk.arrived is not None:
            lost = self.health.lost - before.lost
            self._rate.take(len(samples) + lost, chunk.arrived)

    def summary(self, seconds: float) -> str:
        """Return one line about the stream so far."""
        health = self.health
        parts = [
            f"{health.samples} samples",
            f"{self.decisions} decisions",
            f"{self._decoder.abstained} abstained",
            f"{health.gaps} gaps ({health.lost} samples lost)",
            f"{health.duplicated} duplicated",
            f"{health.late} late",
            f"{health.broken} broken",
            f"{health.refused} messages refused",
            f"{health.silences} silences",
        ]
        if health.vanished or health.restarts:
            parts += [f"device gone {health.vanished} times, restarted {health.restarts}"]
        for name, channels in (("flat", health.flat), ("saturated", health.saturated)):
            if channels:
                parts.append(f"{name} channels {', '.join(map(str, sorted(channels)))}")
        rate = self.measured_rate
        parts.append("rate not measured" if rate is None else f"{rate:.1f} samples/s")
        return "; ".join([*parts, f"{seconds:.1f} s"])

    def _connections(self, chunk: Chunk) -> None:
        if chunk.joined:
            self.health.connections += 1
            self._continuity.interrupt()
            self._rate.restart()
            self._heard = chunk.arrived
            if self.health.connections > 1:
                self._tell("a device is back")
        if chunk.left:
            self.health.vanished += 1
            self._tell("the device is gone")

    def _refusals(self, chunk: Chunk) -> None:
        if not chunk.refused:
            return
        health = self.health
        if chunk.reason != health.reason:
            self._tell(f"refused: {chunk.reason}")
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
            self._tell("silent: no samples come")
            if not self._continuity.counts:
                self._continuity.interrupt()
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
            yield self._message(sample, one.gesture, one.confidence, abstained=abstained)
        self._position += len(samples)

    def _message(self, sample: int, gesture: int, confidence: float, *, abstained: bool) -> Message:
        return {
            "seconds": sample / self._spec.sampling_rate,
            "sample": sample,
            "gesture": self._spec.gestures[gesture] if gesture >= 0 else None,
            "confidence": confidence,
            "abstained": abstained,
        }
