"""Several runs side by side: one table over all methods, one page that leads to the reports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from myodistill.errors import DataError, Wanted
from myodistill.evaluation import results
from myodistill.evaluation.event_metrics import RULES
from myodistill.evaluation.protocol import overview, require_one_protocol
from myodistill.evaluation.results import METHOD
from myodistill.files import write_text, writing
from myodistill.readers import read_json
from myodistill.reporting.rendering import environment, template
from myodistill.reporting.run import EVENTS, SESSIONS
from myodistill.reporting.tables import score_table

_SCORES = ["accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "windows"]
_OF_RUN = Wanted("what a finished run leaves", advice="remove the run's folder and run it again")
_PLACE = ["dataset", "fold", "subject", "k", "seed"]


def merged(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the results of several runs on one dataset into one table.

    A method with equal results in every run that has it appears once. One with different results
    (the same student under other teachers, for example) gets the name of its run in brackets.

    Args:
        frames: Results tables by the name of the run.

    Raises:
        DataError: There is no table, or together they are of more than one protocol.
    """
    table = results.ordered(_joined(frames, _clashing(frames), _PLACE))
    require_one_protocol(table)
    return table


def _clashing(frames: Mapping[str, pd.DataFrame]) -> pd.MultiIndex:
    """Return the methods whose results differ between the runs that have them."""
    if not frames:
        raise DataError("study: expected the results of at least one run, got none")
    stacked = pd.concat(list(frames.values()))
    scores = stacked.groupby([*METHOD, *_PLACE])[_SCORES]
    differs = (scores.max() != scores.min()).any(axis=1)
    return pd.MultiIndex.from_frame(differs[differs].reset_index()[METHOD].drop_duplicates())


def _joined(
    frames: Mapping[str, pd.DataFrame], clashing: pd.MultiIndex, keys: list[str]
) -> pd.DataFrame:
    """Put tables under each other; ``keys`` tell rows of one method apart."""
    parts = []
    for name, frame in frames.items():
        clashes = pd.MultiIndex.from_frame(frame[METHOD]).isin(clashing)
        parts.append(
            frame.assign(model=frame["model"].where(~clashes, frame["model"] + f" ({name})"))
        )
    return pd.concat(parts).drop_duplicates([*METHOD, *keys], ignore_index=True)


def write_merged(folder: Path, runs: Mapping[str, Path]) -> Path:
    """Write a run folder that holds the methods of several runs, for figures and a report.

    Operations are those of the models, whatever their run; splits and facts are those of the first
    run, as rows with others do not share a protocol.

    Args:
        folder: Where to.
        runs: Folders by name.

    Returns:
        ``folder``.
    """
    frames = {name: results.read(path / "results.parquet") for name, path in runs.items()}
    table = merged(frames)
    clashing = _clashing(frames)
    flops: dict[str, Any] = {}
    for path in runs.values():
        flops |= read_json(path / "models.json", _OF_RUN)
    for model in table["model"].unique():
        bare = str(model).split(" (")[0]
        if bare in flops:
            flops[str(model)] = flops[bare]
    results.write(table, folder / "results.parquet")
    for part, columns, keys in (
        ("events", EVENTS, RULES),
        ("sessions", SESSIONS, ["session"]),
    ):
        tables = {
            name: results.read_rows(path / f"{part}.parquet", _OF_RUN, columns)
            for name, path in runs.items()
        }
        joined = _joined(tables, clashing, ["subject", "k", "seed", *keys])
        results.write(joined, folder / f"{part}.parquet")
    write_text(folder / "models.json", json.dumps(flops, indent=1))
    first = next(iter(runs.values()))
    with writing(folder):
        shutil.copytree(first / "splits", folder / "splits", dirs_exist_ok=True)
        shutil.copy(first / "environment.json", folder / "environment.json")
        if (first / "facts.json").is_file():  # an older run has none
            shutil.copy(first / "facts.json", folder / "facts.json")
    return folder


def index(path: Path, *, title: str, command: str, sections: Mapping[str, Path]) -> Path:
    """Write the page that leads to the reports of a study.

    Args:
        path: File to write.
        title: Of the study.
        command: That repeats it.
        sections: Run folders with a report, by heading; links are relative to the page.
    """
    shown = []
    for name, folder in sections.items():
        table = results.read(folder / "results.parquet")
        ks = sorted(int(k) for k in table["k"].unique())
        shown.append(
            {
                "name": name,
                "link": (folder / "report.html").relative_to(path.parent).as_posix(),
                "people": int(table["subject"].nunique()),
                "dataset": str(table["dataset"].iloc[0]),
                "ks": ks,
                "rows": score_table(overview(table), ks),
            }
        )
    page = environment().from_string(template("index.html.j2"))
    css = Markup(template("report.css"))
    write_text(path, page.render(css=css, title=title, command=command, sections=shown))
    return path
