"""A bundle: everything that is needed to decode one person's gestures on a device.

A folder of two files, neither of which can hold code: ``bundle.json`` (signal, pre-processing,
model, provenance) and ``weights.safetensors``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from scipy.special import softmax
from torch import Tensor, nn

from myodistill import bundle_card as cards
from myodistill.adaptation import Adaptation
from myodistill.bundle_card import CARD, FORMAT, WEIGHTS, reason
from myodistill.datasets.recording import Recording, Repetition, SignalSpec, require_same_signal
from myodistill.decision_rule import EVERY_PREDICTION, DecisionRule, require_step
from myodistill.errors import BundleError, DataError, MyoDistillError, one_line
from myodistill.files import write_bytes, write_text
from myodistill.models.predict import predict
from myodistill.models.registry import MODELS, build
from myodistill.signals.filters import apply, filter_mark
from myodistill.signals.preprocessing import Preprocessing, filtered_windows
from myodistill.signals.samples import finite_windows, real_numbers, require_finite
from myodistill.signals.windows import Windows


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained network with everything that it needs, and a record of what it was fitted on.

    Attributes:
        model: Name in the catalogue.
        spec: The signal that it reads.
        network: In evaluation mode.
        preprocessing: Fitted to the person; None for a network that is not calibrated for anyone
            yet.
        seen: The repetitions that it, its teacher and its pre-processing were fitted on.
        origin: Provenance: dataset, how it was opened, licence, subject, fold, split hash, K, seed,
            stage.
        unit: Physical unit of the samples that it expects.
        step: Samples from one decision to the next, by the protocol.
        rule: How predictions become decisions.
        adaptation: By which a decoder can follow its wearer; None where no population is behind it.
    """

    model: str
    spec: SignalSpec
    network: nn.Module = field(repr=False)
    preprocessing: Preprocessing | None
    seen: frozenset[Repetition] = field(repr=False)
    origin: dict[str, Any]
    unit: str
    step: int
    rule: DecisionRule = EVERY_PREDICTION
    adaptation: Adaptation | None = field(default=None, repr=False)

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def temperature(self) -> float:
        """The divisor of the logits that calibrates the confidence."""
        return float(self.origin.get("temperature", 1.0))

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, 16 hex digits."""
        return hashlib.sha256(self._weights()).hexdigest()[:16]

    def logits(self, windows: Windows) -> NDArray[np.float32]:
        """Return the calibrated logits of filtered windows, shape ``(window, gesture)``.

        Args:
            windows: Cut from signals that have passed the filter of the pre-processing, but not its
                map.

        Raises:
            BundleError: The bundle has no person's pre-processing.
            DataError: The windows are raw, passed another filter, or are already mapped.
        """
        preprocessing = self._fitted()
        if windows.filtered != filter_mark(preprocessing.sections()):
            raise DataError(
                f"{self.model}: expected windows that went through the bundle's filter alone, "
                f"these {'went through another' if windows.filtered else 'are raw'}; give raw "
                f"samples to predict"
            )
        if not len(windows):
            return np.zeros((0, self.spec.classes), np.float32)
        return self._calibrated(predict(self.network, preprocessing.map(windows)))

    def predict(self, signal: Recording | Windows | ArrayLike) -> NDArray[np.intp]:
        """Return the likeliest gesture of each window, shape ``(window,)``.

        Takes what :meth:`predict_proba` takes. The predictions are gesture labels, whose names are
        ``bundle.spec.gestures``. Each window is decided by itself;
        :class:`~myodistill.realtime.decoder.Decoder` applies the bundle's decision rule.

        Example:
            >>> bundle = Bundle.load(Path("bundles/anna"))
            >>> [bundle.spec.gestures[label] for label in bundle.predict(recording)]
        """
        return np.asarray(self.predict_proba(signal).argmax(axis=1), dtype=np.intp)

    def predict_proba(self, signal: Recording | Windows | ArrayLike) -> NDArray[np.float32]:
        """Return the probability of each gesture in each window, shape ``(window, gesture)``.

        Args:
            signal: One of

                * a recording, or a raw stream of shape ``(time, channel)`` in the bundle's unit
                  and at its rate: filtered as a whole, and cut every ``step`` samples from the
                  first on;
                * raw windows, shape ``(window, channel, time)``, of ``spec.samples`` or more:
                  each filtered by itself from its first sample on, and decided by its newest
                  ``spec.samples``. A longer lead-in comes closer to the filter of the stream;
                * :class:`~myodistill.signals.windows.Windows` that the bundle's filter made.

        Raises:
            BundleError: The bundle has no person's pre-processing.
            DataError: Shape, rate, unit, electrodes or gestures are not the bundle's, or samples
                are not finite real numbers.
        """
        logits = self.logits(signal if isinstance(signal, Windows) else self._filtered(signal))
        return np.asarray(softmax(logits, axis=1), dtype=np.float32)

    def _filtered(self, signal: Recording | ArrayLike) -> Windows:
        """Filter raw samples and cut them into windows."""
        sections, samples = self._fitted().sections(), self.spec.samples
        if isinstance(signal, Recording):
            require_same_signal([signal], self.spec, self.unit, what=self.model)
            signal = signal.signal
        read = real_numbers(signal, what=self.model)
        if read.ndim not in (2, 3) or read.shape[1] != self.spec.channels:
            raise DataError(
                f"{self.model}: expected samples of shape (time, {self.spec.channels} channels) or "
                f"windows of shape (window, {self.spec.channels} channels, time), got {read.shape}"
            )
        require_finite(read, what=self.model)
        length = len(read) if read.ndim == 2 else read.shape[2]
        if length < samples:
            raise DataError(
                f"{self.model}: expected at least {samples} samples, one window, got {length}"
            )
        if read.ndim == 3:
            return filtered_windows(read, sections, samples=samples)
        starts = np.arange(0, length - samples + 1, self.step)
        return Windows(
            signal=apply(sections, read),
            samples=samples,
            starts=starts,
            labels=np.full(len(starts), -1),
            repetition_index=np.zeros(len(starts), np.intp),
            repetitions=(),
            filtered=filter_mark(sections),
        )

    def export(
        self, target: str, out: Path | str, recordings: Sequence[Recording] = (), **options: Any
    ) -> Path:
        """Write the bundle for a target, as :func:`myodistill.export` does."""
        from myodistill.api import export  # whatever exports lies above bundles

        return export(self, target, out, recordings, **options)

    def _fitted(self) -> Preprocessing:
        if self.preprocessing is None:
            raise BundleError(f"{self.model}: expected a person's pre-processing, it has none yet")
        return self.preprocessing

    @torch.no_grad()
    def _infer(self, windows: ArrayLike) -> NDArray[np.float32]:
        """Return the calibrated logits of pre-processed windows ``(window, channel, time)``.

        Filtered and mapped, as a decoder has them; raw ones go to :meth:`predict_proba`.

        Raises:
            DataError: The windows have another shape, or are not finite real numbers.
        """
        read = finite_windows(windows, self.spec, what=self.model)
        if not len(read):
            return np.zeros((0, self.spec.classes), np.float32)
        return self._calibrated(self.network(torch.from_numpy(read)).numpy())

    def _calibrated(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Divide by the temperature; exported forms have it in their last layer."""
        return logits / np.float32(self.temperature)

    def save(self, folder: Path) -> None:
        """Write the two files into ``folder``.

        Raises:
            OutputError: They cannot be written.
        """
        weights = self._weights()
        card = {
            "format": FORMAT,
            "model": self.model,
            "signal": asdict(self.spec),
            "unit": self.unit,
            "step": self.step,
            "rule": asdict(self.rule),
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "adaptation": self.adaptation.to_dict() if self.adaptation else None,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "parameters": self.parameters,
            "seen": [[r.subject, r.session, r.index] for r in sorted(self.seen)],
            "origin": self.origin,
        }
        card["card_sha256"] = cards.card_hash(card)
        write_bytes(folder / WEIGHTS, weights)
        write_text(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False))

    def _weights(self) -> bytes:
        state = self.network.state_dict()
        return save({name: t.detach().cpu().contiguous() for name, t in state.items()})

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle.

        Raises:
            BundleError: A file is missing, damaged, does not match, or is from another version; or
                a value is one that no run writes.
        """
        card = cards.read_card(folder)
        try:
            weights = (folder / WEIGHTS).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{folder}: expected a bundle ({CARD} and {WEIGHTS}), got: {reason(error)}; "
                f"run again"
            ) from error
        if hashlib.sha256(weights).hexdigest() != card.get("weights_sha256"):
            raise BundleError(
                f"{folder}: expected the weights that {CARD} names, the file was altered or "
                f"truncated; run again"
            )
        try:
            return cls._of(card, weights)
        except MyoDistillError as error:
            raise BundleError(f"{folder}: {error}") from error
        except (LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            message = f"no {error}" if isinstance(error, KeyError) else reason(error)
            raise BundleError(f"{folder}: expected a complete bundle, got: {message}") from error

    @classmethod
    def _of(cls, card: dict[str, Any], weights: bytes) -> Bundle:
        """Rebuild a bundle from what its files hold."""
        spec = cards.signal_of(card["signal"])
        state = load(weights)
        for name, tensor in state.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"weights of {name} that are not finite; training diverged")
        model, origin = cards.plain(card["model"], "model"), cards.provenance_of(card["origin"])
        if model not in MODELS and (needed := origin.get("plugin")):
            needed = one_line(needed, 80)
            raise BundleError(
                f"model {model:.40} needs plug-in {needed}: pass --plugin {needed} or install it"
            )
        network = build(model, spec)
        _require_shapes(network, state)
        network.load_state_dict(state)
        seen = cards.repetitions_of(card["seen"])
        stored, preprocessing = card["preprocessing"], None
        if stored is not None:
            cards.repetitions_of(stored["seen"])
            preprocessing = Preprocessing.from_dict(stored)
            _require_fit(preprocessing, spec, seen)
        stored = card.get("adaptation")  # absent from older bundles
        adaptation = None if stored is None else Adaptation.from_dict(stored)
        if adaptation is not None and len(adaptation.means) != spec.classes:
            raise ValueError(f"adaptation of {len(adaptation.means)} gestures for {spec.classes}")
        return cls(
            model,
            spec,
            network.eval(),
            preprocessing,
            seen,
            origin,
            unit=cards.text(card["unit"], "unit"),
            step=require_step(card["step"]),
            rule=DecisionRule(**card["rule"]),
            adaptation=adaptation,
        )


def _require_shapes(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Refuse weights of a network of another shape, as another version had (``ValueError``)."""
    for name, ours in network.state_dict().items():
        theirs = state.get(name, ours)
        if theirs.shape != ours.shape:
            raise ValueError(
                f"{name:.40} of shape {tuple(theirs.shape)}, where this version's network has "
                f"{tuple(ours.shape)}; train it again"
            )


def _require_fit(
    preprocessing: Preprocessing, spec: SignalSpec, seen: frozenset[Repetition]
) -> None:
    """Refuse a pre-processing that belongs to another bundle (``ValueError``)."""
    matrix = preprocessing.matrix
    if matrix.shape != (spec.channels, spec.channels):
        raise ValueError(f"pre-processing of {matrix.shape} for {spec.channels} channels")
    if not np.isfinite(matrix).all():
        raise ValueError("pre-processing that is not finite")
    if preprocessing.sampling_rate != spec.sampling_rate:
        raise ValueError(
            f"pre-processing at {preprocessing.sampling_rate:g} Hz for {spec.sampling_rate:g} Hz"
        )
    preprocessing.sections()
    if lacking := preprocessing.seen - seen:
        raise ValueError(f"pre-processing that saw {min(lacking)}, which the bundle denies")
