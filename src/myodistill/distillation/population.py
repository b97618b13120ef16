"""A population: what is made once from many people, so that one more calibrates in a minute.

:func:`pretrain` makes it, :func:`~myodistill.distillation.calibration.calibrate` makes a person's
bundle of it. It is one folder of JSON and arrays, without anybody's recordings::

    population.json           facts, settings, split, provenance, and the hash of every other file
    README.md                 the model card, for people
    teachers/<model>/         a bundle each
    students/<model>-<loss>/  a bundle each, distilled from these teachers
    rehearsal/                everybody's windows as the networks' fixed fronts gave them
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from myodistill import __version__
from myodistill.bundle import Bundle
from myodistill.config import Settings, digest
from myodistill.datasets.dataset import Dataset, Facts, require_names
from myodistill.datasets.registry import open_dataset
from myodistill.datasets.union import Union
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline
from myodistill.distillation.model_card import Expected, model_card
from myodistill.distillation.rehearsal_files import (
    RehearsalCard,
    read_rehearsal,
    rehearsal_of,
    write_rehearsal,
)
from myodistill.distillation.window_sets import Rehearsal
from myodistill.errors import MyoDistillError, PopulationError, SettingsError, Wanted, shown
from myodistill.files import file_sha256, new_folder, write_text
from myodistill.readers import read_json
from myodistill.signals.duplicates import DuplicateFinder
from myodistill.splits import Split
from myodistill.training.loop import RunPaths
from myodistill.validation import checked

FORMAT = 2
CARD = "population.json"
NOBODY = "none"
"""Names what stands in the place of a population where a person has none."""
_WANTED = Wanted(f"a population ({CARD})", PopulationError, "make it again with pretrain")
_OF_A_RUN = ("dataset", "fold", "subjects", "baseline", "out", "k")
"""Settings that have no meaning where nobody is held out."""


def of_training(settings: Settings) -> dict[str, Any]:
    """Return the settings that :func:`pretrain` takes by name."""
    values = settings.model_dump()
    return {name: value for name, value in values.items() if name not in _OF_A_RUN}


@dataclass(frozen=True, eq=False)
class Population:
    """Teachers and students that many people trained.

    Attributes:
        facts: Electrodes, rate in Hz, unit, gestures and window of everybody's recordings.
        split: Everybody trains, nobody is held out.
        settings: That it was trained by.
        identity: What tells the recordings that it was made of from others.
        teachers: Pre-trained, one a teacher model.
        students: Pre-trained under these teachers, by model and distillation loss.
        rehearsal: Everybody's windows, which calibration rehearses.
        prints: Fingerprints of everybody's recordings, by which a copy is found.
        expected: Accuracy that held-out people of the same recipe reached, by K; may be empty.

    Example:
        >>> people = Population.load("populations/3dc")
        >>> people.facts.unit, people.facts.sampling_rate, len(people.subjects)
        ('counts', 1000.0, 22)
    """

    facts: Facts = field(repr=False)
    split: Split = field(repr=False)
    settings: Settings = field(repr=False)
    identity: str
    teachers: tuple[Bundle, ...]
    students: Mapping[tuple[str, str], Bundle]
    rehearsal: Rehearsal = field(repr=False)
    prints: DuplicateFinder = field(repr=False)
    expected: tuple[Expected, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the people in it."""
        return self.split.pretraining

    @property
    def alone(self) -> bool:
        """Whether there are no people in it, but a person's own earlier days at most."""
        return self.identity == NOBODY

    @property
    def hash(self) -> str:
        """16 hex digits that change with any weight and with the recordings; ``none`` if alone."""
        if self.alone:
            return NOBODY
        bundles = (*self.teachers, *self.students.values())
        return digest(self.identity, [bundle.fingerprint for bundle in bundles])

    @property
    def card(self) -> str:
        """The model card, as Markdown."""
        return model_card(
            self.facts,
            self.teachers,
            self.students,
            self.expected,
            population=self.hash,
            people=len(self.subjects),
        )

    def save(self, folder: Path | str) -> Path:
        """Write the population as one folder, which appears whole or not at all; return its path.

        No recording goes with it. What does are windows in the form that networks read
        (covariances, or pre-processed signals for a network that reads these), the people's names
        and fingerprints of their recordings.

        Raises:
            OutputError: The folder cannot be written.
        """
        folder = Path(folder)
        with new_folder(folder) as part:
            for teacher in self.teachers:
                teacher.save(part / _teacher_folder(teacher.model))
            for (model, loss), student in self.students.items():
                student.save(part / _student_folder(model, loss))
            rehearsal = write_rehearsal(
                part / "rehearsal", self.rehearsal, self.prints, self.facts.samples
            )
            write_text(part / "README.md", self.card)
            card = {
                "format": FORMAT,
                "version": __version__,
                "facts": self.facts.to_dict(),
                "settings": self.settings.model_dump(mode="json"),
                "split": asdict(self.split),
                "identity": self.identity,
                "expected": [asdict(one) for one in self.expected],
                "rehearsal": rehearsal.to_dict(),
                "files": {name: file_sha256(part / name) for name in _files(part)},
            }
            write_text(part / CARD, json.dumps(card | {"card_sha256": digest(card)}, indent=1))
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> Population:
        """Read a population; its windows stay on disk until they are asked for.

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
            found = {name: file_sha256(folder / name) for name in _files(folder)}
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
        place = folder / CARD
        settings = Settings.load(card["settings"])
        rehearsal, prints = read_rehearsal(
            folder / "rehearsal", RehearsalCard.of(card["rehearsal"], place)
        )
        return cls(
            Facts.from_dict(card["facts"]),
            checked(TypeAdapter(Split), card["split"], place, _WANTED),
            settings,
            checked(TypeAdapter(str), card["identity"], place, _WANTED),
            tuple(Bundle.load(folder / _teacher_folder(m)) for m in settings.teacher_model),
            {
                (model, loss): Bundle.load(folder / _student_folder(model, loss))
                for model in settings.student_model
                for loss in settings.loss
            },
            rehearsal,
            prints,
            checked(TypeAdapter(tuple[Expected, ...]), card["expected"], place, _WANTED),
        )


def pretrain(
    dataset: Dataset | Path | str,
    *,
    exclude: Sequence[str] = (),
    out: Path | str | None = None,
    expected: Sequence[Expected] = (),
    **settings: Any,
) -> Population:
    """Train teachers, and students under them, on all people of a dataset.

    Args:
        dataset: As :func:`~myodistill.load_dataset` returns or takes it.
        exclude: People to leave out.
        out: Folder that the population is saved to; none keeps it in memory. Killed and called
            again with the same arguments, it goes on from the last epoch.
        expected: Accuracy that held-out people of the same recipe reached, for the model card and
            for people who calibrate by one repetition or none.
        settings: Options by the names that they have in YAML, such as ``teacher_model``,
            ``student_model``, ``loss``, one ``seed``, ``pretrain={"num_epochs": 10}``. Those of
            ``finetune`` and ``distill`` are what ``calibrate`` uses by default.

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
    if exclude:
        people = Union([people], exclude=exclude)
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
        test_sessions=facts.test_sessions,
        repetitions=facts.repetitions,
    )
    prints = DuplicateFinder(facts.samples)
    for subject in split.pretraining:
        prints.add(people.recordings(subject))
    prints.require_none()
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
    made = Population(
        facts,
        split,
        chosen,
        people.identity(),
        tuple(teachers),
        students,
        rehearsal_of(data, (*chosen.teacher_model, *chosen.student_model)),
        prints,
        tuple(expected),
    )
    if out is not None and unfinished is not None:
        made.save(out)
        shutil.rmtree(unfinished, ignore_errors=True)
    return made


def _teacher_folder(model: str) -> str:
    return f"teachers/{model}"


def _student_folder(model: str, loss: str) -> str:
    return f"students/{model}-{loss}"


def _files(folder: Path) -> list[str]:
    """Return every file below a folder but the card, sorted."""
    every = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in every if name != CARD)


def _newer(version: object) -> bool:
    """Say whether a version is a later one than this package's, or none at all."""
    try:
        theirs, ours = (tuple(map(int, str(v).split("."))) for v in (version, __version__))
    except ValueError:
        return True
    return theirs > ours
