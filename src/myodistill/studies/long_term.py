"""The protocol over days: a person's later day is decoded from the labelled days before it.

Each person is a dataset of their own, whose days stand for subjects (:class:`Days`); training,
calibration, scores and the guard against leakage are those of a run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

import myodistill.models  # noqa: F401  registers every family
from myodistill.config import Settings
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.days import Days
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.alone import with_more_passes
from myodistill.distillation.data import FoldData
from myodistill.distillation.digests import KnownDigests
from myodistill.errors import LeakageError, SettingsError, unknown_name
from myodistill.evaluation import results
from myodistill.evaluation.day_results import FIRST_DAY, LATEST_DAYS, markdown, ordered
from myodistill.evaluation.protocol import STUDENTS
from myodistill.evaluation.results import named
from myodistill.files import write_text
from myodistill.lock import locked_folder
from myodistill.models.registry import entry
from myodistill.plugins import load_plugins
from myodistill.reporting.figures.days import accuracy_over_days
from myodistill.signals.disk_cache import scratch
from myodistill.splits import BlindSplit, Split
from myodistill.studies.day_runner import DayRunner
from myodistill.studies.preflight import ScoredFold, check_recordings
from myodistill.studies.runner import Row
from myodistill.training.losses import require_loss

DAYS = (3, 6, 11, 16, 21, 26, 30)
HISTORY = (0, 1, 2, 5, 10, 20)

_UNUSED = ("fold", "cross_validation", "baseline", "processes")


@dataclass(frozen=True)
class DayProtocol:
    """What is decoded from what.

    Attributes:
        days: Numbers of the days to decode, from 2; those without the history are left out of it.
        history: How many labelled days just before a day are learned from.
        first_day: Whether each later day is decoded from day 1 alone as well.

    Raises:
        SettingsError: There is no such day or history.
    """

    days: Sequence[int] = DAYS
    history: Sequence[int] = HISTORY
    first_day: bool = True

    def __post_init__(self) -> None:
        for name, least, most in (("days", 2, 10_000), ("history", 0, 1000)):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SettingsError(f"{name}: expected one or more numbers, each named once")
            for value in values:
                if not least <= value <= most:
                    raise SettingsError(f"{name}: expected {least} to {most}, got {value:.6g}")


@dataclass(frozen=True)
class DayTask:
    """Some days to be decoded from the same history.

    Attributes:
        split: The history trains, the days are held out.
        protocol: Which days of history it takes.
    """

    split: Split
    protocol: str = LATEST_DAYS

    @property
    def history(self) -> int:
        """How many days are learned from."""
        return len(self.split.pretraining)

    @property
    def folder(self) -> str:
        """Name below a person's folder."""
        if self.protocol == FIRST_DAY:
            return "day-1-only"
        return f"history-{self.history}-before-{self.split.heldout[0]}"


def day_split(days: Days, history: Sequence[str], heldout: Sequence[str]) -> Split:
    """Return the split in which days of history train and later days are held out.

    Raises:
        LeakageError: The history holds a day that is decoded, or a later one.
        SettingsError: There is no such day.
    """
    names = days.subjects()
    for day in (*history, *heldout):
        if day not in names:
            raise SettingsError(unknown_name("day", day, names))
    for day in heldout:
        for learned in history:
            if names.index(learned) >= names.index(day):
                what = "that day itself" if learned == day else f"the later {learned:.40}"
                raise LeakageError(
                    f"leakage: expected a history of days before {day:.40}, it holds {what}; "
                    f"leave it out"
                )
    facts = days.facts
    return Split(
        dataset=facts.name,
        fold=1,
        folds=1,
        pretraining=tuple(history),
        heldout=tuple(heldout),
        calibration_session=facts.calibration_session,
        test_sessions=facts.test_sessions,
        repetitions=facts.repetitions,
    )


def day_tasks(days: Days, protocol: DayProtocol) -> list[DayTask]:
    """Return what is to be done for one person; a day without enough days before it is left out.

    Raises:
        SettingsError: Nothing is left.
    """
    names = days.subjects()
    tasks = []
    for number in sorted(protocol.days):
        if number > len(names):
            raise SettingsError(
                f"days: expected 2 to {len(names)} for {days.facts.title:.40}, got {number}"
            )
        for length in sorted(protocol.history):
            if length < number:
                before = names[number - 1 - length : number - 1]
                tasks.append(DayTask(day_split(days, before, [names[number - 1]])))
    if protocol.first_day:
        tasks.append(DayTask(day_split(days, names[:1], names[1:]), FIRST_DAY))
    if not tasks:
        raise SettingsError(
            f"history: expected fewer days than come before day {max(protocol.days)}, "
            f"got {min(protocol.history)}"
        )
    return tasks


def run_long_term(settings: Settings, protocol: DayProtocol) -> pd.DataFrame:
    """Evaluate the protocol for some people of a dataset; return a row for each score.

    Everything goes to ``settings.out``: a folder per person and history with the bundles, and at
    the end ``results.parquet``, ``table.md``, ``settings.json`` and ``figures/``. What is there and
    still valid is not done again. The epochs of pre-training are those for 20 days of history;
    fewer days get more passes, so that every history takes as many steps.

    Args:
        settings: Of the run; ``subjects`` are the people, ``k`` is 0, 1 or both.
        protocol: Which days are decoded from which.

    Raises:
        MyoDistillError: A setting is wrong, recordings are missing or copied, training diverged,
            the folder is in use or holds another run.
    """
    load_plugins(settings.plugin)
    dataset = open_dataset(settings.dataset)
    people = _people(settings, dataset)
    checked = {person: _check(Days(dataset, person), protocol, settings) for person in people}
    _require_own_folder(settings.out)
    with locked_folder(settings.out):
        rows = [
            row | {"subject": person, "dataset": dataset.facts.name}
            for person, known in checked.items()
            for row in _person_rows(settings, Days(dataset, person), person, known, protocol)
        ]
        frame = ordered(pd.DataFrame(rows))
        write_text(settings.out / "table.md", markdown(frame))  # marks the folder as ours
        results.write(frame, settings.out / "results.parquet")
        described = json.loads(settings.model_dump_json())
        described["long_term"] = {name: getattr(protocol, name) for name in _OF_PROTOCOL}
        write_text(settings.out / "settings.json", json.dumps(described, indent=1))
        accuracy_over_days(frame).save(settings.out / "figures")
    return frame


def _people(settings: Settings, dataset: Dataset) -> tuple[str, ...]:
    """Refuse what cannot be evaluated before any work; return whose days are decoded."""
    defaults = Settings()
    for name in (*_UNUSED, "recentre"):
        if getattr(settings, name) != getattr(defaults, name):
            raise SettingsError(
                f"{name}: expected nothing of it for the protocol over days, which knows no such "
                f"choice; leave it out"
            )
    for k in settings.k:
        if k > 1:
            raise SettingsError(
                f"k: expected 0, 1 or both, as the other trials of the day are scored, got {k}"
            )
    for model in (*settings.teacher_model, *settings.student_model):
        entry(model)
    for loss in settings.loss:
        require_loss(loss, len(dataset.facts.gestures))
    for person in settings.subjects:
        if person not in dataset.subjects():
            raise SettingsError(unknown_name("subject", person, dataset.subjects()))
    return settings.subjects or dataset.subjects()


def _check(days: Days, protocol: DayProtocol, settings: Settings) -> KnownDigests:
    """Check one person's recordings, and that the protocol fits them."""
    if not any(_ks(settings, task) for task in day_tasks(days, protocol)):
        raise SettingsError(
            "history: expected a day or more where the first trial has no labels (--k 0), got 0; "
            "add --k 1 or a longer history"
        )
    names = days.subjects()
    fold = ScoredFold(day_split(days, names[:1], names[1:]), names[1:], settings.k)
    return check_recordings(days, [fold])


def _require_own_folder(out: Path) -> None:
    path = out / "results.parquet"
    if path.is_file() and not (out / "table.md").is_file():
        raise SettingsError(
            f"out: expected a folder for results over days, {out} holds another run; choose "
            f"another folder with --out"
        )


def _person_rows(
    settings: Settings,
    days: Days,
    person: str,
    known: KnownDigests,
    protocol: DayProtocol,
) -> Iterator[Row]:
    """Yield one person's results, without the person."""
    numbers = {name: number for number, name in enumerate(days.subjects(), start=1)}
    with scratch(settings.out / ".scratch") as folder:
        for task in day_tasks(days, protocol):
            for split, of_task in _frames(settings, task, person):
                blind = not split.uses_unlabelled
                data = FoldData(days, split, of_task, None, known, folder)
                for seed in settings.seed:
                    runner = DayRunner(of_task, data, seed)
                    for day in task.split.heldout:
                        rows = runner.day(day)
                        _print(person, task, day, "no label" if blind else "", rows)
                        for row in rows:
                            yield row["result"] | {
                                "protocol": task.protocol,
                                "condition": _condition(row, blind=blind),
                                "history": task.history,
                                "day": numbers[day],
                            }


def _condition(row: Row, *, blind: bool) -> str:
    """Return what a row's score used of the day."""
    if blind:
        return "no label"
    used = "first trial" if row["result"]["k"] else "re-centred"
    return f"{used}, adapting" if row.get("adapting") else used


def _frames(settings: Settings, task: DayTask, person: str) -> Iterator[tuple[Split, Settings]]:
    """Yield a blind split and an open one, each with its settings, as far as a task has them."""
    ks = _ks(settings, task)
    if task.history:
        settings = with_more_passes(settings, task.history)
    out = settings.out / person / task.folder
    if 0 in ks:
        plain = {"out": out / "no-label", "k": (0,), "recentre": False, "adapt_batch_norm": False}
        blind = BlindSplit(**asdict(task.split))
        yield blind, settings.model_copy(update=plain)
    if ks:
        centred = {"out": out / "re-centred", "k": tuple(ks)}
        yield task.split, settings.model_copy(update=centred)


def _ks(settings: Settings, task: DayTask) -> list[int]:
    """Return the calibration repetitions of a task: no history takes one, day 1 alone none."""
    return [k for k in settings.k if (task.protocol == LATEST_DAYS if k else task.history > 0)]


def _print(person: str, task: DayTask, day: str, condition: str, rows: Sequence[Row]) -> None:
    """Print one line of accuracies, of students alone."""
    text = ", ".join(
        f"K={one['k']} {one['stage']} {named(str(one['model']), str(one['loss']))} "
        f"{'adapting ' if row.get('adapting') else ''}{one['accuracy']:.1%}"
        for row in rows
        if (one := row["result"])["stage"] in STUDENTS
    )
    which = "day 1" if task.protocol == FIRST_DAY else f"{task.history} days before"
    used = f", {condition}" if condition else ""
    print(f"{person}, {day} from {which}{used}: {text}", file=sys.stderr, flush=True)


_OF_PROTOCOL = ("days", "history", "first_day")
