"""Results as rows of the report's tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from myodistill.errors import DataError
from myodistill.evaluation.event_metrics import EVENT_COLUMNS, mean_events, rule_name
from myodistill.evaluation.protocol import method_name, subject_scores
from myodistill.evaluation.results import METHOD, STAGES, named, ordered
from myodistill.evaluation.statistics import compare
from myodistill.reporting.headline import ALONE, headline


def compared(frame: pd.DataFrame, ks: list[int]) -> tuple[dict[int, pd.DataFrame], list[str]]:
    """Compare all methods at each K; state in words at which K that is impossible, and why."""
    comparisons: dict[int, pd.DataFrame] = {}
    reasons: dict[str, list[str]] = {}
    for k in ks:
        try:
            comparisons[k] = compare(subject_scores(frame, k))
        except DataError as error:
            reasons.setdefault(str(error), []).append(str(k))
    return comparisons, [f"K={', '.join(at)}: {reason}." for reason, at in reasons.items()]


def key_pairs(tests: dict[int, pd.DataFrame], means: pd.DataFrame) -> list[dict[str, Any]]:
    """Each distilled student against its control, and the best against teacher and baseline."""
    rows = []
    for k, comparisons in tests.items():
        here = means.loc[means["k"] == k, METHOD].itertuples(index=False)
        wanted = {
            frozenset((method_name(stage, model, loss), method_name(ALONE[stage], model)))
            for stage, model, loss in here
            if stage in ALONE
        }
        best = headline(means, k, None)
        if best is not None:
            student = method_name(best.stage, best.model, best.loss)
            wanted |= {frozenset((student, other.name)) for other in best.versus}
        rows += [
            _oriented(row, k)
            for row in comparisons.to_dict("records")
            if frozenset((row["first"], row["second"])) in wanted
        ]
    return rows


def all_pairs(tests: dict[int, pd.DataFrame]) -> list[dict[str, Any]]:
    """Every comparison at every K."""
    return [
        _oriented(row, k)
        for k, comparisons in tests.items()
        for row in comparisons.to_dict("records")
    ]


def _oriented(row: dict[Any, Any], k: int) -> dict[str, Any]:
    """Put the later stage first, so that plus means a gain by what was added."""
    turned = {name: -row[name] for name in ("difference", "rank_biserial", "cohens_d")}
    turned |= {"low": -row["high"], "high": -row["low"], "k": k}
    return row | turned | {"first": row["second"], "second": row["first"]}


def score_table(
    means: pd.DataFrame, ks: list[int], *, lowest: bool = False
) -> list[dict[str, Any]]:
    """Means of every method, a cell for each K; the best of those on everybody are marked.

    Args:
        means: What :func:`myodistill.evaluation.protocol.overview` returned.
        ks: Of the columns.
        lowest: Whether less is better.
    """
    everybody = means[means["subjects"] == means["subjects"].max()]
    best = everybody.groupby("k")["mean"].agg("min" if lowest else "max")
    rows = []
    for (stage, model, loss), group in means.groupby(METHOD, sort=False):
        cells: dict[int, dict[Any, Any]] = {}
        for cell in group.to_dict("records"):
            if cell["subjects"] < 2:
                cell["low"] = cell["high"] = None
            if not pd.isna(cell["mean"]):
                cells[cell["k"]] = cell | {"best": cell["mean"] == best.get(cell["k"])}
        rows.append(
            {
                "stage": stage,
                "method": STAGES[str(stage)],
                "model": named(str(model), str(loss)),
                "parameters": int(group["parameters"].iloc[0]),
                "cells": [cells.get(k) for k in ks],
            }
        )
    return rows


def event_rows(events: pd.DataFrame, k: int) -> list[dict[str, Any]]:
    """Event metrics of every method at one K, a row for each way to decide.

    Args:
        events: Of a run, see :func:`myodistill.evaluation.event_metrics.mean_events`.
        k: Calibration repetitions.
    """
    return [
        {
            "stage": row["stage"],
            "method": STAGES[str(row["stage"])],
            "model": named(str(row["model"]), str(row["loss"])),
            "rule": rule_name(int(row["votes"]), float(row["threshold"])),
            "cells": [None if pd.isna(row[name]) else float(row[name]) for name in EVENT_COLUMNS],
        }
        for row in mean_events(events[events["k"] == k]).to_dict("records")
    ]


def session_table(sessions: pd.DataFrame, k: int) -> list[dict[str, Any]]:
    """Accuracy of every method in each test session at one K, in per cent.

    Args:
        sessions: Of a run: the columns of a method, ``k, seed, subject, session, accuracy``.
        k: Calibration repetitions.

    Returns:
        A row for each method; its ``cells`` are in the order of the sessions' names.
    """
    mine = sessions[sessions["k"] == k]
    people = mine.groupby([*METHOD, "subject", "session"], as_index=False)["accuracy"].mean()
    means = 100 * people.pivot_table("accuracy", METHOD, "session")
    return [
        {
            "stage": stage,
            "method": STAGES[stage],
            "model": named(model, loss),
            "cells": [None if pd.isna(value) else float(value) for value in values],
        }
        for stage, model, loss, *values in ordered(means.reset_index(), METHOD).to_numpy()
    ]
