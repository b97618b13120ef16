"""Weights on disk, strictly checked, and carried from one signal to another.

A file is safetensors; its metadata name the model and the signal that it was trained for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from myodistill.datasets.recording import Electrodes, SignalSpec
from myodistill.errors import ModelError
from myodistill.models.base import GestureModel
from myodistill.models.registry import build, entry

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """Weights with what they are the weights of."""

    name: str
    spec: SignalSpec
    weights: Weights


def save(path: Path, name: str, spec: SignalSpec, model: nn.Module) -> None:
    """Write the weights of a model; the file appears whole or not at all."""
    metadata = {"model": entry(name).name, "signal": json.dumps(asdict(spec))}
    weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(weights, partial, metadata=metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint:
    """Read a file that :func:`save` wrote.

    Raises:
        ModelError: There is no such file, or it is not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        signal = json.loads(metadata["signal"])
        order = tuple(signal["electrodes"].pop("order"))
        electrodes = Electrodes(**signal.pop("electrodes"), order=order)
        gestures = tuple(signal.pop("gestures"))
        spec = SignalSpec(electrodes=electrodes, gestures=gestures, **signal)
        return Checkpoint(metadata["model"], spec, weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: expected weights written by myodistill, got {type(error).__name__}: {error}"
        ) from error


def load(path: Path, name: str, spec: SignalSpec) -> nn.Module:
    """Build a model with the weights of a file.

    Raises:
        ModelError: The file is of another model or signal; for a signal, see :func:`adapt`.
    """
    checkpoint = read(path)
    if checkpoint.name != entry(name).name:
        raise ModelError(f"{path}: expected weights of {entry(name).name}, got {checkpoint.name}")
    if checkpoint.spec != spec:
        raise ModelError(
            f"{path}: expected weights for {describe(spec)}, got {describe(checkpoint.spec)}; "
            "adapt them or train anew"
        )
    model = build(name, spec)
    load_strictly(model, checkpoint.weights)
    return model


def load_strictly(model: nn.Module, weights: Weights) -> None:
    """Copy weights into a model, every one of them and no other.

    Raises:
        ModelError: A weight is missing, left over or of another shape; the model is unchanged.
    """
    expected = model.state_dict()
    for key in [*expected, *weights]:
        want, got = expected.get(key), weights.get(key)
        if want is None or got is None or want.shape != got.shape:
            raise ModelError(
                f"weights: expected {_shape(want)} for '{key}', got {_shape(got)}; "
                "these are of another model or signal"
            )
    model.load_state_dict(dict(weights), strict=True)


def adapt(
    name: str, weights: Weights, source: SignalSpec, target: SignalSpec, *, seed: int | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """Carry the weights of a model from one signal to another.

    Another layout, window or rate replaces the weights that the model names as depending on the
    signal (its stem), other gestures those that depend on the gestures (its head), by initial
    weights; the rest is kept.

    Args:
        name: Name of the model.
        weights: Its weights for ``source``.
        source: The signal that it was trained for.
        target: The signal that it shall read.
        seed: Seed of the new weights.

    Returns:
        The model for ``target`` and the keys that were replaced.

    Raises:
        ModelError: The weights are not of this model and source, or the part between stem and head
            differs too, as in models that are made as wide as a budget allows.
    """
    with torch.device("meta"):
        load_strictly(build(name, source), {key: w.to("meta") for key, w in weights.items()})
    model = build(name, target, seed=seed)
    parts = model if isinstance(model, GestureModel) else GestureModel
    prefixes: tuple[str, ...] = ()
    if (source.electrodes, source.samples, source.sampling_rate) != (
        target.electrodes,
        target.samples,
        target.sampling_rate,
    ):
        prefixes += parts.signal_weights
    if source.gestures != target.gestures:
        prefixes += parts.gesture_weights
    fresh = model.state_dict()
    replaced = tuple(key for key in fresh if key.startswith(prefixes))
    for key in fresh.keys() - set(replaced):
        if key not in weights or weights[key].shape != fresh[key].shape:
            raise ModelError(
                f"{name}: cannot be adapted from {describe(source)} to {describe(target)}: "
                f"'{key}' is {_shape(weights.get(key))} there and {_shape(fresh[key])} here"
            )
    load_strictly(model, {key: fresh[key] if key in replaced else weights[key] for key in fresh})
    return model, replaced


def describe(spec: SignalSpec) -> str:
    """Return a signal in a few words."""
    electrodes = spec.electrodes
    return (
        f"a {electrodes.rows}×{electrodes.columns} {electrodes.layout}, {spec.samples} samples "
        f"at {spec.sampling_rate:g} Hz, {spec.classes} gestures"
    )


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"shape {tuple(tensor.shape)}"
