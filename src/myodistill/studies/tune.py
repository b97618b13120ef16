"""The search for settings, on training subjects alone; teacher and no teacher get the same budget.

The training subjects of a fold are split once more: some calibrate and are scored as if they were
new. The fold's own held-out subjects take no part, so that its scores stay honest (Varma and Simon,
Bias in error estimation when using cross-validation for model selection, BMC Bioinformatics 7(91),
2006). The result is for that fold; tune each fold by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from myodistill import __version__
from myodistill.bundle import Bundle
from myodistill.config import Settings, digest
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.errors import OutputError, SettingsError, ToolError, Wanted, one_line
from myodistill.files import write_text, writing
from myodistill.lock import locked_folder
from myodistill.plugins import load_plugins, loaded_plugins
from myodistill.splits import make_split, nested
from myodistill.studies.preflight import ScoredFold, check_recordings
from myodistill.studies.scorer import Scorer
from myodistill.training.loop import NO_PATHS
from myodistill.training.sampler import mix_seed

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Tuned:
    """The result of a search.

    Attributes:
        distilled: Whether the student had teachers.
        accuracy: Of the best settings, mean over the subjects of the search.
        initial_accuracy: Accuracy of the initial settings.
        trials: Number of settings tried.
        settings: The best settings, complete.
        path: File of the best settings, for ``--config``.
    """

    distilled: bool
    accuracy: float
    initial_accuracy: float
    trials: int
    settings: Settings
    path: Path


def tune(settings: Settings, *, log: Callable[[str], None] = lambda line: None) -> list[Tuned]:
    """Search settings of the distilled student, then of its control without a teacher.

    Their stages are ``pretrained_distilled`` and ``pretrained``.

    Trials are stored in ``settings.out/tune.db``; a search that was killed resumes from there, and
    more ``trials`` add to those that are done.

    Args:
        settings: One fold, one student model and the losses to choose from; ``k`` are averaged.
        log: Called with a line on each trial.

    Raises:
        SettingsError: There is not exactly one fold, one student and one seed, K is 0, or the
            folder holds the trials of other settings.
        PluginError: A plug-in is missing or fails.
        OutputError: Trials cannot be kept, or another process is at work in the folder.
        ToolError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ToolError(
            "optuna: expected it to be installed, it is not; pip install 'myodistill[tune]'"
        ) from None
    load_plugins(settings.plugin)
    for name in ("fold", "student_model", "seed"):
        if len(getattr(settings, name)) != 1:
            raise SettingsError(
                f"{name}: expected one to tune for, got {len(getattr(settings, name))}; "
                f"tune each by itself"
            )
    if 0 in settings.k:
        raise SettingsError("k: expected 1 or more to tune for, got 0; without labels none is used")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    dataset = open_dataset(settings.dataset)
    split = nested(make_split(dataset, settings.fold[0], settings.cross_validation))
    known = check_recordings(dataset, [ScoredFold(split, split.heldout, settings.k)])
    with locked_folder(settings.out), _keeping(settings.out / "tune.db"):
        bench = _Bench(FoldData(dataset, split, settings, known=known), settings)
        fixed = settings.model_dump(mode="json", exclude={"trials", "out", "processes", "threads"})
        key = digest(fixed, bench.depends_on, sorted(loaded_plugins().values()))
        names = {distilled: f"{_STUDENT[distilled]}-{key}" for distilled in (True, False)}
        studies = _open(settings.out / "tune.db", names)
        return [_search(studies[distilled], bench, settings, distilled, log) for distilled in names]


_STUDENT = {True: "distilled", False: "undistilled"}


def _open(path: Path, names: dict[bool, str]) -> dict[bool, optuna.Study]:
    """Open the trials of both searches, or create them.

    Raises:
        SettingsError: The file is damaged, or holds the trials of other settings.
    """
    import optuna

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    wanted = Wanted(
        "the trials of a search", SettingsError, "remove it, or choose another folder with --out"
    )
    with wanted.reading(path), _room(path):
        # Connected to by path, as an address would end at the first question mark.
        storage = optuna.storages.RDBStorage(
            "sqlite://", engine_kwargs={"creator": lambda: _connect(path)}
        )
        if set(optuna.study.get_all_study_names(storage)) - set(names.values()):
            raise ValueError("those of other settings or data")
        return {
            distilled: optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True
            )
            for distilled, name in names.items()
        }


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=60)


@contextmanager
def _room(path: Path) -> Iterator[None]:
    """Tell a full disk from a damaged file; both are errors of the database.

    Raises:
        OutputError: The disk is full.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, sqlite3.OperationalError):
            cause = getattr(cause, "orig", None) or cause.__cause__
        if "full" not in str(cause):
            raise
        raise _not_kept(path, str(cause)) from error


@contextmanager
def _keeping(path: Path) -> Iterator[None]:
    """Turn errors of the database into one line.

    Raises:
        OutputError: It cannot be written or read.
    """
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError, sqlite3.Error) as error:
        cause = error.__cause__ or error  # Optuna wraps what SQLite says
        reason = one_line(str(getattr(cause, "orig", cause)))
        raise _not_kept(path, reason) from error


def _not_kept(path: Path, reason: str) -> OutputError:
    return OutputError(
        f"{path}: expected to keep the trials there, got: {reason}; free some space and tune "
        f"again (what is complete is kept)"
    )


class _Bench:
    """Trains and scores a student under some settings; teachers are made once.

    Attributes:
        depends_on: Values that decide a score beside the settings.
    """

    def __init__(self, data: FoldData, settings: Settings) -> None:
        self._pipeline = DistillationPipeline(data, settings, settings.seed[0])
        self._teachers = cache(self._pretrain)
        self._finetuned_teachers = cache(self._finetune)
        digests = data.digests
        subjects = [asdict(digests.of(subject)) for subject in data.split.heldout]
        self.depends_on = (__version__, digests.training(), data.split.hash, subjects)

    def accuracy(self, settings: Settings, distilled: bool) -> float:
        """Return the accuracy, averaged over held-out subjects and K."""
        pipeline = DistillationPipeline(self._pipeline.data, settings, settings.seed[0])
        scorer = Scorer(pipeline)
        (model,), (loss, *_) = settings.student_model, settings.loss
        teachers = self._teachers() if distilled else []
        pretrained = pipeline.pretrain_student(model, teachers, NO_PATHS, loss=loss)
        scores = []
        for subject in pipeline.split.heldout:
            for k in settings.k:
                teachers = self._finetuned_teachers(subject, k) if distilled else []
                spec = StudentSpec(model, pretrained, teachers, subject, k, loss)
                predictions = scorer.evaluate([pipeline.distill(spec, NO_PATHS)], subject)
                scores.append(float(np.mean(predictions.predicted == predictions.labels)))
        return float(np.mean(scores))

    def _pretrain(self) -> list[Bundle]:
        names = self._pipeline.settings.teacher_model
        return [self._pipeline.pretrain(name, NO_PATHS) for name in names]

    def _finetune(self, subject: str, k: int) -> list[Bundle]:
        return [self._pipeline.finetune(one, subject, k, NO_PATHS) for one in self._teachers()]


def _search(
    study: optuna.Study,
    bench: _Bench,
    settings: Settings,
    distilled: bool,
    log: Callable[[str], None],
) -> Tuned:
    import optuna

    student, initial = _STUDENT[distilled], _initial(settings, distilled)
    if not _tried(study, initial):
        study.enqueue_trial(initial)

    def objective(trial: optuna.Trial) -> float:
        accuracy = bench.accuracy(_suggested(settings, trial, distilled), distilled)
        log(f"{student}, trial {_complete(study) + 1} of {settings.trials}: {accuracy:.2%}")
        return accuracy

    for number in range(_complete(study), settings.trials):
        # Seeded by what is complete: a search that was killed goes on as it would have.
        seed = mix_seed(settings.seed[0], number) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        study.optimize(objective, n_trials=1)
    best = _suggested(settings, optuna.trial.FixedTrial(study.best_params), distilled)
    path = settings.out / f"{student}.yaml"
    values = best.model_dump(mode="json", exclude_unset=True, exclude={"out", "trials"})
    write_text(path, yaml.safe_dump(values, sort_keys=False))
    first = next(t for t in study.trials if t.params == initial and t.value is not None)
    return Tuned(distilled, study.best_value, float(first.values[0]), _complete(study), best, path)


def _tried(study: optuna.Study, params: dict[str, Any]) -> bool:
    """Whether a trial with these parameters is complete, or waits to be done."""
    return any(
        (trial.state.name == "COMPLETE" and trial.params == params)
        or (trial.state.name == "WAITING" and trial.system_attrs.get("fixed_params") == params)
        for trial in study.trials
    )


def _complete(study: optuna.Study) -> int:
    return sum(trial.state.name == "COMPLETE" for trial in study.trials)


def _initial(settings: Settings, distilled: bool) -> dict[str, Any]:
    """Return the parameters of the first trial, those of the settings."""
    distill = settings.distill
    rate = {"learning_rate": distill.learning_rate, "label_smoothing": distill.label_smoothing}
    if not distilled:
        return rate
    return rate | {
        "alpha": settings.alpha,
        "temperature": settings.temperature,
        "loss": settings.loss[0],
    }


def _suggested(settings: Settings, trial: Any, distilled: bool) -> Settings:
    """Return settings with the choices of a trial; every range includes the initial value."""
    initial = settings.distill
    values = settings.model_dump(exclude_unset=True)
    values["distill"] = settings.distill.model_dump() | {
        "learning_rate": trial.suggest_float(
            "learning_rate",
            min(3e-4, initial.learning_rate),
            max(1e-2, initial.learning_rate),
            log=True,
        ),
        "label_smoothing": trial.suggest_float(
            "label_smoothing", 0.0, max(0.2, initial.label_smoothing)
        ),
    }
    if distilled:
        values["alpha"] = trial.suggest_float("alpha", 0.0, max(0.9, settings.alpha))
        temperature = settings.temperature
        values["temperature"] = trial.suggest_float(
            "temperature", min(1.0, temperature), max(20.0, temperature), log=True
        )
        values["loss"] = [trial.suggest_categorical("loss", list(settings.loss))]
    return Settings.load(values)


def table(results: Sequence[Tuned]) -> str:
    """Return the results as text, one line each."""
    return "".join(
        f"{'distilled' if one.distilled else 'undistilled'}: {one.accuracy:.2%} after {one.trials} "
        f"trials, {one.initial_accuracy:.2%} with the settings it began with; {one.path}\n"
        for one in results
    )
