"""Scores of splits that leak, beside two honest ones: for teaching, and never for comparison.

Nothing here is a results table: every column of scores and every file begins with ``LEAKING``, and
what reads results refuses such a table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from myodistill.errors import Wanted
from myodistill.evaluation.statistics import intervals
from myodistill.files import LEAKING
from myodistill.readers import read_parquet

FILE = f"{LEAKING}-scores.parquet"
TABLE = f"{LEAKING}-table.md"
ACCURACY, BALANCED = f"{LEAKING}_accuracy", f"{LEAKING}_balanced_accuracy"

SPLITS = {
    "protocol": "K repetitions of one session train, whole other sessions are scored",
    "repetition": "whole repetitions of a session are scored, others of the same session train",
    "random-windows": "a person's windows are shuffled, overlapping ones to both sides",
    "subject": "other people's windows train, one unlabelled repetition re-centres",
    "pooled-windows": "everybody's windows are shuffled together, overlapping ones to both sides",
}
"""What each split does; all score windows of the test sessions."""

HONEST = {"repetition": "protocol", "random-windows": "protocol", "pooled-windows": "subject"}
"""The honest split beside which each leaking one stands."""

_SCORES = [ACCURACY, BALANCED]
_COLUMNS = {
    **dict.fromkeys(("dataset", "subject", "split", "method", "guard"), "text"),
    **dict.fromkeys(("k", "seed", "trained", "windows"), "integer"),
    **dict.fromkeys(_SCORES, "number"),
}
_WANTED = Wanted(f"scores of {LEAKING} splits", advice="run `myodistill evaluate leakage` again")


def read(path: Path) -> pd.DataFrame:
    """Read what ``myodistill evaluate leakage`` wrote.

    A row for each person, split and method: ``trained`` and ``windows`` are how many windows
    trained and were scored, ``guard`` says whether an honest run would have refused the split.

    Raises:
        DataError: The file is missing, is no such table, or names a split that there is not.
    """
    frame = read_parquet(path, _WANTED, columns=_COLUMNS)
    if not set(frame["split"]) <= set(SPLITS):
        _WANTED.refuse(path, "an unknown split")
    return frame


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort a table by split, in the order of :data:`SPLITS`; else rows stay in their order."""
    ranks = {name: rank for rank, name in enumerate(SPLITS)}
    return frame.sort_values(
        "split", key=lambda column: column.map(ranks), kind="stable", ignore_index=True
    )


def summary(frame: pd.DataFrame, metric: str = ACCURACY) -> pd.DataFrame:
    """Average over people, and compare every leaking split with the honest one, person by person.

    Returns:
        A row for each method and split. In per cent: ``mean`` with its 95 % bootstrap interval
        ``low, high`` over people, and the ``worst`` person's score. In points: ``flatters``, by how
        much the split lies above the honest one, with ``flatters_low, flatters_high``. NaN where
        there is nothing to compare with, or one person.
    """
    rows = []
    for method, of_method in frame.groupby("method", sort=False):
        scores = 100 * of_method.pivot_table(index="subject", columns="split", values=metric)
        for split in (name for name in SPLITS if name in scores):
            mine = scores[split].to_numpy()
            low, high = _interval(mine)
            honest = HONEST.get(split)
            gaps = mine - scores[honest].to_numpy() if honest in scores else np.array([np.nan])
            gap_low, gap_high = _interval(gaps)
            rows.append(
                {
                    "method": method,
                    "split": split,
                    "mean": mine.mean(),
                    "low": low,
                    "high": high,
                    "worst": mine.min(),
                    "flatters": gaps.mean(),
                    "flatters_low": gap_low,
                    "flatters_high": gap_high,
                    "people": len(mine),
                }
            )
    return pd.DataFrame(rows)


def _interval(scores: np.ndarray) -> tuple[float, float]:
    if len(scores) < 2:
        return np.nan, np.nan
    low, high = intervals(scores[:, None])
    return float(low[0]), float(high[0])


def stamped(split: str) -> str:
    """Return a split's name as tables and figures print it."""
    return f"{LEAKING} {split}" if split in HONEST else f"honest {split}"


def title(frame: pd.DataFrame) -> str:
    """Return what a table or a figure of these scores is headed."""
    return (
        f"{LEAKING} splits beside honest ones: {frame['dataset'].iloc[0]}, accuracy in % of "
        f"{frame['subject'].nunique()} people, K={frame['k'].iloc[0]}"
    )


def markdown(frame: pd.DataFrame) -> str:
    """Write what the splits give, what they flatter by, and what they are."""
    cells = _cells(frame)
    parts = [
        title(frame),
        f"Mean [95 % interval over people], worst person.\n\n{_table(cells['scores'])}",
        f"Points above the honest split [95 %].\n\n{_table(cells['flatters'])}",
        "".join(
            f"- {stamped(split)}: {SPLITS[split]}; the guard of honest runs {guard} it\n"
            for split, guard in ordered(frame)[["split", "guard"]].drop_duplicates().to_numpy()
        ),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def render(frame: pd.DataFrame) -> list[Table]:
    """Lay the scores and what they flatter by out for a terminal of 80 columns."""
    made = []
    heads = {"scores": title(frame), "flatters": f"{LEAKING}: points above the honest split"}
    for name, rows in _cells(frame, short=True).items():
        shown = Table(
            title=heads[name],
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            min_width=min(len(heads[name]), 80),
        )
        for number, head in enumerate(rows[0]):
            lines = head.replace(" ", "\n").replace("-", "-\n")
            shown.add_column(lines, justify="right" if number else "left", no_wrap=True)
        for row in rows[1:]:
            shown.add_row(*row)
        made.append(shown)
    return made


def _cells(frame: pd.DataFrame, *, short: bool = False) -> dict[str, list[list[str]]]:
    """Return the two tables, a head first: a row for each method, a column for each split."""
    means = summary(frame).set_index(["method", "split"])
    splits = [name for name in SPLITS if name in set(frame["split"])]
    leaking = [name for name in splits if name in HONEST]
    scores = [["method", *map(stamped, splits)]]
    gaps = [["method", *map(stamped, leaking)]]
    for method in dict.fromkeys(frame["method"]):
        rows = {split: means.loc[(method, split)] for split in splits}
        scores.append([method, *(_score(rows[split], short=short) for split in splits)])
        gaps.append([method, *(_gap(rows[split], short=short) for split in leaking)])
    return {"scores": scores, "flatters": gaps} if leaking else {"scores": scores}


def _score(row: pd.Series, *, short: bool) -> str:
    interval = "" if short or np.isnan(row["low"]) else f" [{row['low']:.1f}, {row['high']:.1f}]"
    return f"{row['mean']:.1f}{interval}, {row['worst']:.1f}"


def _gap(row: pd.Series, *, short: bool) -> str:
    if np.isnan(row["flatters_low"]) or short:
        return f"{row['flatters']:+.1f}"
    low, high = row["flatters_low"], row["flatters_high"]
    return f"{row['flatters']:+.1f} [{low:+.1f}, {high:+.1f}]"


def _table(rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
