"""Methods fitted to one person's raw windows as an array, without a dataset around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import myodistill.models  # noqa: F401  registers every family
from myodistill.bundle import Bundle
from myodistill.config import Training
from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import Annotation, Recording, Repetition
from myodistill.distillation.subjects import Subject, make_inputs, recentre
from myodistill.distillation.teacher_outputs import predict_outputs
from myodistill.models.base import split_network
from myodistill.models.classical import CLASSICAL, FEATURES, FittedClassifier, as_cut
from myodistill.models.classical import fit as fit_classical
from myodistill.models.closed_form import ClosedFormNetwork
from myodistill.models.registry import build
from myodistill.signals.filters import design
from myodistill.signals.preprocessing import Preprocessing, filtered_windows, recentring
from myodistill.training.batches import Batches
from myodistill.training.loop import train
from myodistill.training.sampler import BatchSampler
from myodistill.training.tasks import Task
from myodistill.training.teacher_output import TeacherOutput

Decide = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""Raw windows to probabilities ``(window, class)``."""


def fit_classical_baseline(
    name: str, facts: Facts, windows: NDArray[np.float32], labels: NDArray[np.intp], seed: int
) -> Decide:
    """Fit a classical method to raw windows; return a classifier of others.

    Args:
        name: One of :data:`~myodistill.models.classical.CLASSICAL`.
        facts: Of the windows.
        windows: Raw, shape ``(window, channel, time)``.
        labels: Gesture of each.
        seed: Of what is drawn at random.
    """
    method = CLASSICAL[name]
    features = _features(method.features, facts, windows)
    fitted = fit_classical(method, features, labels, classes=len(facts.gestures), seed=seed)
    return ClassicalDecision(facts, fitted)


@dataclass(frozen=True)
class ClassicalDecision:
    """A fitted classical method that reads raw windows.

    Attributes:
        facts: Of the windows.
        fitted: Outputs for their features.
    """

    facts: Facts
    fitted: FittedClassifier

    def __call__(self, raw: NDArray[np.float32]) -> NDArray[np.floating]:
        """Map raw windows ``(window, channel, time)`` to probabilities ``(window, class)``."""
        return self.fitted(_features(self.fitted.features, self.facts, raw))


def _features(name: str, facts: Facts, raw: NDArray[np.float32]) -> NDArray[Any]:
    """Features of windows, each a recording of its own: its filter begins with it."""
    notes = (Annotation(0, raw.shape[2], 0, 0),)
    each = [
        Recording(
            "windows",
            "fitted",
            np.ascontiguousarray(window.T),
            facts.sampling_rate,
            facts.electrodes,
            facts.gestures,
            notes,
            source=f"window {index}",
        )
        for index, window in enumerate(raw)
    ]
    return FEATURES[name](each, facts, as_cut)[1]


def fit_network(
    name: str,
    facts: Facts,
    raw: NDArray[np.float32],
    labels: NDArray[np.intp],
    seed: int,
    late: NDArray[np.bool_],
    settings: Training,
    make_task: Callable[..., Task],
    outputs: TeacherOutput | None = None,
) -> Bundle:
    """Train a network on one person's raw windows, re-centred by their mean covariance.

    Args:
        name: Of the catalogue.
        facts: Of the windows.
        raw: Shape ``(window, channel, time)``.
        labels: Gesture of each.
        seed: Of weights and order.
        late: Which windows are held out for early stopping.
        settings: Of the training.
        make_task: Makes the task of the trained part.
        outputs: A teacher's outputs for every window, for a distillation task.
    """
    spec = facts.spec()
    sections = design(facts.sampling_rate, facts.passband)
    windows = replace(
        filtered_windows(raw, sections, samples=spec.samples),
        labels=labels,
        repetition_index=late.astype(np.intp),
        repetitions=tuple(Repetition("windows", "fitted", index) for index in range(2)),
    )
    early = torch.from_numpy(np.flatnonzero(~late))
    known = windows.take(early.numpy())  # what is held out fits nothing
    preprocessing = Preprocessing(
        facts.sampling_rate, facts.passband, 0.0, recentring(known), known.seen()
    )
    person = Subject("windows", spec, preprocessing, known.seen(), True, lambda: windows)
    network = build(name, spec, seed=seed)
    recentre(network, person)
    read, targets = make_inputs(network, [(person, None)]), torch.from_numpy(labels)
    if isinstance(network, ClosedFormNetwork):
        network.head.learn(read, targets, torch.zeros_like(targets))
    else:
        _, trained = split_network(network)
        batches = Batches(
            read, targets, spec.classes, BatchSampler(settings.batch_size, early, len(raw)),
            teacher_outputs=None if outputs is None else _Fixed(outputs),
        )  # fmt: skip
        held = torch.from_numpy(np.flatnonzero(late))

        def accuracy(network: nn.Module) -> float:
            predicted = predict_outputs(network, read, held, features=False).logits.argmax(dim=1)
            return float((predicted == targets[held]).float().mean())

        validate = accuracy if len(held) else None
        train(make_task(trained), batches, settings, seed=seed, validate=validate)
    origin = {"dataset": facts.name, "licence": "", "stage": "supervised", "seed": seed}
    return Bundle(
        name, spec, network.eval(), preprocessing, windows.seen(), origin, facts.unit, facts.step
    )


class _Fixed:
    """What a teacher predicted of every window, whatever the view."""

    def __init__(self, outputs: TeacherOutput) -> None:
        self._outputs = outputs

    def __call__(self, indices: torch.Tensor, view: int) -> TeacherOutput:
        """Return what it predicted of some windows."""
        return TeacherOutput(self._outputs.logits[indices])
