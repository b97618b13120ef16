"""People as a model meets them: filtered once, re-centred and turned into one frame."""

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
from myodistill.models.base import split_network
from myodistill.models.classical import in_band
from myodistill.models.covariance import BandCovariances, LogCovariances
from myodistill.models.orientation import Template, align, centred_means, orientations, template
from myodistill.signals.augmentation import Augmenter
from myodistill.signals.disk_cache import DiskRows, kept
from myodistill.signals.preprocessing import Preprocessing, recentring, scaling
from myodistill.signals.windows import Windows, at_once
from myodistill.splits import Split
from myodistill.training.batches import Inputs
from myodistill.training.inputs import FeatureInputs, SignalInputs, concatenated

_GLANCE = 4
"""Every so many windows are looked at to find a person's orientation."""


@dataclass(frozen=True)
class Subject:
    """One subject in the common frame; their signal stays on disk until it is asked for.

    Attributes:
        subject: Name.
        spec: The signal.
        preprocessing: What brought them there.
        known: The repetitions that the frame was found from.
        recentred: Whether band covariances are re-centred, too.
        filtered: Opens all of the subject's windows, filtered.
    """

    subject: str
    spec: SignalSpec
    preprocessing: Preprocessing
    known: frozenset[Repetition]
    recentred: bool
    filtered: Callable[[], Windows] = field(repr=False)

    def windows(self, repetitions: Collection[Repetition] | None = None) -> Windows:
        """Pre-process the windows of some repetitions; all of them where none are named."""
        windows = self.filtered()
        if repetitions is not None:
            windows = windows.select(repetitions).trimmed()
        return self.preprocessing.map(windows)

    @cached_property
    def centre(self) -> Tensor:
        """What re-centres band covariances to this person; found once for all models."""
        front = BandCovariances(self.spec)
        if not self.recentred:
            return front.whitening
        return front.centre(map(torch.from_numpy, self.windows(self.known).batches()))


class SubjectPool:
    """The subjects of one fold.

    Each is filtered once, into a file of the size of their recordings.

    Args:
        dataset: Where the recordings come from.
        split: Who trains and who is held out.
        recentre: Whiten people and turn their rings alike; else scale their channels.
        scratch: Folder for these files, which other processes may share; None for one that is
            removed with this object.
    """

    def __init__(
        self, dataset: Dataset, split: Split, *, recentre: bool, scratch: Path | None = None
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.recentre = recentre
        if scratch is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="myodistill-")
        self.scratch = scratch or Path(self._temporary.name)
        self.filtered = lru_cache(maxsize=1)(self._filtered)
        self.training = cache(self._training)
        self._frame = cache(self._found_frame)
        self._turns = orientations(dataset.facts.electrodes) if recentre else []
        self._training_turns: dict[str, int] = {}
        self._template: Template | None = None
        if len(self._turns) > 1:
            self._align()

    def _training(self) -> list[Subject]:
        """Return the subjects that are not held out; all their repetitions are known."""
        return [self._training_person(subject) for subject in self.split.pretraining]

    def heldout(self, subject: str, k: int) -> Subject:
        """Return a held-out subject who calibrates with ``k`` repetitions.

        At K = 0 the frame is found from the first repetition without its labels.
        """
        known = self.split.unlabelled(subject, k)
        matrix = self._frame(subject, known)
        if self._template is not None:
            logarithms, labels = self._glance(self._person(subject, matrix, known))
            turned = (self._front.permuted(logarithms, turn) for turn in self._turns)
            turn = self._turns[self._template.choose(turned, labels if k else None)]
            matrix = matrix[turn]
        return self._person(subject, matrix, known)

    def _training_person(self, subject: str) -> Subject:
        known = self.split.calibration(subject, self.split.repetitions)
        matrix = self._frame(subject, known)
        if self._turns:
            matrix = matrix[self._turns[self._training_turns.get(subject, 0)]]
        return self._person(subject, matrix, known)

    def _person(self, subject: str, matrix: np.ndarray, known: frozenset[Repetition]) -> Subject:
        facts = self.dataset.facts
        seen = known if self._template is None else known | self._training_repetitions
        preprocessing = Preprocessing(facts.sampling_rate, facts.passband, 0.0, matrix, seen)
        filtered = partial(self.filtered, subject)
        return Subject(subject, facts.spec(), preprocessing, known, self.recentre, filtered)

    @cached_property
    def _training_repetitions(self) -> frozenset[Repetition]:
        return frozenset().union(*(self.filtered(s).seen() for s in self.split.pretraining))

    def _align(self) -> None:
        """Turn the training subjects alike; of each only means and a few windows are kept."""
        means, labels = [], []

        def glances() -> Iterator[Tensor]:
            for subject in self.split.pretraining:
                found, gestures = self._glance(self._training_person(subject))
                turned = (self._front.permuted(found, turn) for turn in self._turns)
                means.append(torch.stack([centred_means(one, gestures) for one in turned]))
                labels.append(gestures)
                yield found

        logarithms = DiskRows(self.scratch, glances())
        chosen = align(means)
        self._training_turns = dict(zip(self.split.pretraining, chosen, strict=True))
        turns = [self._turns[place] for place in chosen]
        aligned = _Aligned(self._front, logarithms, labels, turns)
        self._template = template(aligned, len(means[0][0]))

    def _glance(self, person: Subject) -> tuple[Tensor, Tensor]:
        """Log-covariances of some known windows, re-centred to their own mean, and gestures."""
        known = person.windows(person.known)
        some = known.take(np.arange(0, len(known), _GLANCE))
        front = self._front
        front.whitening.copy_(front.centre(map(torch.from_numpy, some.batches())))
        parts = [front.logarithms(torch.from_numpy(batch)) for batch in some.batches()]
        return torch.cat(parts), torch.from_numpy(some.labels)

    def _found_frame(self, subject: str, known: frozenset[Repetition]) -> np.ndarray:
        windows = self.filtered(subject).select(known)
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
    """The log-covariances of people turned alike, person by person."""

    front: LogCovariances
    logarithms: DiskRows
    labels: Sequence[Tensor]
    turns: Sequence[np.ndarray]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        every = torch.split(torch.arange(len(self.logarithms)), [len(one) for one in self.labels])
        for places, gestures, turn in zip(every, self.labels, self.turns, strict=True):
            yield self.front.permuted(self.logarithms[places], turn), gestures


def front_key(front: nn.Module | None) -> str:
    """What tells fixed fronts apart: their kinds, settings and numbers, not whom they have met."""
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


def inputs(
    network: nn.Module,
    people: Sequence[Subject],
    repetitions: Collection[Repetition] | None,
    *,
    device: str = "cpu",
    augmenter: Augmenter | None = None,
    views: int = 1,
    scratch: Path | None = None,
) -> Inputs:
    """Return what the trained part of a network reads.

    A network with a fixed front has it computed once a view, re-centred to each person; for others
    the signals themselves are the inputs.

    Args:
        network: Whose inputs.
        people: Who is read.
        repetitions: Those whose windows are read; None for all.
        device: Where the inputs are kept.
        augmenter: What makes views of the windows; None for none.
        views: How many views of a front's output to keep at a time.
        scratch: Folder for inputs that stay with the CPU, which are then on disk; None for memory.
    """
    folder = scratch if torch.device(device).type == "cpu" else None
    shared, _ = split_network(network)
    if shared is None:
        return _signals(people, repetitions, device, augmenter, folder)
    front = copy.deepcopy(shared).to(device).eval()

    def blocks(view: int) -> Iterator[Tensor]:
        first = 0
        for person in people:
            _recentre(front, person)
            part = replace(_signals([person], repetitions, device, augmenter), first=first)
            size = at_once(person.spec.samples, person.spec.channels)
            for places in torch.split(torch.arange(len(part)), size):
                yield front(part.augmented(view)[places])
            first += len(part)

    @lru_cache(maxsize=views + 1)
    @torch.no_grad()
    def compute(view: int) -> Tensor | DiskRows:
        return concatenated(blocks(view), folder)

    return FeatureInputs(compute)


def _signals(
    people: Sequence[Subject],
    repetitions: Collection[Repetition] | None,
    device: str,
    augmenter: Augmenter | None,
    folder: Path | None = None,
) -> SignalInputs:
    """Lay the signals of people end to end, on a device or in a folder."""
    starts: list[Tensor] = []

    def blocks() -> Iterator[Tensor]:
        begin = 0
        for person in people:
            windows = person.windows(repetitions)
            starts.append(torch.from_numpy(windows.starts + begin))
            begin += len(windows.signal)
            yield torch.from_numpy(windows.signal).to(device)

    signal = concatenated(blocks(), folder)
    return SignalInputs(signal, torch.cat(starts).to(device), people[0].spec.samples, augmenter)


def recentre(network: nn.Module, person: Subject) -> None:
    """Re-centre the fixed front of a network, if it has one, to a person; no label is used."""
    front, _ = split_network(network)
    _recentre(front, person)


def _recentre(front: nn.Module | None, person: Subject) -> None:
    if isinstance(front, BandCovariances):
        front.whitening.copy_(person.centre)
