"""From a stream to the logits of its windows, in Python around any model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from myodistill.adaptation import Adaptation
from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.decision_rule import DecisionRule
from myodistill.signals.filters import CausalFilter
from myodistill.signals.preprocessing import Preprocessing, map_channels

LIMIT = 1e15
"""Larger values, like those that are not finite, come from no amplifier."""


class Model(Protocol):
    """What a decoder needs of a bundle or of its exported form."""

    @property
    def spec(self) -> SignalSpec:
        """The signal that it reads."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The person's own."""

    @property
    def step(self) -> int:
        """Samples from one decision to the next."""

    @property
    def rule(self) -> DecisionRule:
        """How predictions become decisions."""

    @property
    def adaptation(self) -> Adaptation | None:
        """By which it can follow its wearer, if there is any."""

    def _infer(self, windows: Signal) -> NDArray[np.float32]:
        """Pre-processed windows ``(window, channel, time)`` to logits ``(window, gesture)``.

        They are divided by the person's temperature, which calibrates the confidence.
        """


class StoredModel(Model, Protocol):
    """A model as it lies on disk, which says more of itself than decoding takes."""

    @property
    def unit(self) -> str:
        """Of the samples."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """Where it comes from."""


class LogitStream(Protocol):
    """A stream's windows, one by one."""

    def push(self, chunk: Signal) -> list[NDArray[np.float32] | None]:
        """Take the next samples, ``(time, channel)``.

        Returns:
            The logits ``(gesture,)`` of each window that they complete; None where a value of the
            window is unsound, or a logit is not finite.
        """


class WindowStream:
    """Filters a stream, cuts it into windows, and asks a model for the logits of each.

    Args:
        model: With a person's pre-processing.
        preprocessing: That.
        step: Samples from one window to the next.
    """

    def __init__(self, model: Model, preprocessing: Preprocessing, step: int) -> None:
        channels = model.spec.channels
        self._model, self._step, self._samples = model, step, model.spec.samples
        self._filter, self._matrix = CausalFilter(preprocessing.sections()), preprocessing.matrix
        self._signal = np.zeros((0, channels), np.float32)
        self._bad = np.zeros(0, bool)
        self._start = 0  # of the next window, counted from the first kept sample
        self._newest = np.full(channels, np.nan, np.float32)  # finite value of each
        self._begun = False  # whether every channel has given one

    def push(self, chunk: Signal) -> list[NDArray[np.float32] | None]:
        """As in :class:`LogitStream`; the chunk is not changed."""
        chunk, bad = self._repaired(chunk)
        self._signal = np.concatenate([self._signal, self._filtered(chunk)])
        self._bad = np.concatenate([self._bad, bad])
        found = []
        while self._start + self._samples <= len(self._signal):
            found.append(self._logits(slice(self._start, self._start + self._samples)))
            self._start += self._step
        done = min(self._start, len(self._signal))
        self._signal, self._bad = self._signal[done:], self._bad[done:]
        self._start -= done
        return found

    def _repaired(self, chunk: Signal) -> tuple[Signal, NDArray[np.bool_]]:
        """Replace unsound values by the newest sound ones; also return which samples held any."""
        sound = np.abs(chunk) <= LIMIT
        bad: NDArray[np.bool_] = np.zeros(len(chunk), bool)
        if not sound.all():
            bad, chunk = ~np.asarray(sound.all(axis=1)), chunk.copy()
            for index in np.flatnonzero(bad):
                before = chunk[index - 1] if index else self._newest
                chunk[index] = np.where(sound[index], chunk[index], before)
        if len(chunk):
            self._newest = chunk[-1].copy()
        return chunk, bad

    def _filtered(self, chunk: Signal) -> Signal:
        """Pre-process; the filter begins when every channel has given a finite value."""
        lost = 0 if self._begun else int((~np.isfinite(chunk).all(axis=1)).sum())
        self._begun = self._begun or lost < len(chunk)
        if not lost:
            return self._preprocessed(chunk)
        silence = np.zeros((lost, chunk.shape[1]), np.float32)
        return np.concatenate([silence, self._preprocessed(chunk[lost:])])

    def _preprocessed(self, chunk: Signal) -> Signal:
        return map_channels(self._filter.push(chunk).astype(np.float32), self._matrix)

    def _logits(self, window: slice) -> NDArray[np.float32] | None:
        if self._bad[window].any():
            return None
        rows = np.ascontiguousarray(self._signal[window].T)
        logits = self._model._infer(rows[None])[0]
        return logits if np.isfinite(logits).all() else None
