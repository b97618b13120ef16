"""A bundle: everything that is needed to decode one person's gestures on a device.

A folder of two files, neither of which can hold code: ``bundle.json`` (signal, pre-processing,
model, provenance) and ``weights.safetensors``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import nn

from myodistill.datasets.recording import Electrodes, Repetition, Signal, SignalSpec
from myodistill.errors import BundleError, DataError, ModelError, Wanted
from myodistill.files import write_bytes, write_text
from myodistill.models.catalogue import build
from myodistill.models.predict import predict
from myodistill.readers import read_bytes, read_json
from myodistill.signals.preprocessing import Preprocessing
from myodistill.signals.windows import Windows

FORMAT = 1
_CARD, _WEIGHTS = "bundle.json", "weights.safetensors"
_WANTED = Wanted(f"a bundle ({_CARD} and {_WEIGHTS})", BundleError, "export it again")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained network with all that it needs and all that it saw.

    Attributes:
        model: Name in the catalogue.
        spec: The signal that it reads.
        network: In evaluation mode.
        preprocessing: The person's own; None for a network that has no person yet.
        seen: The repetitions that it, its teacher and its pre-processing were fitted on.
        origin: Provenance for people: dataset, licence, subject, fold, split hash, K, seed, stage.
    """

    model: str
    spec: SignalSpec
    network: nn.Module = field(repr=False)
    preprocessing: Preprocessing | None
    seen: frozenset[Repetition] = field(repr=False)
    origin: dict[str, Any]

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def temperature(self) -> float:
        """What the logits are divided by, so that confidence means what it says."""
        return float(self.origin.get("temperature", 1.0))

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, 16 hex digits."""
        return hashlib.sha256(self._weights()).hexdigest()[:16]

    def logits(self, windows: Windows) -> NDArray[np.float32]:
        """Return the logits of filtered windows, shape ``(window, gesture)``.

        Args:
            windows: Cut from signals that went through the pre-processing's filter, not its map.
        """
        if self.preprocessing is None:
            raise BundleError(f"{self.model}: expected a person's pre-processing, it has none yet")
        return predict(self.network, self.preprocessing.map(windows)) / self.temperature

    @torch.no_grad()
    def infer(self, windows: Signal) -> NDArray[np.float32]:
        """Return the logits of pre-processed windows ``(window, channel, time)``."""
        logits: NDArray[np.float32] = self.network(torch.from_numpy(windows)).numpy()
        return logits

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
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "parameters": self.parameters,
            "seen": [[r.subject, r.session, r.index] for r in sorted(self.seen)],
            "origin": self.origin,
        }
        card["card_sha256"] = _card_hash(card)
        write_bytes(folder / _WEIGHTS, weights)
        write_text(folder / _CARD, json.dumps(card, indent=1, ensure_ascii=False))

    def _weights(self) -> bytes:
        state = self.network.state_dict()
        return save({name: t.detach().cpu().contiguous() for name, t in state.items()})

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle.

        Raises:
            BundleError: A file is missing, damaged, does not match, or is from a newer version.
        """
        card = read_json(folder / _CARD, _WANTED)
        weights = read_bytes(folder / _WEIGHTS, _WANTED, most=2**31)
        version = card.get("format")
        if version != FORMAT:
            raise BundleError(
                f"{folder}: expected bundle format {FORMAT}, got {version}; "
                f"update myodistill or export the bundle again"
            )
        found = _card_hash(card)
        if card.get("card_sha256", found) != found:  # older ones have none
            raise BundleError(
                f"{folder}: expected {_CARD} as it was written, it was altered; "
                f"export the bundle again"
            )
        if hashlib.sha256(weights).hexdigest() != card.get("weights_sha256"):
            raise BundleError(
                f"{folder}: expected the weights that {_CARD} names, the file was altered or "
                f"truncated; export the bundle again"
            )
        try:
            with Wanted("a complete bundle", BundleError).reading(folder):
                signal = dict(card["signal"])
                electrodes = dict(signal["electrodes"])
                electrodes["order"] = tuple(electrodes["order"])
                signal["electrodes"] = Electrodes(**electrodes)
                signal["gestures"] = tuple(signal["gestures"])
                spec = SignalSpec(**signal)
                network = build(card["model"], spec)
                network.load_state_dict(load(weights))
                stored = card["preprocessing"]
                preprocessing = Preprocessing.from_dict(stored) if stored else None
                if preprocessing and preprocessing.matrix.shape != (spec.channels, spec.channels):
                    raise ValueError(
                        f"pre-processing of {preprocessing.matrix.shape} for {spec.channels} channels"
                    )
                seen = frozenset(Repetition(*entry) for entry in card["seen"])
                model, origin = str(card["model"]), dict(card["origin"])
        except (ModelError, DataError) as error:
            raise BundleError(f"{folder}: {error}") from error
        return cls(model, spec, network.eval(), preprocessing, seen, origin)


def _card_hash(card: dict[str, Any]) -> str:
    """SHA-256 of everything else in ``bundle.json``, however it is laid out."""
    content = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
