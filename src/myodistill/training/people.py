"""People as a model meets them: filtered once, re-centred and turned into one frame."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Repetition, SignalSpec
from myodistill.models.base import split_network
from myodistill.models.classical import in_band
from myodistill.models.covariance import BandCovariances, LogCovariances
from myodistill.models.orientation import Template, align, orientations, template
from myodistill.signals.augmentation import Augmenter
from myodistill.signals.gather import gather
from myodistill.signals.preprocessing import Preprocessing, recentring, scaling
from myodistill.signals.windows import Windows, join
from myodistill.splits import Split
from myodistill.training.batches import Inputs

_GLANCE = 4
"""Every so many windows are looked at to find a person's orientation."""


@dataclass(frozen=True)
class Person:
    """One subject in the common frame.

    Attributes:
        subject: Name.
        spec: The signal.
        preprocessing: What brought them there.
        windows: All of the subject's windows, pre-processed.
        known: The windows that the frame was found from, pre-processed.
        recentred: Whether band covariances are re-centred, too.
    """

    subject: str
    spec: SignalSpec
    preprocessing: Preprocessing
    windows: Windows
    known: Windows
    recentred: bool

    @cached_property
    def centre(self) -> Tensor:
        """What re-centres band covariances to this person; found once for all models."""
        front = BandCovariances(self.spec)
        if not self.recentred:
            return front.whitening
        return front.centre(torch.from_numpy(self.known.gather()))


class People:
    """The subjects of one fold.

    Args:
        dataset: Where the recordings come from.
        split: Who trains and who is held out.
        recentre: Whiten people and turn their rings alike; else scale their channels.
    """

    def __init__(self, dataset: Dataset, split: Split, *, recentre: bool) -> None:
        self.dataset = dataset
        self.split = split
        self.recentre = recentre
        self.filtered = cache(self._filtered)
        self._turns = orientations(dataset.facts.electrodes) if recentre else []
        self._training_turns: dict[str, int] = {}
        self._template: Template | None = None
        if len(self._turns) > 1:
            self._align()

    def training(self) -> list[Person]:
        """Return the subjects that are not held out; all their repetitions are known."""
        return [self._training_person(subject) for subject in self.split.pretraining]

    def heldout(self, subject: str, k: int) -> Person:
        """Return a held-out subject who calibrates with ``k`` repetitions.

        At K = 0 the frame is found from the first repetition without its labels.
        """
        known = self.split.unlabelled(subject, k)
        matrix = self._frame(self.filtered(subject).select(known))
        if self._template is not None:
            seen = self._preprocessing(matrix, known).map(self.filtered(subject).select(known))
            labels = torch.from_numpy(seen.labels[::_GLANCE]) if k else None
            turn = self._turns[self._template.choose(self._turned(seen), labels)]
            matrix = matrix[turn]
        return self._person(subject, matrix, known)

    @cached_property
    def digest(self) -> str:
        """What changes with any sample of any subject of the fold."""
        content = hashlib.sha256()
        for subject in (*self.split.pretraining, *self.split.heldout):
            content.update(self.filtered(subject).signal.tobytes())
        return content.hexdigest()[:16]

    def _training_person(self, subject: str) -> Person:
        known = self.split.calibration(subject, self.split.repetitions)
        matrix = self._frame(self.filtered(subject).select(known))
        if self._turns:
            matrix = matrix[self._turns[self._training_turns.get(subject, 0)]]
        return self._person(subject, matrix, known)

    def _person(self, subject: str, matrix: np.ndarray, known: frozenset[Repetition]) -> Person:
        seen = known if self._template is None else known | self._training_repetitions()
        preprocessing = self._preprocessing(matrix, seen)
        windows = preprocessing.map(self.filtered(subject))
        spec = self.dataset.facts.spec()
        known_windows = windows.select(known)
        return Person(subject, spec, preprocessing, windows, known_windows, self.recentre)

    def _preprocessing(self, matrix: np.ndarray, seen: frozenset[Repetition]) -> Preprocessing:
        facts = self.dataset.facts
        return Preprocessing(facts.sampling_rate, facts.passband, 0.0, matrix, seen)

    def _training_repetitions(self) -> frozenset[Repetition]:
        return frozenset().union(*(self.filtered(s).seen() for s in self.split.pretraining))

    def _align(self) -> None:
        turned, labels = [], []
        for subject in self.split.pretraining:
            person = self._training_person(subject)
            turned.append(self._turned(person.known))
            labels.append(torch.from_numpy(person.known.labels[::_GLANCE]))
        chosen = align(turned, labels)
        self._training_turns = dict(zip(self.split.pretraining, chosen, strict=True))
        features = [views[turn] for views, turn in zip(turned, chosen, strict=True)]
        self._template = template(torch.cat(features), torch.cat(labels))

    def _turned(self, windows: Windows) -> list[Tensor]:
        """Log-covariances of some windows in every orientation, re-centred to their own mean."""
        front = LogCovariances(self.dataset.facts.spec())
        signals = torch.from_numpy(windows.gather(slice(None, None, _GLANCE)))
        front.whitening.copy_(front.centre(signals))
        return front.permuted(signals, self._turns)

    def _frame(self, windows: Windows) -> np.ndarray:
        return recentring(windows) if self.recentre else scaling(windows)

    def _filtered(self, subject: str) -> Windows:
        facts = self.dataset.facts
        return in_band(self.dataset.recordings(subject), facts, facts.passband)


@dataclass(frozen=True)
class Signals:
    """Windows cut from their signal when they are asked for, on the device that holds it.

    Attributes:
        signal: Shape ``(time, channel)``.
        starts: First sample of each window.
        samples: Length of a window.
        augmenter: What makes views of the windows; None for none.
        first: Number of the first window, which a view is drawn by.
        view: Which view these are.
    """

    signal: Tensor
    starts: Tensor
    samples: int
    augmenter: Augmenter | None
    first: int = 0
    view: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, places: Tensor) -> Tensor:
        places = places.to(self.starts.device)
        windows = gather(self.signal, self.starts[places], self.samples)
        if self.augmenter is None or self.view == 0:
            return windows
        return self.augmenter(windows, places + self.first, self.view)

    def augmented(self, view: int) -> Signals:
        """Return the same windows in one of their views."""
        return replace(self, view=view)


class Fronted:
    """Windows as the fixed front of a network turns them, computed once for each view.

    Args:
        compute: Number of a view to the front's output for every window.
        view: Which view these are.
    """

    def __init__(self, compute: Callable[[int], Tensor], view: int = 0) -> None:
        self._compute = compute
        self._view = view

    def __len__(self) -> int:
        return len(self._compute(self._view))

    def __getitem__(self, places: Tensor) -> Tensor:
        rows = self._compute(self._view)
        return rows[places.to(rows.device)]

    def augmented(self, view: int) -> Fronted:
        """Return the same windows in one of their views."""
        return Fronted(self._compute, view)


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
    people: Sequence[Person],
    windows: Sequence[Windows],
    *,
    device: str = "cpu",
    augmenter: Augmenter | None = None,
    views: int = 1,
) -> Inputs:
    """Return what the trained part of a network reads.

    A network with a fixed front has it computed once a view, re-centred to each person; for others
    the signals themselves are the inputs.

    Args:
        network: Whose inputs.
        people: Who is read.
        windows: For each of them the windows to read, pre-processed.
        device: Where the inputs are kept.
        augmenter: What makes views of the windows; None for none.
        views: How many views of a front's output to keep at a time.
    """
    shared, _ = split_network(network)
    if shared is None:
        return _signals(join(list(windows)), device, augmenter)
    front = copy.deepcopy(shared).to(device).eval()
    firsts = accumulate((len(part) for part in windows), initial=0)
    parts = [
        _signals(part, device, augmenter, first)
        for part, first in zip(windows, firsts, strict=False)
    ]

    @lru_cache(maxsize=views + 1)
    @torch.no_grad()
    def compute(view: int) -> Tensor:
        done = []
        for person, part in zip(people, parts, strict=True):
            _recentre(front, person)
            places = torch.split(torch.arange(len(part)), 4096)
            done += [front(part.augmented(view)[place]) for place in places]
        return torch.cat(done)

    return Fronted(compute)


def _signals(windows: Windows, device: str, augmenter: Augmenter | None, first: int = 0) -> Signals:
    signal, starts = (torch.from_numpy(a).to(device) for a in (windows.signal, windows.starts))
    return Signals(signal, starts, windows.samples, augmenter, first)


def recentre(network: nn.Module, person: Person) -> None:
    """Re-centre the fixed front of a network, if it has one, to a person; no label is used."""
    front, _ = split_network(network)
    _recentre(front, person)


def _recentre(front: nn.Module | None, person: Person) -> None:
    if isinstance(front, BandCovariances):
        front.whitening.copy_(person.centre)
