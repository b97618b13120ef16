"""Room for gestures that a network was not trained on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from myodistill.bundle import Bundle
from myodistill.datasets.recording import SignalSpec
from myodistill.models.registry import build


def widened(bundle: Bundle, spec: SignalSpec) -> Bundle | None:
    """Return a bundle that decides among a signal's gestures, of which its own are the first.

    A new gesture's weights are 0 until it is trained.

    Args:
        bundle: Pre-trained, of nobody.
        spec: Its signal with the new gestures behind the known ones.

    Returns:
        The bundle itself where there is no new gesture; None if the model is built otherwise for
        more gestures.
    """
    if spec.gestures == bundle.spec.gestures:
        return bundle
    before, after = bundle.spec.classes, spec.classes
    network = build(bundle.model, spec)
    known = bundle.network.state_dict()
    state: dict[str, Tensor] = {}
    for name, empty in network.state_dict().items():
        weights = known[name]
        grown = [after if size == before else size for size in weights.shape]
        if weights.shape == empty.shape:
            state[name] = weights
        elif list(empty.shape) == grown:
            wide = torch.zeros_like(empty)
            wide[tuple(slice(size) for size in weights.shape)] = weights
            state[name] = wide
        else:
            return None
    network.load_state_dict(state)
    return replace(bundle, spec=spec, network=network.eval(), adaptation=None)
