"""The data of one fold: the windows of its subjects, and the outputs of teachers for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from myodistill.bundle import Bundle
from myodistill.config import Augmentation, Settings, digest
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Repetition
from myodistill.distillation.cache import CachedOutputs, CacheKey, cached_outputs
from myodistill.distillation.digests import FoldDigests, KnownDigests
from myodistill.distillation.subjects import (
    Part,
    Subject,
    SubjectPool,
    front_key,
    make_inputs,
)
from myodistill.distillation.teacher_outputs import (
    CachedTeacher,
    OnlineTeacher,
    feature_count,
    has_features,
    predict_outputs,
)
from myodistill.distillation.window_sets import Rehearsal, TrainingSet, WindowSet
from myodistill.errors import ModelError
from myodistill.models.base import split_network
from myodistill.models.closed_form import ClosedFormNetwork
from myodistill.models.registry import build
from myodistill.signals.augmentation import Augmenter, described
from myodistill.signals.windows import Windows
from myodistill.splits import Split, require_unseen
from myodistill.training.batches import ConcatInputs, Inputs, SubsetInputs
from myodistill.training.sampler import Views
from myodistill.training.teacher_output import TeacherOutputs


class FoldData:
    """The windows of one fold and teachers' outputs for them, each computed once for all seeds.

    Args:
        dataset: Source of the recordings.
        split: Which subjects are held out.
        settings: Of the run.
        outputs: Folder for teachers' outputs; None keeps them in memory.
        known: Digests of recordings that are computed already.
        scratch: Folder for signals and inputs, which take about three times the recordings there
            (more with augmented views); None for a temporary one.
        rehearsal: The training subjects, if their recordings are not in ``dataset``.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        settings: Settings,
        outputs: Path | None = None,
        known: KnownDigests = (),
        scratch: Path | None = None,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self.dataset = dataset
        self.spec = dataset.facts.spec()
        self.split = split
        self.digests = FoldDigests(dataset, split, rehearsal.digests if rehearsal else known)
        self.subjects = SubjectPool(
            dataset,
            split,
            recentre=settings.recentre,
            scratch=scratch,
            alignment=rehearsal.alignment if rehearsal else None,
        )
        self.subject = cache(self.subjects.heldout)
        self.training_set = (
            rehearsal.training_sets.__getitem__ if rehearsal else cache(self._training_set)
        )
        self.augmenter: Augmenter | None = None
        self.views: Views | None = None
        if settings.augmentation != Augmentation():
            facts = dataset.facts
            self.augmenter = Augmenter(settings.augmentation, facts.electrodes, facts.sampling_rate)
            self.views = settings.views
        self._settings = settings
        self._outputs = outputs
        self._training_sets: dict[str, TrainingSet] = {}

    def calibration_set(self, network: nn.Module, subject: Subject, k: int) -> WindowSet:
        """Return what a held-out subject calibrates on, as a network reads it.

        These are the first ``k`` repetitions, and behind them those of the split's history. The
        former come as often as ``newest_share`` asks for.
        """
        today = [(subject, self.split.calibration(subject.name, k))] if k else []
        parts = [*today, *((day, day.fitted_on) for day in self.subjects.history(subject.name))]
        windows = [one.filtered().select(repetitions) for one, repetitions in parts]
        last = [
            _in_last_repetition(part)
            if one is subject
            else torch.zeros(len(part), dtype=torch.bool)
            for (one, _), part in zip(parts, windows, strict=True)
        ]
        inputs: Inputs = self._inputs(network, parts)
        labels = torch.cat([torch.from_numpy(part.labels) for part in windows])
        in_last_repetition = torch.cat(last)
        if today and len(parts) > 1:
            order = _repeated(len(windows[0]), len(labels), self._settings.newest_share)
            inputs = SubsetInputs(inputs, order)
            labels, in_last_repetition = labels[order], in_last_repetition[order]
        return WindowSet(
            inputs,
            labels,
            in_last_repetition,
            digest(
                self._training_digest(),
                subject.name,
                self.digests.of(subject.name).calibration[k],
                *self.digests.of_history(subject.name),
            ),
        )

    def calibrating(self, subject: str, k: int) -> frozenset[Repetition]:
        """Return the repetitions whose labels a held-out subject calibrates by."""
        days = (day.fitted_on for day in self.subjects.history(subject))
        newest = self.split.calibration(subject, k) if k else frozenset[Repetition]()
        return newest.union(*days)

    def unlabelled(self, network: nn.Module, subject: Subject) -> Inputs:
        """Return the windows that a subject's frame was fitted on, as a network reads them."""
        return self._inputs(network, [(subject, subject.fitted_on)])

    def _training_set(self, model: str) -> TrainingSet:
        """Return the training subjects as a model reads them; models with equal fronts share it."""
        network = build(model, self.spec)
        front, _ = split_network(network)
        key = front_key(front)
        if key not in self._training_sets:
            self._training_sets[key] = self._make_training_set(network)
        return self._training_sets[key]

    def teacher_outputs(
        self,
        teachers: Sequence[Bundle],
        subject: Subject | None,
        k: int,
        *,
        training_set: bool,
        features: bool,
    ) -> TeacherOutputs | None:
        """Return the teachers' outputs for a calibration set, the training set, or both in turn.

        Args:
            teachers: None of them may have seen the subject's test repetitions.
            subject: Whose calibration set; None for the training set alone.
            k: The subject's calibration repetitions.
            training_set: Whether the training set is included.
            features: Whether features are returned beside the logits.

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
            self._require_fit(teacher, subject)
        if features and not feature_count(heads):
            names = ", ".join(teacher.model for teacher in teachers)
            raise ModelError(
                f"features: expected a teacher with features that are learned, {names} has none; "
                f"take a loss over logits or another --teacher-model"
            )
        sets_of_teachers: list[list[WindowSet]] = [
            [
                *([self.calibration_set(teacher.network, subject, k)] if subject else []),
                *([self.training_set(teacher.model)] if training_set else []),
            ]
            for teacher in teachers
        ]
        temperatures = [teacher.temperature for teacher in teachers]
        merge = self._settings.teacher_merge
        if self.views == "fresh":
            online = [
                (head, _concatenated([window_set.inputs for window_set in window_sets]))
                for head, window_sets in zip(heads, sets_of_teachers, strict=True)
            ]
            return OnlineTeacher(online, temperatures, merge, features, self._settings.precision)
        cached = [
            [self._cached_outputs(teacher, head, one, features) for one in window_sets]
            for teacher, head, window_sets in zip(teachers, heads, sets_of_teachers, strict=True)
        ]
        return CachedTeacher(cached, temperatures, merge, clean=self.views == "clean")

    def feature_count(self, teachers: Sequence[Bundle]) -> int:
        """Return the sum of the teachers' numbers of features."""
        return feature_count([split_network(teacher.network)[1] for teacher in teachers])

    def is_closed_form(self, model: str) -> bool:
        """Return whether a model's weights are solved for, not trained."""
        return isinstance(build(model, self.spec), ClosedFormNetwork)

    def _cached_outputs(
        self, teacher: Bundle, head: nn.Module, window_set: WindowSet, features: bool
    ) -> CachedOutputs:
        settings = self._settings
        clean = self.views is None or self.views == "clean"
        key = CacheKey(
            teacher=teacher.fingerprint,
            windows=window_set.digest,
            augmentation="" if clean else digest(*described(settings.augmentation)),
            views=(0,) if clean else tuple(range(1, int(self.views or 0) + 1)),
            count=len(window_set.labels),
            gestures=self.spec.classes,
            features=features and has_features(head),
        )
        all_windows = torch.arange(len(window_set.labels))
        return cached_outputs(
            self._outputs,
            key,
            lambda view: predict_outputs(
                head, window_set.inputs.augmented(view), all_windows, features, settings.precision
            ),
            refill=settings.refill,
        )

    def _require_fit(self, teacher: Bundle, subject: Subject | None) -> None:
        if teacher.spec.gestures != self.spec.gestures:
            theirs, ours = len(teacher.spec.gestures), len(self.spec.gestures)
            raise ModelError(
                f"teacher {teacher.model}: expected the {ours} gestures of the student, it knows "
                f"{theirs} of its own; pre-train it on this dataset"
            )
        if subject is not None:
            test = self.split.test(subject.name)
            require_unseen(test, teacher.seen, what=f"teacher {teacher.model}")

    def _inputs(
        self, network: nn.Module, parts: Sequence[Part], scratch: Path | None = None
    ) -> Inputs:
        return make_inputs(
            network,
            parts,
            device=self._settings.device,
            augmenter=self.augmenter,
            views=self.views if isinstance(self.views, int) else 1,
            scratch=scratch,
        )

    def _make_training_set(self, network: nn.Module) -> TrainingSet:
        subjects = self.subjects.training()
        labels, last, seen = [], [], frozenset[Repetition]()
        for subject in subjects:
            windows = subject.filtered()
            labels.append(torch.tensor(windows.labels))
            last.append(_in_last_repetition(windows))
            seen |= windows.seen()
        counts = torch.tensor([len(of_subject) for of_subject in labels])
        return TrainingSet(
            inputs=self._inputs(network, [(s, None) for s in subjects], self.subjects.scratch),
            labels=torch.cat(labels),
            in_last_repetition=torch.cat(last),
            digest=self._training_digest(),
            subjects=torch.repeat_interleave(torch.arange(len(subjects)), counts),
            seen=seen,
        )

    def _training_digest(self) -> str:
        return digest(self.digests.training(), self._settings.recentre)


def placed(network: nn.Module, settings: Settings) -> nn.Module:
    """Move a network to the device of a run, in the memory format of the settings."""
    network = network.to(settings.device)
    for weight in network.parameters() if settings.channels_last else ():
        if weight.ndim == 4:  # of two-dimensional convolutions; three-dimensional ones stay
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


def _concatenated(parts: Sequence[Inputs]) -> Inputs:
    first, *rest = parts
    return ConcatInputs(first, rest[0]) if rest else first


def _repeated(newest: int, windows: int, share: float) -> Tensor:
    """Return indices in which the first windows come often enough to make up a share of all."""
    times = max(1, round(share / (1 - share) * (windows - newest) / newest))
    return torch.cat([torch.arange(newest).repeat(times), torch.arange(newest, windows)])


def _in_last_repetition(windows: Windows) -> Tensor:
    """Return for each window of a subject whether its session has no later repetition."""
    last: dict[str, int] = {}
    for r in windows.seen():
        last[r.session] = max(r.index, last.get(r.session, 0))
    is_last = np.array([r.index == last.get(r.session) for r in windows.repetitions])
    return torch.from_numpy(is_last[windows.repetition_index])
