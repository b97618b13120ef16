"""A study: many runs described by one file, done where they are missing, reported at the end.

A study is nothing but a list of complete settings. Each is an ordinary run with a folder of its
own, which `myodistill run` with the same settings would leave as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from myodistill.config import Settings, read_settings, spelled_out
from myodistill.errors import MyoDistillError, SettingsError, shown, unknown_name
from myodistill.reporting.merge_runs import index, write_merged
from myodistill.reporting.report import report
from myodistill.studies.experiment import run_experiment, steps
from myodistill.validation import UNKNOWN, problem

_MOST_RUNS = 10_000


class _File(BaseModel):
    """What a study file may hold."""

    model_config = ConfigDict(extra="forbid")

    out: Path
    title: str = ""
    defaults: dict[str, Any] = {}
    runs: dict[str, dict[str, Any]] = {}
    each: dict[str, list[Any]] = {}


@dataclass(frozen=True)
class Study:
    """Runs that belong together.

    Attributes:
        file: That describes it.
        out: Folder of the study; every run has a folder below it.
        title: What is asked.
        runs: Settings by name, in the order in which they are done.
    """

    file: Path
    out: Path
    title: str
    runs: dict[str, Settings]


def read_study(path: Path, *, out: Path | None = None) -> Study:
    """Read a study file.

    ``defaults`` holds settings of every run; ``runs`` names runs and what each changes;
    ``each`` lists values of a setting, and every run is done with every combination of them.
    Without either there is one run, named as its dataset.

    Args:
        path: A YAML file.
        out: Another folder than the one that the file says.

    Raises:
        SettingsError: The file is no study, or a setting in it is wrong; the line says which run.
    """
    values = read_settings(path)
    try:
        file = _File.model_validate(values)
    except ValidationError as error:
        key, reason = problem(error)
        if reason == UNKNOWN:
            raise SettingsError(f"{path}: {unknown_name('key', key, _File.model_fields)}") from None
        raise SettingsError(f"{path}: {key}: {reason}") from None
    runs: dict[str, Settings] = {}
    folder = out or file.out
    for name, chosen in _combinations(file):
        if not name or name.startswith(".") or "/" in name:
            raise SettingsError(
                f"{path}: expected a run's name to be a folder's, got {shown(name)}"
            )
        if name in runs:
            raise SettingsError(f"{path}: expected each run once, {shown(name)} comes twice")
        if "out" in chosen:
            raise SettingsError(f"{path}, {name}: expected no 'out' in a run, as the study has one")
        try:
            runs[name] = Settings.load({**chosen, "out": folder / name})
        except SettingsError as error:
            raise SettingsError(f"{path}, run {name}: {error}") from None
    return Study(path, folder, file.title or path.stem.replace("-", " "), runs)


def carry_out(study: Study, *, console: Console) -> Path:
    """Complete a study and write its reports.

    Every setting is checked before any work is done. A killed study resumes where it was.

    Args:
        study: What to do.
        console: Where progress is shown.

    Returns:
        The page that leads to every report.

    Raises:
        MyoDistillError: A run has a setting that cannot be used, or data is missing.
    """
    counts = {}
    for name, settings in study.runs.items():
        try:
            counts[name] = steps(settings)
        except MyoDistillError as error:
            raise type(error)(f"run {name}: {error}") from None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    sections: dict[str, Path] = {}
    with Progress(*columns, console=console, speed_estimate_period=24 * 3600) as progress:
        task = progress.add_task("study", total=sum(counts.values()))
        for number, (name, settings) in enumerate(study.runs.items(), start=1):
            progress.update(task, description=f"run {number} of {len(study.runs)}: {name}")
            run_experiment(settings, tick=partial(progress.advance, task))
            report(settings.out)
            sections[name] = settings.out
    merged = _merge_runs(study)
    for folder in merged.values():
        report(folder)
    command = f"myodistill study {study.file}"
    return index(
        study.out / "index.html",
        title=study.title,
        command=command,
        sections=merged | sections,
    )


def _merge_runs(study: Study) -> dict[str, Path]:
    """Merge the runs of each dataset with several; return the folders by title."""
    datasets: dict[str, dict[str, Path]] = {}
    for name, settings in study.runs.items():
        datasets.setdefault(settings.dataset, {})[name] = settings.out
    return {
        f"All runs on {dataset}": write_merged(study.out / f"all-{number}", runs)
        for number, (dataset, runs) in enumerate(datasets.items(), start=1)
        if len(runs) > 1
    }


def _combinations(file: _File) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the settings of every run."""
    for key, values in file.each.items():
        if not values:
            raise SettingsError(f"each: expected at least one value of {shown(key)}, got none")
        if key.count(".") > 1:
            raise SettingsError(
                f"each: expected an option, as distill.batch_size, got {shown(key)}"
            )
    count = math.prod(map(len, file.each.values())) * max(len(file.runs), 1)
    if count > _MOST_RUNS:
        raise SettingsError(f"each: expected at most {_MOST_RUNS} runs, got {shown(count)}")
    for name, changes in (file.runs or {"": {}}).items():
        for combination in itertools.product(*file.each.values()):
            chosen: dict[str, Any] = {}
            _update(chosen, spelled_out(file.defaults))
            _update(chosen, spelled_out(changes))
            for key, value in zip(file.each, combination, strict=True):
                _update(chosen, spelled_out(_nested(key.split("."), value)))
            words = ["+".join(map(str, v)) if isinstance(v, list) else str(v) for v in combination]
            only = Path(str(chosen.get("dataset", "run"))).stem
            yield "-".join(filter(None, [name, *words])) or only, chosen


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    first, *others = path
    return {first: _nested(others, value) if others else value}


def _update(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put changes over settings, section by section."""
    for key, value in changes.items():
        if isinstance(value, Mapping):
            section = into.get(key)
            into[key] = dict(section) if isinstance(section, Mapping) else {}
            _update(into[key], value)
        else:
            into[key] = value
