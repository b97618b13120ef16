"""The streaming decoder: chunks of any size in, the same decisions as offline out.

It works on a :class:`~myodistill.bundle.Bundle` and, without PyTorch, on a
:class:`~myodistill.realtime.runtime.OnnxModel`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myodistill.datasets.recording import SignalSpec
from myodistill.decision_rule import REJECTED, DecisionFilter, DecisionRule, require_step
from myodistill.errors import BundleError, DataError
from myodistill.realtime.adaptation import GuardedGestureMeans
from myodistill.realtime.models import load_model
from myodistill.realtime.native import CModel
from myodistill.realtime.windows import LogitStream, Model, WindowStream
from myodistill.signals.samples import real_numbers


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
        self._sample = model.spec.samples  # at which the next window ends
        self._windows: LogitStream = (
            model.stream(self.step)
            if isinstance(model, CModel)
            else WindowStream(model, model.preprocessing, self.step)
        )
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
        """Make a decoder from a bundle, or from where it or its exported form lies.

        Args:
            bundle: The bundle, its exported form, a folder that ``Bundle.save`` wrote, or what
                ``export`` did: a ``.onnx`` file, or a folder of C with its shared library.
            step: As for the class.
            rule: As for the class.
            adapt: As for the class.

        Raises:
            BundleError: There is none of these, or a bundle that is not calibrated for a person.
            SettingsError: ``step`` is not a whole number of at least 1.

        Example:
            >>> decoder = Decoder.from_bundle("bundles/anna")
            >>> for chunk in stream:  # (time, channel), of any length
            ...     for decision in decoder.push(chunk):
            ...         print(decision.gesture, decision.confidence)
        """
        if isinstance(bundle, str | Path):
            bundle = load_model(Path(bundle))
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
        return [self._decide(logits) for logits in self._windows.push(chunk)]

    def _decide(self, logits: NDArray[np.float32] | None) -> Decision:
        sample, self._sample = self._sample, self._sample + self.step
        if logits is not None:
            if self.adapter is not None:
                logits = self.adapter.adapt(logits)
            gesture, confidence = self._rule.decide(logits)
            prediction, probabilities = int(logits.argmax()), self._rule.probabilities
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
