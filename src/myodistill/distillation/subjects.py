"""Subjects as a model reads them: filtered once, then re-centred and turned into one frame."""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Repetition, SignalSpec
from myodistill.distillation.window_sets import Alignment
from myodistill.models.base import split_network
from myodistill.models.classical import in_band
from myodistill.models.covariance import BandCovariances, LogCovariances
from myodistill.models.orientation import Template, align, centred_means, orientations, template
from myodistill.signals.augmentation import Augmenter
from myodistill.signals.disk_cache import DiskRows, kept
from myodistill.signals.preprocessing import (
    Preprocessing,
    mean_covariance,
    recentring,
    scaling,
    scaling_by,
)
from myodistill.signals.windows import Windows, at_once
from myodistill.splits import Split
from myodistill.training.batches import Inputs
from myodistill.training.inputs import FeatureInputs, SignalInputs, concatenated

_STRIDE = 4
"""One window in so many serves to find a subject's orientation."""


@dataclass(frozen=True)
class Subject:
    """One subject in the common frame; the signal stays on disk until it is read.

    Attributes:
        name: Of the subject.
        spec: Of the signal.
        preprocessing: Maps filtered signals into the common frame.
        fitted_on: The repetitions that the frame was fitted on.
        recentred: Whether band covariances are re-centred, too.
        filtered: Opens all of the subject's windows, filtered.
    """

    name: str
    spec: SignalSpec
    preprocessing: Preprocessing
    fitted_on: frozenset[Repetition]
    recentred: bool
    filtered: Callable[[], Windows] = field(repr=False)
    _centres: dict[tuple[object, ...], Tensor] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )

    def windows(self, repetitions: Collection[Repetition] | None = None) -> Windows:
        """Pre-process the windows of some repetitions; None for all."""
        windows = self.filtered()
        if repetitions is not None:
            windows = windows.select(repetitions).trimmed()
        return self.preprocessing.map(windows)

    def centre(self, front: BandCovariances) -> Tensor:
        """Return the whitening that re-centres a front to this subject.

        Fronts of the same bands and channels share it; it is computed once.
        """
        key = front.centre_key
        if key not in self._centres:
            centre = torch.eye(front.channels).expand_as(front.whitening)
            if self.recentred:
                batches = map(torch.from_numpy, self.windows(self.fitted_on).batches())
                centre = copy.deepcopy(front).cpu().centre(batches)
            self._centres[key] = centre
        return self._centres[key]


class SubjectPool:
    """The subjects of one fold.

    Each is filtered once, into a file as large as the recordings.

    Args:
        dataset: Source of the recordings.
        split: Which subjects train and which are held out.
        recentre: Whiten subjects and align their electrode rings; else scale their channels. Under
            a blind split all are scaled alike, as the training subjects say.
        scratch: Folder for these files, which other processes may share; None for a temporary
            folder that is removed with this object.
        alignment: Of the training subjects, if their recordings are not in ``dataset``.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        *,
        recentre: bool,
        scratch: Path | None = None,
        alignment: Alignment | None = None,
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.common = not split.uses_unlabelled
        self.recentre = recentre and not self.common
        if scratch is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="myodistill-")
        self.scratch = scratch or Path(self._temporary.name)
        self.filtered = lru_cache(maxsize=1)(self._filtered)
        self.training = cache(self._training)
        self.history = cache(self._history)
        self._frame = cache(self._fit_frame)
        self._turns = orientations(dataset.facts.electrodes) if self.recentre else []
        self._training_turns: dict[str, int] = {}
        self.alignment = alignment
        if alignment is None and len(self._turns) > 1 and split.pretraining:
            self.alignment = Alignment(self._align(), self._training_repetitions)

    def _training(self) -> list[Subject]:
        """Return the subjects that are not held out; their frames are fitted on all repetitions."""
        return [self._training_subject(name) for name in self.split.pretraining]

    def heldout(self, name: str, k: int) -> Subject:
        """Return a held-out subject who calibrates with ``k`` repetitions.

        At K = 0 the frame is fitted on the first repetition without its labels, or under a blind
        split on the training subjects alone.
        """
        if self.common:
            return self._subject(name, self._common_frame, frozenset())
        return self._turned(name, self.split.unlabelled(name, k), labelled=k > 0)

    def _history(self, name: str) -> list[Subject]:
        """Return a held-out subject on each day of the split's history, in a frame of its own."""
        if not self.split.history:
            return []
        recorded = self.filtered(name).seen()
        days = [
            frozenset(r for r in recorded if r.session == session) for session in self.split.history
        ]
        return [self._turned(name, day, labelled=True) for day in days if day]

    def _turned(self, name: str, fitted_on: frozenset[Repetition], *, labelled: bool) -> Subject:
        """Fit a frame on some repetitions of a held-out subject, the ring turned as others'."""
        matrix = self._frame(name, fitted_on)
        if self.alignment is not None:
            logarithms, labels = self._sample(self._subject(name, matrix, fitted_on))
            turned = (self._front.permuted(logarithms, turn) for turn in self._turns)
            chosen = self.alignment.template.choose(turned, labels if labelled else None)
            matrix = matrix[self._turns[chosen]]
        return self._subject(name, matrix, fitted_on)

    def _training_subject(self, name: str) -> Subject:
        fitted_on = self.split.calibration(name, self.split.repetitions)
        if self.common:
            return self._subject(name, self._common_frame, fitted_on)
        matrix = self._frame(name, fitted_on)
        if self._turns:
            matrix = matrix[self._turns[self._training_turns.get(name, 0)]]
        return self._subject(name, matrix, fitted_on)

    def _subject(self, name: str, matrix: np.ndarray, fitted_on: frozenset[Repetition]) -> Subject:
        facts = self.dataset.facts
        seen = fitted_on | (self.alignment.seen if self.alignment else frozenset())
        if self.common:
            seen |= self._training_repetitions
        preprocessing = Preprocessing(facts.sampling_rate, facts.passband, 0.0, matrix, seen)
        filtered = partial(self.filtered, name)
        return Subject(name, facts.spec(), preprocessing, fitted_on, self.recentre, filtered)

    @cached_property
    def _training_repetitions(self) -> frozenset[Repetition]:
        return frozenset().union(*(self.filtered(s).seen() for s in self.split.pretraining))

    def _align(self) -> Template:
        """Align the training subjects; only means and a few windows of each are kept."""
        means, labels = [], []
        classes = len(self.dataset.facts.gestures)

        def samples() -> Iterator[Tensor]:
            for name in self.split.pretraining:
                sample, gestures = self._sample(self._training_subject(name))
                turned = (self._front.permuted(sample, turn) for turn in self._turns)
                means.append(torch.stack([centred_means(one, gestures, classes) for one in turned]))
                labels.append(gestures)
                yield sample

        logarithms = DiskRows(self.scratch, samples())
        chosen = align(means)
        self._training_turns = dict(zip(self.split.pretraining, chosen, strict=True))
        turns = [self._turns[index] for index in chosen]
        aligned = _Aligned(self._front, logarithms, labels, turns)
        return template(aligned, 1 + max(int(gestures.max()) for gestures in labels))

    def _sample(self, subject: Subject) -> tuple[Tensor, Tensor]:
        """Return log-covariances of a sample of windows, re-centred to their mean, and gestures."""
        windows = subject.windows(subject.fitted_on)
        some = windows.take(np.arange(0, len(windows), _STRIDE))
        front = self._front
        front.whitening.copy_(front.centre(map(torch.from_numpy, some.batches())))
        parts = [front.logarithms(torch.from_numpy(batch)) for batch in some.batches()]
        return torch.cat(parts), torch.from_numpy(some.labels)

    @cached_property
    def _common_frame(self) -> np.ndarray:
        powers = [mean_covariance(self.filtered(name)) for name in self.split.pretraining]
        return scaling_by(np.mean(powers, axis=0))

    def _fit_frame(self, name: str, repetitions: frozenset[Repetition]) -> np.ndarray:
        windows = self.filtered(name).select(repetitions)
        return recentring(windows) if self.recentre else scaling(windows)

    def _filtered(self, subject: str) -> Windows:
        dataset, facts = self.dataset, self.dataset.facts

        def make() -> Windows:
            return in_band(dataset.recordings(subject), facts, facts.passband)

        name = digest(self._identity, dataset.repair, subject)
        return kept(self.scratch / f"{name}.safetensors", make)

    @cached_property
    def _front(self) -> LogCovariances:
        return LogCovariances(self.dataset.facts.spec())

    @cached_property
    def _identity(self) -> str:
        return self.dataset.identity()


@dataclass(frozen=True)
class _Aligned:
    """The aligned log-covariances, subject by subject."""

    front: LogCovariances
    logarithms: DiskRows
    labels: Sequence[Tensor]
    turns: Sequence[np.ndarray]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        counts = [len(gestures) for gestures in self.labels]
        parts = torch.split(torch.arange(len(self.logarithms)), counts)
        for indices, gestures, turn in zip(parts, self.labels, self.turns, strict=True):
            yield self.front.permuted(self.logarithms[indices], turn), gestures


def front_key(front: nn.Module | None) -> str:
    """Return a hash of a fixed front: its layers, settings and weights, not its re-centring."""
    if front is None:
        return ""
    content = hashlib.sha256()
    for name, layer in front.named_modules():
        facts = {n: fact for n, fact in vars(layer).items() if n != "training" and n[0] != "_"}
        content.update(repr((name, type(layer), facts)).encode())
    for name, tensor in (*front.named_parameters(), *front.named_buffers()):
        if name != "whitening":
            content.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return content.hexdigest()


Part = tuple[Subject, Collection[Repetition] | None]
"""A subject in one frame, and the repetitions whose windows are read; None for all."""


def make_inputs(
    network: nn.Module,
    parts: Sequence[Part],
    *,
    device: str = "cpu",
    augmenter: Augmenter | None = None,
    views: int = 1,
    scratch: Path | None = None,
) -> Inputs:
    """Return what the trained part of a network reads.

    A fixed front is computed once a view, re-centred to each subject; without one the signals are
    the inputs.

    Args:
        network: Reads the inputs.
        parts: Whose windows are read.
        device: Holds the inputs.
        augmenter: Makes views of the windows; None for none.
        views: Number of views of a front's output to keep at a time.
        scratch: Folder for inputs on the CPU, which are then on disk; None for memory.
    """
    folder = scratch if torch.device(device).type == "cpu" else None
    shared, _ = split_network(network)
    if shared is None:
        return _signals(parts, device, augmenter, folder)
    front = copy.deepcopy(shared).to(device).eval()

    def blocks(view: int) -> Iterator[Tensor]:
        first = 0
        for subject, repetitions in parts:
            _recentre(front, subject)
            part = replace(_signals([(subject, repetitions)], device, augmenter), first=first)
            size = at_once(subject.spec.samples, subject.spec.channels)
            for indices in torch.split(torch.arange(len(part)), size):
                yield front(part.augmented(view)[indices])
            first += len(part)

    @lru_cache(maxsize=views + 1)
    @torch.no_grad()
    def compute(view: int) -> Tensor | DiskRows:
        return concatenated(blocks(view), folder)

    return FeatureInputs(compute)


def _signals(
    parts: Sequence[Part],
    device: str,
    augmenter: Augmenter | None,
    folder: Path | None = None,
) -> SignalInputs:
    """Concatenate the signals of subjects, on a device or in a folder."""
    starts: list[Tensor] = []

    def blocks() -> Iterator[Tensor]:
        begin = 0
        for subject, repetitions in parts:
            windows = subject.windows(repetitions)
            starts.append(torch.from_numpy(windows.starts + begin))
            begin += len(windows.signal)
            yield torch.from_numpy(windows.signal).to(device)

    signal = concatenated(blocks(), folder)
    return SignalInputs(signal, torch.cat(starts).to(device), parts[0][0].spec.samples, augmenter)


def recentre(network: nn.Module, subject: Subject) -> None:
    """Re-centre the fixed front of a network, if it has one, to a subject; no label is used."""
    front, _ = split_network(network)
    _recentre(front, subject)


def _recentre(front: nn.Module | None, subject: Subject) -> None:
    if isinstance(front, BandCovariances):
        front.whitening.copy_(subject.centre(front))
