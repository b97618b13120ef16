"""The streaming decoder: chunks of any size in, the same decisions as offline out.

It works on a :class:`~myodistill.bundle.Bundle` and, without PyTorch, on a
:class:`~myodistill.realtime.runtime.OnnxModel`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myodistill.adaptation import Adaptation
from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.decision_rule import REJECTED, DecisionFilter, DecisionRule, require_step
from myodistill.errors import BundleError, DataError
from myodistill.realtime.adaptation import GuardedGestureMeans
from myodistill.signals.preprocessing import Preprocessing, PreprocessingStream
from myodistill.signals.samples import real_numbers

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


@dataclass(frozen=True)
class Decision:
    """What was decided when one window was complete.

    Attributes:
        sample: Samples that had come by then; the window is the newest ``spec.samples`` of them.
        gesture: Label, or :data:`~myodistill.decision_rule.REJECTED`.
        confidence: Probability of the most probable gesture, smoothed as the rule says; 0 where
            the decoder abstained.
        prediction: What the network alone predicts for this window, adapted if it is, before the
            rule; ``REJECTED`` where the decoder abstained.
        probabilities: Of each gesture, smoothed as the rule says; None where it abstained.
    """

    sample: int
    gesture: int
    confidence: float
    prediction: int
    probabilities: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)


class Decoder:
    """One person's decoder in operation on one stream.

    Windows begin at samples 0, ``step``, 2 ``step`` and so on of the stream. They are decided one
    at a time, so that the size of the chunks changes nothing. A value that is not finite (or
    beyond :data:`LIMIT`) is replaced by the channel's newest sound one, so that the filters stay
    sound; the decoder abstains in every window that touches it, and the rule begins anew.

    Args:
        model: A bundle with a person's pre-processing, or its exported form.
        step: Samples from one decision to the next; the model's own by default.
        rule: How predictions become decisions; the model's own by default.
        adapt: Follow the wearer without labels, as
            :class:`~myodistill.realtime.adaptation.GuardedGestureMeans` does. A window is decided
            before it is learned from; a window without a decision teaches nothing.

    Attributes:
        abstained: Windows without a decision because of samples or logits that are not finite.
        adapter: What follows the wearer: ``adapter.reset()`` forgets, ``adapter.state()`` and
            ``adapter.restore(state)`` carry it over a power cycle. None unless ``adapt``.

    Raises:
        BundleError: The model has no person's pre-processing, or cannot adapt and is to.
        SettingsError: ``step`` is not a whole number of at least 1.
    """

    def __init__(
        self,
        model: Model,
        *,
        step: int | None = None,
        rule: DecisionRule | None = None,
        adapt: bool = False,
    ) -> None:
        if model.preprocessing is None:
            raise BundleError(
                "decoder: expected a person's pre-processing, the bundle has none yet; "
                "calibrate it for a person first"
            )
        self.model = model
        self.step = require_step(model.step if step is None else step)
        self.abstained = 0
        self.adapter = _adapter(model) if adapt else None
        self._rule = DecisionFilter(rule or model.rule)
        self._stream = PreprocessingStream(model.preprocessing)
        self._signal = np.zeros((0, model.spec.channels), np.float32)
        self._bad = np.zeros(0, bool)
        self._begin = 0  # index of the first kept sample in the stream
        self._start = 0  # index of the next window in the stream
        self._newest = np.full(model.spec.channels, np.nan, np.float32)  # finite value of each
        self._adapter = self.adapter  # where it is off for now, what was learned is kept

    @property
    def spec(self) -> SignalSpec:
        """The signal that it reads."""
        return self.model.spec

    @property
    def threshold(self) -> float:
        """Confidence below which a prediction is rejected; it can be set while decoding.

        Raises:
            SettingsError: It is set to what is no share from 0 to 1.
        """
        return self._rule.rule.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._rule.rule = replace(self._rule.rule, threshold=value)

    def follow(self, on: bool) -> None:
        """Adapt from now on, or no longer; what was learned is kept for the next time.

        Raises:
            BundleError: The model cannot adapt and is to.
        """
        if on and self._adapter is None:
            self._adapter = _adapter(self.model)
        if on and self.adapter is None and self._adapter is not None:
            self._adapter.pause()
        self.adapter = self._adapter if on else None

    @classmethod
    def from_bundle(
        cls,
        bundle: Model | Path | str,
        *,
        step: int | None = None,
        rule: DecisionRule | None = None,
        adapt: bool = False,
    ) -> Decoder:
        """Make a decoder from a bundle, or from the folder of one.

        Args:
            bundle: The bundle, its exported form, or a folder that ``Bundle.save`` wrote.
            step: As for the class.
            rule: As for the class.
            adapt: As for the class.

        Raises:
            BundleError: The folder holds no bundle, or one that is not calibrated for a person.
            SettingsError: ``step`` is not a whole number of at least 1.

        Example:
            >>> decoder = Decoder.from_bundle("bundles/anna")
            >>> for chunk in stream:  # (time, channel), of any length
            ...     for decision in decoder.push(chunk):
            ...         print(decision.gesture, decision.confidence)
        """
        if isinstance(bundle, str | Path):
            from myodistill.bundle import Bundle  # a decoder on ONNX Runtime does without PyTorch

            bundle = Bundle.load(Path(bundle))
        return cls(bundle, step=step, rule=rule, adapt=adapt)

    def push(self, samples: ArrayLike) -> list[Decision]:
        """Take the next samples.

        Args:
            samples: Shape ``(time, channel)``, in the unit that the bundle was trained on; may be
                empty.

        Returns:
            The decisions that they complete, in order; often none.

        Raises:
            DataError: The chunk has another number of channels, or holds other than real numbers;
                nothing of it is taken.
        """
        chunk = real_numbers(samples, what="decoder")
        channels = self.model.spec.channels
        if chunk.ndim != 2 or chunk.shape[1] != channels:
            raise DataError(
                f"decoder: expected samples of shape (time, {channels} channels), "
                f"got {chunk.shape}; check the device's channels"
            )
        bad = self._repair(chunk)
        self._signal = np.concatenate([self._signal, self._filtered(chunk)])
        self._bad = np.concatenate([self._bad, bad])
        decisions = []
        while self._start + self.model.spec.samples <= self._begin + len(self._signal):
            decisions.append(self._decide())
            self._start += self.step
        done = min(self._start - self._begin, len(self._signal))
        self._signal, self._bad = self._signal[done:], self._bad[done:]
        self._begin += done
        return decisions

    def _repair(self, chunk: Signal) -> NDArray[np.bool_]:
        """Replace unsound values by the newest sound ones; return which samples held any."""
        sound = np.abs(chunk) <= LIMIT
        bad = ~np.asarray(sound.all(axis=1))
        for index in np.flatnonzero(bad):
            before = chunk[index - 1] if index else self._newest
            chunk[index] = np.where(sound[index], chunk[index], before)
        if len(chunk):
            self._newest = chunk[-1].copy()
        return bad

    def _filtered(self, chunk: Signal) -> Signal:
        """Pre-process; the filter begins when every channel has given a finite value."""
        lost = int((~np.isfinite(chunk).all(axis=1)).sum())
        out = np.zeros_like(chunk)
        out[lost:] = self._stream.push(chunk[lost:])
        return out

    def _decide(self) -> Decision:
        begin = self._start - self._begin
        window = slice(begin, begin + self.model.spec.samples)
        sample = self._start + self.model.spec.samples
        if not self._bad[window].any():
            logits = self.model._infer(np.ascontiguousarray(self._signal[window].T)[None])[0]
            if np.isfinite(logits).all():
                if self.adapter is not None:
                    logits = self.adapter.adapt(logits)
                gesture, confidence = self._rule.decide(logits)
                prediction, probabilities = int(np.argmax(logits)), self._rule.probabilities
                return Decision(sample, gesture, confidence, prediction, probabilities)
        self.abstained += 1
        self._rule.abstain()
        if self.adapter is not None:
            self.adapter.pause()
        return Decision(sample, REJECTED, 0.0, REJECTED)


def _adapter(model: Model) -> GuardedGestureMeans:
    if model.adaptation is None:
        raise BundleError(
            "decoder: expected a student that can adapt, this one was calibrated without a "
            "population or before there was adaptation; calibrate it again with one, or do not "
            "adapt"
        )
    return GuardedGestureMeans(model.adaptation)
