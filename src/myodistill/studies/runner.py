"""The work of one fold with one seed: what is stored under which key, and what is scored."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
from myodistill.evaluation.results import Result, Stage, folder, named
from myodistill.files import sha256_of, write_bytes
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


@dataclass(frozen=True)
class Method:
    """A row's identity in the results table: :data:`~myodistill.evaluation.results.METHOD`."""

    stage: Stage
    model: str
    loss: str = ""

    @property
    def folder(self) -> str:
        """Name of its folder below a subject's K."""
        return folder(self.stage, self.model, self.loss)


def scored(settings: Settings, split: Split) -> list[str]:
    """Return the held-out subjects of a fold whom a run is about."""
    return [who for who in split.heldout if not settings.subjects or who in settings.subjects]


class ExperimentRunner:
    """One fold with one seed; whatever is stored and still fits is not done again.

    A stage's key is made of its own settings and the keys of what it was made from.

    Args:
        settings: Of the run.
        material: Of the fold.
        seed: Of the networks.
    """

    def __init__(self, settings: Settings, material: FoldData, seed: int) -> None:
        split = material.split
        root = settings.out / f"fold-{split.fold}" / f"seed-{seed}"
        self._settings = settings
        self._fold = DistillationPipeline(material, settings, seed)
        self._scorer = Scorer(self._fold)
        self._store = ArtifactStore(root, resume=settings.resume)
        together = settings.together
        self._together = settings.device.startswith("cuda") if together is None else together
        self._augmented = None
        if settings.augmentation != Augmentation():
            self._augmented = (*described(settings.augmentation), settings.views)
        # Read once, however many students are made of them; one subject's at a time.
        self.teachers = cache(self._teachers)
        self.student = cache(self._student)
        at_once = len(split.heldout) if self._together else 1
        self._tuned = lru_cache(maxsize=at_once)(self._finetuned)

    def _teachers(self) -> list[Bundle]:
        """Return the teachers, pre-trained."""
        return [
            self._stored(
                f"pretrain-{model}",
                partial(self._fold.pretrain, model),
                (model, MODELS.source(model)),
                self._how(self._settings.pretrain, model),
            )
            for model in self._settings.teacher_model
        ]

    def _student(self, model: str, loss: str) -> Bundle:
        """Return a student, pre-trained under the teachers with a loss, or alone with none."""
        teachers = self.teachers() if loss else []
        name = f"pretrain-{Method('pretrained_distilled' if loss else 'pretrained', model, loss).folder}"
        return self._stored(
            name,
            partial(self._fold.pretrain_student, model, teachers, loss=loss),
            (model, MODELS.source(model), loss, self._taught(loss, teachers)),
            self._how(self._settings.pretrain_student),
            *teachers,
        )

    def prepare(self, until: Until) -> None:
        """Do what does not belong to any one subject."""
        if until != "baseline":
            self.teachers()
        if until == "distill":
            for model in self._settings.student_model:
                for loss in self._settings.loss:
                    self.student(model, loss)
        for method in self._alone(until, 0):
            self.student(method.model, "")
        if self._together and until != "pretrain":
            self._calibrate_stacked(until)

    def subject(self, until: Until, subject: str) -> list[Row]:
        """Do and score what belongs to one held-out subject."""
        rows: list[Row] = []
        for method in self._classical():
            for k in self._settings.k:
                if k:
                    answer = partial(self._scorer.classical, method.model, subject, k)
                    rows.append(self._score(method, subject, k, [], answer))
        for k in self._settings.k:
            here = self._networks(until, subject, k)
            rows += here
            if here:
                self._say(subject, k, here)
        return rows

    def _classical(self) -> list[Method]:
        """Return the classical baselines: those of every run, then those that were asked for."""
        asked = [name for name in self._settings.baseline if name in CLASSICAL]
        return [Method("baseline", name) for name in dict.fromkeys((*DEFAULT_BASELINES, *asked))]

    def _networks(self, until: Until, subject: str, k: int) -> list[Row]:
        rows: list[Row] = []
        tuned = [] if until == "baseline" else self._tuned(subject, k)
        stage: Stage = "finetune" if k else "pretrain"
        groups = [[teacher] for teacher in tuned]
        for group in [tuned, *groups] if len(groups) > 1 else groups:
            method = Method(stage, "+".join(bundle.model for bundle in group))
            rows.append(self._score(method, subject, k, group))
        for method in [*self._alone(until, k), *self._taught_at(until, k)]:
            made = self._student_of(method, subject, k)
            rows.append(self._score(method, subject, k, [made]))
        return rows

    def _finetuned(self, subject: str, k: int) -> list[Bundle]:
        """Return the teachers as they are fine-tuned to a subject."""
        settings = self._settings
        return [
            self._stored(
                f"{subject}/k-{k}/finetune-{teacher.model}",
                partial(self._fold.finetune, teacher, subject, k),
                self._person(subject, k),
                self._how(settings.finetune, teacher.model) if k else None,
                settings.calibrate_teachers and k > 1,
                teacher,
            )
            for teacher in self.teachers()
        ]

    def _student_of(self, method: Method, subject: str, k: int) -> Bundle:
        name, key, job = self._job(method, subject, k)
        return self._store.bundle(name, key, partial(self._fold.distill, job))

    def _job(self, method: Method, subject: str, k: int) -> tuple[str, str, StudentSpec]:
        """Return a student to be calibrated, with the name and the key that it is stored under."""
        across = method.stage in ("pretrained", "pretrained_distilled")
        student = self.student(method.model, method.loss) if across else None
        teachers = self._tuned(subject, k) if method.loss else []
        key = self._key(
            (asdict(method), MODELS.source(method.model)),
            self._person(subject, k),
            (self._how(self._settings.distill), self._together) if k else None,
            self._taught(method.loss, teachers) if k else None,
            *teachers,
            *([student] if student else []),
        )
        job = StudentSpec(method.model, student, teachers, subject, k, method.loss)
        return f"{subject}/k-{k}/{method.folder}", key, job

    def _calibrate_stacked(self, until: Until) -> None:
        """Calibrate the subjects' students as one computation for each method and K."""
        mine = scored(self._settings, self._fold.split)
        for k in filter(None, self._settings.k):
            for method in [*self._alone(until, k), *self._taught_at(until, k)]:
                jobs = [self._job(method, subject, k) for subject in mine]
                waiting = [one for one in jobs if self._store.find(one[0], one[1]) is None]
                begin = time.perf_counter()
                made = self._fold.distill_stacked([job for _, _, job in waiting])
                share = (time.perf_counter() - begin) / max(len(made), 1)
                for (name, key, _), bundle in zip(waiting, made, strict=True):
                    self._store.keep(name, key, bundle, share)

    def _alone(self, until: Until, k: int) -> list[Method]:
        """Return what learns without a teacher: students, and networks that are baselines.

        Without calibration only what learned across the training subjects.
        """
        students = self._settings.student_model if until == "distill" else ()
        beside = [] if until == "pretrain" else self._settings.baseline
        networks = dict.fromkeys((*students, *(b for b in beside if b not in CLASSICAL)))
        stages: tuple[Stage, ...] = ("supervised", "pretrained") if k else ("pretrained",)
        return [Method(stage, model) for model in networks for stage in stages]

    def _taught_at(self, until: Until, k: int) -> list[Method]:
        """Return what is distilled, with each loss; without calibration as in :meth:`_alone`."""
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
        """Return the key of what depends on the training subjects and on ``values``.

        Bundles stand for their own keys. A setting is in no key of what it has no part in.
        """
        settings = self._settings
        parts = [v.origin["key"] if isinstance(v, Bundle) else v for v in values]
        across = self._fold.material.contents.training()
        return digest(__version__, across, self._fold.seed, settings.recentre, *parts)

    def _how(self, section: Training, model: str = "") -> object:
        """Return how a network is trained; nothing where it is solved in closed form."""
        if model and self._fold.material.is_closed_form(model):
            return None
        return section.model_dump(), self._settings.precision, self._augmented

    def _taught(self, loss: str, teachers: Sequence[Bundle]) -> object:
        """Return how teachers teach with a loss."""
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

    def _person(self, subject: str, k: int) -> object:
        """Return what a held-out subject is to whatever calibrates on them."""
        split = self._fold.split.narrowed(subject)
        return (
            k,
            split.hash,
            self._fold.material.contents.of(subject).calibration[k],
            self._settings.adapt_batch_norm,
        )

    def _score(
        self,
        method: Method,
        subject: str,
        k: int,
        bundles: Sequence[Bundle],
        answer: Callable[[], Predictions] | None = None,
    ) -> Row:
        """Score a subject once; keep the row, and every window's probabilities beside it."""
        name = f"{subject}/k-{k}/scores/{method.folder}"
        answers = self._store.root / f"{name}.npz"

        def compute() -> Row:
            begin = time.perf_counter()
            said = answer() if answer else self._scorer.evaluate(bundles, subject)
            seconds = sum(b.origin["seconds"] for b in bundles) or time.perf_counter() - begin
            result = Result(
                dataset=self._fold.split.dataset,
                fold=self._fold.split.fold,
                subject=subject,
                **asdict(method),
                k=k,
                seed=self._fold.seed,
                **asdict(score(said.labels, said.probabilities)),
                parameters=sum(bundle.parameters for bundle in bundles),
                seconds=round(seconds, 3),
            )
            buffer = io.BytesIO()
            np.savez_compressed(
                buffer,
                labels=said.labels.astype(np.int16),
                probabilities=said.probabilities.astype(np.float16),
                repetition_index=said.repetition_index.astype(np.int16),
                starts=said.starts.astype(np.int64),
            )
            write_bytes(answers, buffer.getvalue())
            gestures = self._fold.spec.gestures
            counts = confusion(said.labels, said.predicted, len(gestures))
            thresholds = (0.0, 0.9) if said.confident else (0.0,)
            mean_events = event_table(said.takes, thresholds=thresholds, rest=rest_of(gestures))
            return {
                "result": asdict(result),
                "scores_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
                "confusion": counts.tolist(),
                "events": json.loads(mean_events.to_json(orient="records")),
                "sessions": [
                    {
                        "session": str(session),
                        "accuracy": float((said.predicted == said.labels)[here].mean()),
                        "windows": int(here.sum()),
                    }
                    for session in np.unique(said.sessions)
                    for here in (said.sessions == session,)
                ],
            }

        contents, split = self._fold.material.contents, self._fold.split
        of = contents.of(subject)
        key = digest(
            __version__,
            (contents.facts, split.dataset, split.fold, subject, split.test_sessions),
            (k, self._fold.seed, asdict(method)),
            # A classical method knows nothing but the subject's own repetitions.
            [bundle.origin["key"] for bundle in bundles] or of.calibration[k],
            of.test,
            "events, sessions, hash of the answers",
        )
        return self._store.value(
            name, key, compute, fits=lambda row: row.get("scores_sha256") == sha256_of(answers)
        )

    def _say(self, subject: str, k: int, rows: Sequence[Row]) -> None:
        """Print one line a subject and K: the teachers' and the students' accuracy."""
        here = [row["result"] for row in rows]
        text = ", ".join(
            f"{one['stage']} {named(one['model'], one['loss'])} {one['accuracy']:.1%}"
            for one in here
        )
        where = f"fold {self._fold.split.fold}, seed {self._fold.seed}, {subject}, K={k}"
        print(f"{where}: {text}", file=sys.stderr, flush=True)
