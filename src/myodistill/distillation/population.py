"""A population: what is made once from many people, so that one more calibrates in a minute.

:func:`pretrain` makes it, :func:`calibrate` makes a person's bundle of it. It is one folder of
JSON, safetensors and a prepared store of the people's recordings, which calibration rehearses::

    population.json           facts, settings, split, and the hash of every other file
    teachers/<model>/         a bundle each
    students/<model>-<loss>/  a bundle each, distilled from these teachers
    recordings/<store>/       everybody's recordings, raw
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from myodistill import __version__
from myodistill.bundle import Bundle
from myodistill.config import Settings, digest
from myodistill.datasets.dataset import Dataset, Facts, require_names
from myodistill.datasets.prepared import PreparedDataset
from myodistill.datasets.recording import Recording
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.distillation.newcomer import Newcomer, require_newcomer, session_of
from myodistill.errors import (
    MyoDistillError,
    PopulationError,
    SettingsError,
    Wanted,
    shown,
    unknown_name,
)
from myodistill.files import new_folder, write_text
from myodistill.readers import read_json
from myodistill.signals.duplicates import DuplicateFinder
from myodistill.signals.prepared import prepare
from myodistill.splits import Split
from myodistill.training.loop import NO_PATHS, RunPaths
from myodistill.validation import checked

FORMAT = 1
CARD = "population.json"
_WANTED = Wanted(f"a population ({CARD})", PopulationError, "make it again with pretrain")
_OF_A_RUN = ("dataset", "fold", "subjects", "baseline", "out", "k")
"""Settings that have no meaning where nobody is held out."""
_OF_CALIBRATION = (
    *("finetune", "distill", "alpha", "temp", "temperature", "feature_weight", "teacher_merge"),
    *("calibrate_teachers", "device", "precision", "compile", "channels_last"),
)
"""Settings that a population does not fix."""


@dataclass(frozen=True, eq=False)
class Population:
    """Teachers and students that many people trained, and these people's recordings.

    Attributes:
        dataset: The people; ``dataset.facts`` says how a newcomer must record.
        split: Everybody trains, nobody is held out.
        settings: That it was trained by.
        teachers: Pre-trained, one a teacher model.
        students: Pre-trained under these teachers, by model and distillation loss.

    Example:
        >>> people = Population.load("populations/3dc")
        >>> people.facts.unit, people.facts.sampling_rate, len(people.subjects)
        ('counts', 1000.0, 22)
    """

    dataset: Dataset = field(repr=False)
    split: Split = field(repr=False)
    settings: Settings = field(repr=False)
    teachers: tuple[Bundle, ...]
    students: Mapping[tuple[str, str], Bundle]

    @property
    def facts(self) -> Facts:
        """Electrodes, rate in Hz, unit, gestures and window of everybody's recordings."""
        return self.dataset.facts

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the people in it."""
        return self.split.pretraining

    def save(self, folder: Path | str) -> Path:
        """Write the population as one folder, which appears whole or not at all; return its path.

        The recordings go with it: whoever has the folder has everybody's raw signals.

        Raises:
            DataError: A recording can no longer be read.
            OutputError: The folder cannot be written.
        """
        folder = Path(folder)
        with new_folder(folder) as part:
            for teacher in self.teachers:
                teacher.save(part / _teacher_folder(teacher.model))
            for (model, loss), student in self.students.items():
                student.save(part / _student_folder(model, loss))
            prepare("", part / "recordings", dataset=self.dataset, subjects=self.subjects)
            card = {
                "format": FORMAT,
                "version": __version__,
                "facts": self.facts.to_dict(),
                "settings": self.settings.model_dump(mode="json"),
                "split": asdict(self.split),
                "files": {name: _sha256(part / name) for name in _files(part)},
            }
            write_text(part / CARD, json.dumps(card | {"card_sha256": digest(card)}, indent=1))
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> Population:
        """Read a population; its recordings stay on disk until they are asked for.

        Raises:
            PopulationError: A file is missing, damaged, altered or added, or the folder is of
                another format or of a newer version of the package.
        """
        folder = Path(folder)
        card = read_json(folder / CARD, _WANTED)
        if card.get("format") != FORMAT or _newer(card.get("version")):
            raise PopulationError(
                f"{folder}: expected a population of format {FORMAT} and of version {__version__} "
                f"or older, got {shown(card.get('format'), 20)} and "
                f"{shown(card.get('version'), 20)}; update myodistill or make it again"
            )
        files = card.get("files")
        sealed = {name: value for name, value in card.items() if name != "card_sha256"}
        if card.get("card_sha256") != digest(sealed) or not isinstance(files, dict):
            _WANTED.refuse(folder / CARD, "one that was altered since")
        with _WANTED.reading(folder):
            found = {name: _sha256(folder / name) for name in _files(folder)}
        if found != files:
            wrong = sorted(n for n in {*found, *files} if found.get(n) != files.get(n))
            _WANTED.refuse(folder, f"{shown(wrong[0])}, which is missing, new or altered")
        try:
            return cls._of(folder, card)
        except (MyoDistillError, LookupError) as error:
            _WANTED.refuse(folder, str(error), error)

    @classmethod
    def _of(cls, folder: Path, card: Mapping[str, Any]) -> Population:
        """Rebuild a population from files that are as they were written."""
        settings = Settings.load(card["settings"])
        split = checked(TypeAdapter(Split), card["split"], folder / CARD, _WANTED)
        (store,) = (folder / "recordings").iterdir()
        return cls(
            PreparedDataset(store),
            split,
            settings,
            tuple(Bundle.load(folder / _teacher_folder(m)) for m in settings.teacher_model),
            {
                (model, loss): Bundle.load(folder / _student_folder(model, loss))
                for model in settings.student_model
                for loss in settings.loss
            },
        )


def pretrain(
    dataset: Dataset | Path | str, *, out: Path | str | None = None, **settings: Any
) -> Population:
    """Train teachers, and students under them, on all people of a dataset.

    Args:
        dataset: As :func:`~myodistill.load_dataset` returns or takes it.
        out: Folder that the population is saved to; none keeps it in memory. Killed and called
            again with the same arguments, it goes on from the last epoch.
        settings: Options by the names that they have in YAML, such as ``teacher_model``,
            ``student_model``, ``loss``, one ``seed``, ``pretrain={"num_epochs": 10}``. Those of
            ``finetune`` and ``distill`` are what :func:`calibrate` uses by default.

    Returns:
        The population.

    Raises:
        DataError: A recording is missing or damaged.
        LeakageError: Two people have the same recording.
        MyoDistillError: A setting is wrong, training diverged, or ``out`` cannot be written.

    Example:
        >>> people = pretrain("3dc", out="populations/3dc", pretrain={"num_epochs": 10})
    """
    for name in settings:
        if name in _OF_A_RUN:
            raise SettingsError(
                f"{name}: expected settings of training, as nobody is held out of a population; "
                f"leave it out, or use run"
            )
    people = require_names(dataset) if isinstance(dataset, Dataset) else open_dataset(str(dataset))
    facts = people.facts
    opened = facts.name if isinstance(dataset, Dataset) else str(dataset)
    chosen = Settings.load({**settings, "dataset": opened})
    if len(chosen.seed) != 1:
        raise SettingsError(f"seed: expected one, got {len(chosen.seed)}; a population has one")
    split = Split(
        dataset=facts.name,
        fold=1,
        folds=1,
        pretraining=people.subjects(),
        heldout=(),
        calibration_session=facts.calibration_session,
        # Nothing is scored here, and a split names what is.
        test_sessions=facts.test_sessions or (f"not {facts.calibration_session}",),
        repetitions=facts.repetitions,
    )
    _prints(people, split.pretraining).require_none()
    data = FoldData(people, split, chosen)
    fold = DistillationPipeline(data, chosen, chosen.seed[0])
    unfinished = None
    if out is not None:
        key = digest(__version__, data.digests.training(), chosen.model_dump(mode="json"))
        unfinished = Path(out).with_name(f".{Path(out).name}.{key}")

    def paths(name: str) -> RunPaths:
        return RunPaths(unfinished and unfinished / f"{name}.safetensors", None, name)

    teachers = [fold.pretrain(model, paths(model)) for model in chosen.teacher_model]
    students = {
        (model, loss): fold.pretrain_student(model, teachers, paths(f"{model}-{loss}"), loss=loss)
        for model in chosen.student_model
        for loss in chosen.loss
    }
    made = Population(people, split, chosen, tuple(teachers), students)
    if out is not None and unfinished is not None:
        made.save(out)
        shutil.rmtree(unfinished, ignore_errors=True)
    return made


def calibrate(
    population: Population | Path | str,
    recordings: Sequence[Recording] | Dataset | Path | str,
    *,
    k: int | None = None,
    student_model: str | None = None,
    loss: str | None = None,
    **settings: Any,
) -> Bundle:
    """Make the bundle of a person who is in no dataset, from a few of their repetitions.

    Exactly what an experiment does for a person whom it holds out: the teachers are fine-tuned to
    the person, and the student learns from them on the person's windows and on everybody's.

    Args:
        population: The population, or its folder.
        recordings: Of one person and one session, raw, recorded as the population's: same rate,
            unit, electrodes and gestures. Or a dataset of one person, or the path of one.
        k: Repetitions to calibrate by, the first ones; all that there are by default. 0 re-centres
            by the first repetition, without its labels.
        student_model: One of the population's; its first by default.
        loss: One of the population's; its first by default.
        settings: Other options than the population's of ``finetune`` and ``distill``, or
            ``alpha``, ``temp``, ``device``: ``distill={"num_epochs": 100}``.

    Returns:
        The bundle: it predicts, saves, exports, and is what a decoder runs.

    Raises:
        DataError: The recordings are of several people or sessions, were recorded otherwise, or
            have too few gestures or repetitions.
        LeakageError: The recordings are in the population already.
        MyoDistillError: The population is damaged, a setting is wrong, or training diverged.

    Example:
        >>> bundle = calibrate("populations/3dc", recordings, k=1)
        >>> bundle.save(Path("bundles/anna"))
    """
    people = population if isinstance(population, Population) else Population.load(population)
    chosen = _chosen(people, settings)
    names = student_model or chosen.student_model[0], loss or chosen.loss[0]
    if names not in people.students:
        known = [" with ".join(pair) for pair in people.students]
        raise SettingsError(unknown_name("student of the population", " with ".join(names), known))
    mine = session_of(recordings, people.facts)
    count = require_newcomer(mine, people.facts, people.subjects, k)
    prints = _prints(people.dataset, people.subjects)
    prints.add(mine)
    prints.require_none()

    subject = mine[0].subject
    dataset = Newcomer(people.dataset, mine)
    split = replace(people.split, heldout=(subject,))
    fold = DistillationPipeline(FoldData(dataset, split, chosen), chosen, chosen.seed[0])
    teachers = [fold.finetune(teacher, subject, count, NO_PATHS) for teacher in people.teachers]
    model, taught = names
    job = StudentSpec(model, people.students[names], teachers, subject, count, taught)
    return fold.distill(job, NO_PATHS)


def _chosen(people: Population, settings: Mapping[str, Any]) -> Settings:
    """Return a population's settings with some that calibration may change."""
    values = people.settings.model_dump()
    for name, value in settings.items():
        if name not in _OF_CALIBRATION:
            raise SettingsError(
                f"{shown(name)}: expected an option of calibration ("
                f"{', '.join(_OF_CALIBRATION[:3])}, ...), the population fixes all others; leave "
                f"it out"
            )
        nested = isinstance(value, Mapping) and isinstance(values.get(name), Mapping)
        values[name] = {**values[name], **value} if nested else value
    return Settings.load(values)


def _prints(dataset: Dataset, subjects: Sequence[str]) -> DuplicateFinder:
    finder = DuplicateFinder(dataset.facts.samples)
    for subject in subjects:
        finder.add(dataset.recordings(subject))
    return finder


def _teacher_folder(model: str) -> str:
    return f"teachers/{model}"


def _student_folder(model: str, loss: str) -> str:
    return f"students/{model}-{loss}"


def _files(folder: Path) -> list[str]:
    """Return every file below a folder but the card, sorted."""
    every = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in every if name != CARD)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _newer(version: object) -> bool:
    """Say whether a version is a later one than this package's, or none at all."""
    try:
        theirs, ours = (tuple(map(int, str(v).split("."))) for v in (version, __version__))
    except ValueError:
        return True
    return theirs > ours
