"""What the stages of one fold learn from: people's windows, and what teachers say of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from myodistill.bundle import Bundle
from myodistill.config import Augmentation, Settings, digest
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Repetition
from myodistill.distillation.cache import CachedOutputs, CacheKey, TeacherOutputs, remember
from myodistill.distillation.digests import FoldDigests, Known
from myodistill.distillation.subjects import Subject, SubjectPool, front_key, inputs
from myodistill.distillation.teacher_outputs import (
    CachedTeacher,
    OnlineTeacher,
    feature_count,
    has_features,
    predict_outputs,
)
from myodistill.errors import ModelError
from myodistill.models.base import split_network
from myodistill.models.population import Population
from myodistill.models.registry import build
from myodistill.signals.augmentation import Augmenter, described
from myodistill.signals.windows import Windows
from myodistill.splits import Split, require_unseen
from myodistill.training.batches import ConcatInputs, Inputs, Views


@dataclass(frozen=True)
class WindowSet:
    """Windows to learn from, as one network reads them.

    Attributes:
        inputs: Of every window.
        labels: Gesture of every window.
        late: Whether a window is of the last repetition of its session.
        digest: Hash of which windows they are and of their signals.
    """

    inputs: Inputs
    labels: Tensor
    late: Tensor
    digest: str


@dataclass(frozen=True)
class TrainingSet(WindowSet):
    """The training subjects.

    Attributes:
        people: Number of the subject of every window.
        seen: All their repetitions.
    """

    people: Tensor
    seen: frozenset[Repetition]


class FoldData:
    """The windows of one fold, and teachers' answers to them, each computed once for all seeds.

    Args:
        dataset: Whose recordings.
        split: Who is held out.
        settings: Of the run.
        outputs: Folder for teachers' outputs; None keeps them in memory.
        known: Digests of recordings that need not be computed again.
        scratch: Folder for signals and inputs, which take about three times the recordings there
            (more with augmented views); None for a temporary one.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        settings: Settings,
        outputs: Path | None = None,
        known: Known = (),
        scratch: Path | None = None,
    ) -> None:
        self.dataset = dataset
        self.spec = dataset.facts.spec()
        self.split = split
        self.contents = FoldDigests(dataset, split, known)
        self.people = SubjectPool(dataset, split, recentre=settings.recentre, scratch=scratch)
        self.person = cache(self.people.heldout)
        self.cohort = cache(self._cohort_of)
        self.augmenter: Augmenter | None = None
        self.views: Views | None = None
        if settings.augmentation != Augmentation():
            facts = dataset.facts
            self.augmenter = Augmenter(settings.augmentation, facts.electrodes, facts.sampling_rate)
            self.views = settings.views
        self._settings = settings
        self._outputs = outputs
        self._cohorts: dict[str, TrainingSet] = {}

    def own(self, network: nn.Module, person: Subject, k: int) -> WindowSet:
        """Return a held-out subject's first ``k`` repetitions as a network reads them."""
        repetitions = self.split.calibration(person.subject, k)
        windows = person.filtered().select(repetitions)
        return WindowSet(
            self._inputs(network, [person], repetitions),
            torch.from_numpy(windows.labels),
            _last_repetition(windows),
            digest(
                self._cohort_digest(),
                person.subject,
                self.contents.of(person.subject).calibration[k],
            ),
        )

    def unlabelled(self, network: nn.Module, person: Subject) -> Inputs:
        """Return the windows that a subject's frame was found from, as a network reads them."""
        return self._inputs(network, [person], person.known)

    def _cohort_of(self, model: str) -> TrainingSet:
        """Return the training subjects as a model reads them; models with one front share it."""
        network = build(model, self.spec)
        front, _ = split_network(network)
        kind = front_key(front)
        if kind not in self._cohorts:
            self._cohorts[kind] = self._cohort(network)
        return self._cohorts[kind]

    def answers(
        self,
        teachers: Sequence[Bundle],
        person: Subject | None,
        k: int,
        *,
        others: bool,
        features: bool,
    ) -> TeacherOutputs | None:
        """Return what teachers say of a subject's calibration windows, then of the cohort's.

        Args:
            teachers: None of them may know the subject's test repetitions.
            person: The subject; None for the cohort alone.
            k: The subject's calibration repetitions.
            others: Whether the cohort follows.
            features: Whether features are asked for beside the logits.

        Returns:
            None without teachers.

        Raises:
            LeakageError: A teacher has seen the subject's test repetitions.
            ModelError: A teacher knows other gestures, or none of them has features.
        """
        if not teachers:
            return None
        networks = [placed(teacher.network, self._settings) for teacher in teachers]
        heads = [split_network(network)[1] for network in networks]
        for teacher in teachers:
            self._require_fit(teacher, person)
        if features and not feature_count(heads):
            names = ", ".join(teacher.model for teacher in teachers)
            raise ModelError(
                f"features: expected a teacher with features that are learned, {names} has none; "
                f"take a loss over logits or another --teacher-model"
            )
        parts = [
            [
                *([self.own(teacher.network, person, k)] if person else []),
                *([self.cohort(teacher.model)] if others else []),
            ]
            for teacher in teachers
        ]
        temperatures = [teacher.temperature for teacher in teachers]
        merge = self._settings.teacher_merge
        if self.views == "fresh":
            asked = [
                (head, _laid_out([part.inputs for part in of_teacher]))
                for head, of_teacher in zip(heads, parts, strict=True)
            ]
            return OnlineTeacher(asked, temperatures, merge, features, self._settings.precision)
        kept = [
            [self._remember(teacher, head, part, features) for part in of_teacher]
            for teacher, head, of_teacher in zip(teachers, heads, parts, strict=True)
        ]
        return CachedTeacher(kept, temperatures, merge, clean=self.views == "clean")

    def feature_count(self, teachers: Sequence[Bundle]) -> int:
        """Return the number of features that teachers give together."""
        return feature_count([split_network(teacher.network)[1] for teacher in teachers])

    def _remember(
        self, teacher: Bundle, head: nn.Module, part: WindowSet, features: bool
    ) -> CachedOutputs:
        settings = self._settings
        clean = self.views is None or self.views == "clean"
        card = CacheKey(
            teacher=teacher.fingerprint,
            windows=part.digest,
            augmentation="" if clean else digest(*described(settings.augmentation)),
            views=(0,) if clean else tuple(range(1, int(self.views or 0) + 1)),
            count=len(part.labels),
            gestures=self.spec.classes,
            features=features and has_features(head),
        )
        every = torch.arange(len(part.labels))
        return remember(
            self._outputs,
            card,
            lambda view: predict_outputs(
                head, part.inputs.augmented(view), every, features, settings.precision
            ),
            refill=settings.refill,
        )

    def _require_fit(self, teacher: Bundle, person: Subject | None) -> None:
        if teacher.spec.gestures != self.spec.gestures:
            theirs, ours = len(teacher.spec.gestures), len(self.spec.gestures)
            raise ModelError(
                f"teacher {teacher.model}: expected the {ours} gestures of the student, it knows "
                f"{theirs} of its own; pre-train it on this dataset"
            )
        if person is not None:
            test = self.split.test(person.subject)
            require_unseen(test, teacher.seen, what=f"teacher {teacher.model}")

    def _inputs(
        self,
        network: nn.Module,
        people: Sequence[Subject],
        repetitions: Collection[Repetition] | None,
    ) -> Inputs:
        return inputs(
            network,
            people,
            repetitions,
            device=self._settings.device,
            augmenter=self.augmenter,
            views=self.views if isinstance(self.views, int) else 1,
            scratch=self.people.scratch if repetitions is None else None,
        )

    def _cohort(self, network: nn.Module) -> TrainingSet:
        people = self.people.training()
        labels, late, seen = [], [], frozenset[Repetition]()
        for person in people:
            windows = person.filtered()
            labels.append(torch.tensor(windows.labels))
            late.append(_last_repetition(windows))
            seen |= windows.seen()
        counts = torch.tensor([len(part) for part in labels])
        return TrainingSet(
            inputs=self._inputs(network, people, None),
            labels=torch.cat(labels),
            late=torch.cat(late),
            digest=self._cohort_digest(),
            people=torch.repeat_interleave(torch.arange(len(people)), counts),
            seen=seen,
        )

    def is_closed_form(self, model: str) -> bool:
        """Say whether a model's weights are solved for, not trained."""
        return isinstance(build(model, self.spec), Population)

    def _cohort_digest(self) -> str:
        return digest(self.contents.training(), self._settings.recentre)


def placed(network: nn.Module, settings: Settings) -> nn.Module:
    """Move a network to the device of a run, its images laid out as the settings say."""
    network = network.to(settings.device)
    for weight in network.parameters() if settings.channels_last else ():
        if weight.ndim == 4:  # of two-dimensional convolutions; three-dimensional ones stay
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


def _laid_out(parts: Sequence[Inputs]) -> Inputs:
    first, *rest = parts
    return ConcatInputs(first, rest[0]) if rest else first


def _last_repetition(windows: Windows) -> Tensor:
    """Say of each window of a subject whether its session has no later repetition."""
    last: dict[str, int] = {}
    for r in windows.seen():
        last[r.session] = max(r.index, last.get(r.session, 0))
    late = np.array([r.index == last.get(r.session) for r in windows.repetitions])
    return torch.from_numpy(late[windows.repetition_index])
