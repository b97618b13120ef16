"""Shared by the tests of deployment: small bundles for people who do not exist."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from myodistill.adaptation import Adaptation
from myodistill.bundle import Bundle
from myodistill.datasets.recording import Repetition, SignalSpec, grid, ring
from myodistill.models.covariance import BandCovariances
from myodistill.models.registry import build
from myodistill.signals.filters import apply, design, filter_mark
from myodistill.signals.preprocessing import Preprocessing, recentring
from myodistill.signals.windows import Windows

RATE = 1000.0
FILTERED = filter_mark(design(RATE, (20.0, 450.0)))
STEP = 25


def recording(gestures: int, channels: int, *, seconds: float = 0.6, seed: int = 0) -> np.ndarray:
    """Noise whose loud channel and colour change from gesture to gesture, on an offset."""
    rng = np.random.default_rng(seed)
    parts = []
    for gesture in range(gestures):
        part = 20 * rng.standard_normal((round(seconds * RATE), channels))
        part[:, gesture % channels] *= 5
        part[1:, (gesture + 1) % channels] += part[:-1, gesture % channels]
        parts.append(part)
    return (np.concatenate(parts) + 300).astype(np.float32)


def positions(signal: np.ndarray, spec: SignalSpec, step: int = STEP) -> Windows:
    """Every window of a filtered stream, as the decoder cuts it; labels from gestures' order."""
    starts = np.arange(0, len(signal) - spec.samples + 1, step)
    labels = (starts + spec.samples // 2) * spec.classes // len(signal)
    repetition_index = np.zeros(len(starts), np.intp)
    repetitions = (Repetition("nobody", "a", 0),)
    return Windows(signal, spec.samples, starts, labels, repetition_index, repetitions, FILTERED)


def bundle(
    model: str = "log-power-10k",
    *,
    channels: int = 4,
    gestures: int = 3,
    samples: int = 100,
    rows: int = 1,
    epochs: int = 60,
) -> Bundle:
    """A student that was trained for a moment on :func:`recording`."""
    electrodes = ring(channels) if rows == 1 else grid(rows, channels // rows)
    names = tuple("abcdefghijklmnop"[:gestures])
    spec = SignalSpec(electrodes, samples, RATE, names)
    network = build(model, spec, seed=0)
    fitted = Preprocessing(
        RATE, (20.0, 450.0), 0.0, np.eye(channels, dtype=np.float32), frozenset()
    )
    signal = apply(fitted.sections(), recording(gestures, channels))
    windows = positions(signal, spec)
    fitted = Preprocessing(RATE, (20.0, 450.0), 0.0, recentring(windows), windows.seen())
    inputs = torch.from_numpy(fitted.map(windows).gather())
    labels = torch.from_numpy(windows.labels)
    front = getattr(network, "front", None)
    if isinstance(front, BandCovariances):
        front.whitening.copy_(front.centre(inputs))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        loss = nn.functional.cross_entropy(network(inputs), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    origin = {
        "dataset": "noise",
        "licence": "none needed",
        "split": "0" * 16,
        "stage": "supervised",
    }
    return Bundle(model, spec, network.eval(), fitted, windows.seen(), origin, unit="mV", step=STEP)


def adaptable(student: Bundle) -> Bundle:
    """A student that knows what one needs to follow its wearer, from :func:`recording`."""
    assert student.preprocessing is not None
    gestures, channels = student.spec.classes, student.spec.channels
    signal = apply(student.preprocessing.sections(), recording(gestures, channels))
    windows = positions(signal, student.spec)
    logits, people = student.logits(windows), np.zeros(len(windows), np.intp)
    population = Adaptation.of_population(logits, windows.labels, people)
    return replace(student, adaptation=population.of_person(logits, windows.labels, 1))
