"""Results of adaptation in use: each person on each stream, static and adapting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from myodistill.errors import Wanted
from myodistill.evaluation.results import named, read_rows
from myodistill.evaluation.statistics import intervals, wilcoxon_p
from myodistill.evaluation.streams import STREAMS

FILE = "adaptation.parquet"
STATIC = "static"
PARTS = tuple(f"part_{number}" for number in range(1, 11))
"""Accuracy in each tenth of a stream."""

_CASE = ["model", "loss", "k", "stream"]
_SCORES = ["accuracy", "balanced_accuracy", "false_activations", *PARTS]
_COLUMNS = {
    **dict.fromkeys(("model", "loss", "stream", "method", "subject"), "text"),
    **dict.fromkeys(("k", "fold", "seed", "windows"), "integer"),
    **dict.fromkeys(_SCORES, "number"),
}
_WANTED = Wanted("results of adaptation", advice="run `myodistill evaluate adaptation` again")


def read(path: Path) -> pd.DataFrame:
    """Read a table that ``myodistill evaluate adaptation`` wrote.

    Raises:
        DataError: The file is missing, is no such table, or names a stream that there is not.
    """
    frame = read_rows(path, _WANTED, _COLUMNS)
    if not set(frame["stream"]) <= set(STREAMS):
        _WANTED.refuse(path, "an unknown stream")
    return frame


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort a table: student, K, stream, method (static first), seed, fold, person."""
    ranks = {name: rank for rank, name in enumerate(STREAMS)}
    keyed = frame.assign(_stream=frame["stream"].map(ranks), _method=frame["method"] != STATIC)
    by = ["model", "loss", "k", "_stream", "_method", "method", "seed", "fold", "subject"]
    return keyed.sort_values(by, ignore_index=True).drop(columns=["_stream", "_method"])


def per_person(frame: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of seeds."""
    return frame.groupby([*_CASE, "method", "subject"], sort=False, as_index=False)[_SCORES].mean()


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Compare every method with the static student, person by person.

    Returns:
        A row for each student, K, stream and method: the mean ``static`` score in per cent (on the
        stream of rest balanced accuracy, on others accuracy); ``gain`` in points with its 95 %
        bootstrap interval ``low, high``; ``people``, and how many are ``better``; the ``worst``
        person's gain; Wilcoxon's ``p``, not corrected; gain in ``balanced`` accuracy; and false
        activations per minute of rest, ``false_static`` and ``false_adapting``.
    """
    rows = []
    for case, group in per_person(frame).groupby(_CASE, sort=False):
        metric = "balanced_accuracy" if case[3] == "rest" else "accuracy"
        by_method = {name: part.set_index("subject") for name, part in group.groupby("method")}
        static = by_method.pop(STATIC)
        for method, adapting in by_method.items():
            one = adapting.loc[static.index]
            gains = np.round(100 * (one[metric] - static[metric]).to_numpy(), 12)[:, None]
            low, high = intervals(gains)
            balanced = (one["balanced_accuracy"] - static["balanced_accuracy"]).mean()
            rows.append(
                {
                    **dict(zip(_CASE, case, strict=True)),
                    "method": method,
                    "static": 100 * static[metric].mean(),
                    "gain": gains.mean(),
                    "low": low[0],
                    "high": high[0],
                    "people": len(gains),
                    "better": int((gains > 0).sum()),
                    "worst": gains.min(),
                    "p": wilcoxon_p(gains)[0] if len(gains) > 1 else np.nan,
                    "balanced": 100 * balanced,
                    "false_static": static["false_activations"].mean(),
                    "false_adapting": one["false_activations"].mean(),
                }
            )
    return pd.DataFrame(rows)


HEADINGS = (
    *("K", "stream", "static", "gain [95 %]", "better", "worst", "p", "balanced"),
    "false activations a minute",
)


def tables(frame: pd.DataFrame) -> dict[str, list[tuple[str, ...]]]:
    """Return rows under :data:`HEADINGS` for each student and method, by what they are."""
    return {
        f"{named(str(model), str(loss))}: {method} against static": [
            (str(row["k"]), *_cells(row)) for _, row in group.iterrows()
        ]
        for (model, loss, method), group in summary(frame).groupby(
            ["model", "loss", "method"], sort=False
        )
    }


def markdown(frame: pd.DataFrame) -> str:
    """Write a table for each student and method."""
    parts = []
    for title, rows in tables(frame).items():
        lines = [HEADINGS, ("---:", "---", *["---:"] * (len(HEADINGS) - 2)), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"{title}\n\n{table}\n")
    return "\n".join(parts)


def render(frame: pd.DataFrame) -> list[Table]:
    """Lay the comparison out for a terminal of 80 columns: a table for each student and method."""
    made = []
    for title, rows in tables(frame).items():
        shown = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        shown.add_column(HEADINGS[0], justify="right")
        shown.add_column(HEADINGS[1], ratio=1)
        for name in HEADINGS[2:-1]:
            shown.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            shown.add_row(*row[:-1])
        made.append(shown)
    return made


def _cells(row: pd.Series) -> tuple[str, ...]:
    activations = f"{row['false_static']:.1f} → {row['false_adapting']:.1f}"
    return (
        str(row["stream"]),
        f"{row['static']:.1f}",
        f"{row['gain']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]",
        f"{row['better']}/{row['people']}",
        f"{row['worst']:+.1f}",
        "–" if np.isnan(row["p"]) else f"{row['p']:.2g}",
        f"{row['balanced']:+.1f}",
        "–" if np.isnan(row["false_static"]) else activations,
    )
