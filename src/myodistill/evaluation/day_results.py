"""Results over days: which day of a person was decoded, from how many days before it, and how."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from myodistill.errors import DataError, Wanted
from myodistill.evaluation.results import METHOD, STAGES, Result, named, read_rows
from myodistill.evaluation.results import ordered as in_order

LATEST_DAYS, FIRST_DAY = "latest days", "day 1"
PROTOCOLS = (LATEST_DAYS, FIRST_DAY)
"""Which days of history: the latest before the day that is decoded, or the first day alone."""

CONDITIONS = {
    "no label": "nothing of the day is used",
    "re-centred": "re-centred by the day's first trial, without labels",
    "re-centred, adapting": "re-centred, and adapting in use, without labels",
    "first trial": "calibrated on the day's first trial (K=1)",
    "first trial, adapting": "calibrated on it, and adapting in use",
}
"""What is used of the day that is decoded, from least to most."""

_DAY = ["protocol", "condition", "history"]
_COLUMNS = {
    **{
        name: {"int": "integer", "float": "number"}.get(str(field.type), "text")
        for name, field in Result.__dataclass_fields__.items()
    },
    "protocol": "text",
    "condition": "text",
    "history": "integer",
    "day": "integer",
}
_WANTED = Wanted("results over days", advice="run `myodistill evaluate long-term` again")


def read(path: Path) -> pd.DataFrame:
    """Read a table of results over days.

    Raises:
        DataError: The file is missing, is no such table, or names a condition that there is not.
    """
    frame = read_rows(path, _WANTED, _COLUMNS)
    for name, known in (("protocol", PROTOCOLS), ("condition", CONDITIONS)):
        if not set(frame[name]) <= set(known):
            _WANTED.refuse(path, f"an unknown {name}")
    return frame


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort a table: protocol, condition, method, history, person, day."""
    ranks = {
        "protocol": {name: rank for rank, name in enumerate(PROTOCOLS)},
        "condition": {name: rank for rank, name in enumerate(CONDITIONS)},
    }
    keyed = frame.assign(**{f"_{name}": frame[name].map(rank) for name, rank in ranks.items()})
    by = ("_protocol", "_condition", *METHOD, "history", "subject", "day", "seed")
    return in_order(keyed, by).drop(columns=["_protocol", "_condition"])


def per_person(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Average seeds and days: a row per method, protocol, condition, history and person.

    Columns of the method and ``protocol, condition, history, subject``, the metric, ``days`` (how
    many) and ``parameters``.

    Raises:
        DataError: There is no result, or a method was not scored on the same days as another.
    """
    if len(frame) == 0:
        raise DataError("results over days: expected at least one score, the table is empty")
    scored = frame.groupby([*_DAY, "subject", *METHOD], sort=False)["day"].agg(frozenset)
    for where, group in scored.groupby([*_DAY, "subject"]):
        if len(set(group)) > 1:
            raise DataError(
                f"results over days: expected every method on the same days of {where[3]:.40}, "
                f"they differ at history {where[2]}; run again"
            )
    return frame.groupby([*_DAY, *METHOD, "subject"], sort=False, as_index=False).agg(
        **{
            metric: (metric, "mean"),
            "days": ("day", "nunique"),
            "parameters": ("parameters", "max"),
        }
    )


def summary(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Average days, then people: columns as :func:`per_person`, ``people`` in place of persons.

    Scores are in per cent.
    """
    people = per_person(frame, metric)
    means = people.groupby([*_DAY, *METHOD], sort=False, as_index=False).agg(
        **{
            metric: (metric, "mean"),
            "people": ("subject", "nunique"),
            "parameters": ("parameters", "max"),
        }
    )
    return means.assign(**{metric: 100 * means[metric]})


def markdown(frame: pd.DataFrame) -> str:
    """Write the means and each person's as Markdown, a table for each protocol and condition."""
    parts = []
    people = per_person(frame)
    people = people.assign(accuracy=100 * people["accuracy"])
    for (protocol, condition), group in summary(frame).groupby(_DAY[:2], sort=False):
        same = (people["protocol"] == protocol) & (people["condition"] == condition)
        days = sorted(group["history"].unique())
        head = ["method", "model", "parameters", "person", *map(str, days)]
        lines = [head, ["---"] * 4 + ["---:"] * len(days)]
        for method, means in group.groupby(METHOD, sort=False):
            stage, model, loss = map(str, method)
            count = int(means["parameters"].max())
            start = [STAGES[stage], named(model, loss), f"{count:,}" if count else "–"]
            lines.append([*start, "mean", *_cells(means, days)])
            of_method = people[same & (people[METHOD] == list(method)).all(axis=1)]
            for person, scores in of_method.groupby("subject", sort=False):
                lines.append([*start, str(person), *_cells(scores, days)])
        rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        parts.append(f"**{title(str(protocol), str(condition))}**\n\n{rows}")
    return "\n".join(parts)


def render(frame: pd.DataFrame) -> list[Table]:
    """Lay the means out for a terminal of 80 columns: a table for each protocol and condition."""
    tables = []
    for (protocol, condition), group in summary(frame).groupby(_DAY[:2], sort=False):
        days = sorted(group["history"].unique())
        shown = Table(
            title=title(str(protocol), str(condition)),
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        shown.add_column("method", ratio=1, overflow="fold")
        shown.add_column("weights", justify="right", no_wrap=True)
        for count in days:
            shown.add_column(str(count), justify="right", min_width=5)
        for (stage, model, loss), means in group.groupby(METHOD, sort=False):
            count = int(means["parameters"].max())
            name = f"{STAGES[str(stage)]} {named(str(model), str(loss))}"
            size = f"{count:,}" if count else "–"
            shown.add_row(escape(name), size, *_cells(means, days))
        tables.append(shown)
    return tables


def title(protocol: str, condition: str) -> str:
    """Return what a table of a protocol and a condition is headed."""
    which = "day 1 alone" if protocol == FIRST_DAY else "so many days before"
    return f"Learned from {which}; {CONDITIONS[condition]}"


def _cells(scores: pd.DataFrame, days: list[int]) -> list[str]:
    by_history = dict(zip(scores["history"], scores["accuracy"], strict=True))
    return [f"{by_history[day]:.1f}" if day in by_history else "" for day in days]
