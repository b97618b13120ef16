"""One fold with one seed: trains, stores each result under its key, and scores it."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, lru_cache, partial
from typing import Any, Literal

import numpy as np

from myodistill import __version__
from myodistill.bundle import Bundle
from myodistill.config import Augmentation, Settings, Training, digest
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.evaluation.event_metrics import event_table
from myodistill.evaluation.events import rest_of
from myodistill.evaluation.metrics import confusion, score
from myodistill.evaluation.results import Method, Result, Stage, named
from myodistill.files import sha256_of, write_bytes
from myodistill.models import log_covariance
from myodistill.models.classical import CLASSICAL, DEFAULT_BASELINES
from myodistill.models.registry import MODELS
from myodistill.signals.augmentation import described
from myodistill.splits import Split
from myodistill.studies.artifacts import ArtifactStore
from myodistill.studies.scorer import Predictions, Scorer
from myodistill.training.loop import RunPaths
from myodistill.training.losses import FEATURE_LOSSES, LOSSES

Until = Literal["pretrain", "baseline", "finetune", "distill"]
Row = dict[str, Any]


def scored(settings: Settings, split: Split) -> list[str]:
    """Return the held-out subjects of a fold that a run scores."""
    return [s for s in split.heldout if not settings.subjects or s in settings.subjects]


class ExperimentRunner:
    """One fold with one seed; a stored result whose key still fits is not computed again.

    The key of a stage holds its settings and the keys of its inputs.

    Args:
        settings: Of the run.
        data: Of the fold.
        seed: Of the networks.
    """

    def __init__(self, settings: Settings, data: FoldData, seed: int) -> None:
        split = data.split
        root = settings.out / f"fold-{split.fold}" / f"seed-{seed}"
        self._settings = settings
        self._data = data
        self._pipeline = DistillationPipeline(data, settings, seed)
        self._scorer = Scorer(self._pipeline)
        self._store = ArtifactStore(root, resume=settings.resume)
        on_gpu = settings.device.startswith("cuda")
        self._stacked = on_gpu if settings.stacked is None else settings.stacked
        self._augmented = None
        if settings.augmentation != Augmentation():
            self._augmented = (*described(settings.augmentation), settings.views)
        # Each is read once for all students; fine-tuned teachers for one subject at a time.
        self.teachers = cache(self._teachers)
        self.student = cache(self._student)
        at_once = len(split.heldout) if self._stacked else 1
        self._finetuned_teachers = lru_cache(maxsize=at_once)(self._finetune_teachers)

    def _teachers(self) -> list[Bundle]:
        """Return the teachers, pre-trained."""
        return [
            self._stored(
                f"pretrain-{model}",
                partial(self._pipeline.pretrain, model),
                (model, MODELS.source(model)),
                self._training_key(self._settings.pretrain, model),
            )
            for model in self._settings.teacher_model
        ]

    def _student(self, model: str, loss: str) -> Bundle:
        """Return a pre-trained student; it has no teachers if ``loss`` is empty."""
        teachers = self.teachers() if loss else []
        method = Method("pretrained_distilled" if loss else "pretrained", model, loss)
        return self._stored(
            f"pretrain-{method.folder}",
            partial(self._pipeline.pretrain_student, model, teachers, loss=loss),
            (model, MODELS.source(model), loss, self._teaching_key(loss, teachers)),
            self._training_key(self._settings.pretrain_student),
            *teachers,
        )

    def prepare(self, until: Until) -> None:
        """Do the work that all subjects share."""
        if until != "baseline":
            self.teachers()
        if until == "distill":
            for model in self._settings.student_model:
                for loss in self._settings.loss:
                    self.student(model, loss)
        for method in self._untaught(until, 0):
            self.student(method.model, "")
        if self._stacked and until != "pretrain":
            self._calibrate_stacked(until)

    def subject(self, until: Until, subject: str) -> list[Row]:
        """Train and score everything for one held-out subject."""
        rows: list[Row] = []
        for method in self._classical():
            for k in self._settings.k:
                if k:
                    predict = partial(self._scorer.classical, method.model, subject, k)
                    rows.append(self._score(method, subject, k, [], predict))
        for k in self._settings.k:
            of_networks = self._networks(until, subject, k)
            rows += of_networks
            if of_networks:
                self._print(subject, k, of_networks)
        return rows

    def _classical(self) -> list[Method]:
        """Return the classical baselines: the default ones, then those of the settings."""
        asked = [name for name in self._settings.baseline if name in CLASSICAL]
        return [Method("baseline", name) for name in dict.fromkeys((*DEFAULT_BASELINES, *asked))]

    def _networks(self, until: Until, subject: str, k: int) -> list[Row]:
        rows: list[Row] = []
        teachers = [] if until == "baseline" else self._finetuned_teachers(subject, k)
        stage: Stage = "finetune" if k else "pretrain"
        groups = [[teacher] for teacher in teachers]
        for group in [teachers, *groups] if len(groups) > 1 else groups:
            method = Method(stage, "+".join(bundle.model for bundle in group))
            rows.append(self._score(method, subject, k, group))
        for method in [*self._untaught(until, k), *self._taught(until, k)]:
            student = self._calibrated_student(method, subject, k)
            rows.append(self._score(method, subject, k, [student]))
        return rows

    def _finetune_teachers(self, subject: str, k: int) -> list[Bundle]:
        """Return the teachers, fine-tuned to a subject."""
        settings = self._settings
        return [
            self._stored(
                f"{subject}/k-{k}/finetune-{teacher.model}",
                partial(self._pipeline.finetune, teacher, subject, k),
                self._subject_key(subject, k),
                self._training_key(settings.finetune, teacher.model) if k else None,
                settings.calibrate_teachers and k > 1,
                teacher,
            )
            for teacher in self.teachers()
        ]

    def _calibrated_student(self, method: Method, subject: str, k: int) -> Bundle:
        name, key, spec = self._spec(method, subject, k)
        return self._store.bundle(name, key, partial(self._pipeline.distill, spec))

    def _spec(self, method: Method, subject: str, k: int) -> tuple[str, str, StudentSpec]:
        """Return name, key and specification of a student to be calibrated."""
        is_pretrained = method.stage in ("pretrained", "pretrained_distilled")
        student = self.student(method.model, method.loss) if is_pretrained else None
        teachers = self._finetuned_teachers(subject, k) if method.loss else []
        key = self._key(
            (asdict(method), MODELS.source(method.model)),
            self._subject_key(subject, k),
            (self._training_key(self._settings.distill), self._stacked) if k else None,
            self._teaching_key(method.loss, teachers) if k else None,
            *teachers,
            *([student] if student else []),
        )
        spec = StudentSpec(method.model, student, teachers, subject, k, method.loss)
        return f"{subject}/k-{k}/{method.folder}", key, spec

    def _calibrate_stacked(self, until: Until) -> None:
        """Calibrate the subjects' students as one computation for each method and K."""
        subjects = scored(self._settings, self._data.split)
        for k in filter(None, self._settings.k):
            for method in [*self._untaught(until, k), *self._taught(until, k)]:
                specs = [self._spec(method, name, k) for name in subjects]
                missing = [one for one in specs if self._store.find(one[0], one[1]) is None]
                begin = time.perf_counter()
                bundles = self._pipeline.distill_stacked(
                    [spec for _, _, spec in missing], self._stack_paths(method, k, len(missing))
                )
                share = (time.perf_counter() - begin) / max(len(bundles), 1)
                for (name, key, _), bundle in zip(missing, bundles, strict=True):
                    self._store.keep(name, key, bundle, share)

    def _stack_paths(self, method: Method, k: int, subjects: int) -> RunPaths:
        log = self._store.root / "logs" / f"stacked/k-{k}/{method.folder}"
        return RunPaths(log=log, title=f"{method.model} of {subjects} subjects at K={k}")

    def _untaught(self, until: Until, k: int) -> list[Method]:
        """Return the methods without a teacher: students, and networks that are baselines.

        At ``k`` = 0 only those that are pre-trained on the training subjects.
        """
        students = self._settings.student_model if until == "distill" else ()
        beside = [] if until == "pretrain" else self._settings.baseline
        networks = dict.fromkeys((*students, *(b for b in beside if b not in CLASSICAL)))
        stages: tuple[Stage, ...] = ("supervised", "pretrained") if k else ("pretrained",)
        return [Method(stage, model) for model in networks for stage in stages]

    def _taught(self, until: Until, k: int) -> list[Method]:
        """Return the distilled students, one for each loss; at ``k`` = 0 those pre-trained."""
        settings = self._settings
        stages: tuple[Stage, ...] = (
            ("distilled", "pretrained_distilled") if k else ("pretrained_distilled",)
        )
        return [
            Method(stage, model, loss)
            for model in (settings.student_model if until == "distill" else ())
            for loss in settings.loss
            for stage in stages
        ]

    def _stored(self, name: str, make: Callable[[RunPaths], Bundle], *values: object) -> Bundle:
        return self._store.bundle(name, self._key(*values), make)

    def _key(self, *values: object) -> str:
        """Return the key of a result of the training subjects and ``values``; bundles by theirs."""
        parts = [v.origin["key"] if isinstance(v, Bundle) else v for v in values]
        if self._data.spec.channels > log_covariance.MOST_CHANNELS:  # then electrodes are averaged
            parts.append(log_covariance.MOST_CHANNELS)
        people, recentre = self._data.digests.training(), self._settings.recentre
        return digest(__version__, people, self._pipeline.seed, recentre, *parts)

    def _training_key(self, section: Training, model: str = "") -> object:
        """Return the part of a key for training; None for a network solved in closed form."""
        if model and self._data.is_closed_form(model):
            return None
        return section.model_dump(), self._settings.precision, self._augmented

    def _teaching_key(self, loss: str, teachers: Sequence[Bundle]) -> object:
        """Return the part of a key for distillation with a loss; None without teachers."""
        if not teachers:
            return None
        settings = self._settings
        return (
            settings.alpha,
            settings.temperature,
            settings.teacher_merge if len(teachers) > 1 else None,
            settings.feature_weight if loss in FEATURE_LOSSES else None,
            LOSSES.source(loss),
        )

    def _subject_key(self, subject: str, k: int) -> object:
        """Return the part of a key for calibration on a held-out subject."""
        split = self._data.split.narrowed(subject)
        return (
            k,
            split.hash,
            self._data.digests.of(subject).calibration[k],
            self._settings.adapt_batch_norm,
        )

    def _score(
        self,
        method: Method,
        subject: str,
        k: int,
        bundles: Sequence[Bundle],
        predict: Callable[[], Predictions] | None = None,
        fitted: object = None,
        variant: str = "",
    ) -> Row:
        """Store a row and its probabilities, once; ``fitted`` is what else decides ``predict``."""
        name = f"{subject}/k-{k}/scores/{method.folder}{variant}"
        path = self._store.root / f"{name}.npz"

        def compute() -> Row:
            begin = time.perf_counter()
            predictions = predict() if predict else self._scorer.evaluate(bundles, subject)
            seconds = sum(b.origin["seconds"] for b in bundles) or time.perf_counter() - begin
            result = Result(
                dataset=self._data.split.dataset,
                fold=self._data.split.fold,
                subject=subject,
                **asdict(method),
                k=k,
                seed=self._pipeline.seed,
                **asdict(score(predictions.labels, predictions.probabilities)),
                parameters=sum(bundle.parameters for bundle in bundles),
                seconds=round(seconds, 3),
            )
            buffer = io.BytesIO()
            np.savez_compressed(
                buffer,
                labels=predictions.labels.astype(np.int16),
                probabilities=predictions.probabilities.astype(np.float16),
                repetition_index=predictions.repetition_index.astype(np.int16),
                starts=predictions.starts.astype(np.int64),
            )
            write_bytes(path, buffer.getvalue())
            gestures = self._data.spec.gestures
            counts = confusion(predictions.labels, predictions.predicted, len(gestures))
            thresholds = (0.0, 0.9) if predictions.confident else (0.0,)
            mean_events = event_table(
                predictions.streams, thresholds=thresholds, rest=rest_of(gestures)
            )
            return {
                "result": asdict(result),
                "scores_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
                "confusion": counts.tolist(),
                "events": json.loads(mean_events.to_json(orient="records")),
                "sessions": [
                    {
                        "session": str(session),
                        "accuracy": float(
                            (predictions.predicted == predictions.labels)[mask].mean()
                        ),
                        "windows": int(mask.sum()),
                    }
                    for session in np.unique(predictions.sessions)
                    for mask in (predictions.sessions == session,)
                ],
            }

        digests, split = self._data.digests, self._data.split
        of_subject = digests.of(subject)
        key = digest(
            __version__,
            (digests.facts, split.dataset, split.fold, subject, split.test_sessions),
            (k, self._pipeline.seed, asdict(method), *([variant] if variant else [])),
            # A classical method depends on the subject's own repetitions alone.
            [bundle.origin["key"] for bundle in bundles] or fitted or of_subject.calibration[k],
            of_subject.test,
            "events, sessions, hash of the predictions",
        )
        return self._store.value(
            name, key, compute, fits=lambda row: row.get("scores_sha256") == sha256_of(path)
        )

    def _print(self, subject: str, k: int, rows: Sequence[Row]) -> None:
        """Print the accuracy of teachers and students, one line for each subject and K."""
        results = [row["result"] for row in rows]
        text = ", ".join(
            f"{one['stage']} {named(one['model'], one['loss'])} {one['accuracy']:.1%}"
            for one in results
        )
        prefix = f"fold {self._data.split.fold}, seed {self._pipeline.seed}, {subject}, K={k}"
        print(f"{prefix}: {text}", file=sys.stderr, flush=True)
