"""What a results table must be before anything is computed from it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from myodistill.errors import DataError, unknown_name
from myodistill.evaluation.results import METHOD, STAGES, named, ordered, summary
from myodistill.readers import is_leaking

METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
}
"""The scores of a results table, as they are written in prose."""

CLASSICAL = ("baseline",)
"""The stages of classical methods."""

STUDENTS = ("supervised", "pretrained", "distilled", "pretrained_distilled")
"""The stages whose model is meant for a wearable."""

_IDENTITY = ["subject", *METHOD, "k", "seed"]


def require_one_protocol(frame: pd.DataFrame, metric: str = "accuracy") -> None:
    """Refuse a table from which no honest mean can be taken.

    Raises:
        DataError: The table comes of splits that leak, is empty, mixes datasets or test windows,
            scores something twice, lacks a seed of some subject or a column that identifies rows,
            or holds a score that is no share from 0 to 1.
    """
    if is_leaking(frame.columns):
        raise DataError(
            "results: expected honest scores, got those of LEAKING splits; nothing may be computed "
            "of them beside others, read them as `myodistill evaluate leakage` wrote them"
        )
    if metric not in METRICS:
        raise DataError(unknown_name("metric", metric, METRICS))
    if len(frame) == 0:
        raise DataError(
            "results: expected at least one score, the table is empty; nothing can be computed, "
            "let the run finish a subject first"
        )
    for name in (*_IDENTITY, "dataset", "fold", "windows", "parameters"):
        if (absent := int(frame[name].isna().sum())) > 0:
            raise DataError(
                f"results: expected '{name}' in every row, {absent} of {len(frame)} have none; "
                f"nothing can be said of these, score them again"
            )
    datasets = sorted(frame["dataset"].unique())
    if len(datasets) > 1:
        raise DataError(
            f"results: expected one dataset, got {', '.join(datasets)}; a mean over several has "
            f"no meaning, make a report for each"
        )
    odd = sorted(set(frame["stage"]) - set(STAGES))
    if odd:
        raise DataError(unknown_name("stage", str(odd[0]), STAGES))
    _require_shares(frame, metric)
    _require_same_windows(frame)
    twice = frame[frame.duplicated(_IDENTITY)]
    if len(twice):
        raise DataError(
            f"results: expected each score once, got {_where(twice)} twice; "
            f"keep one of the runs, a mean would count it double"
        )
    _require_all_seeds(frame)


def _require_shares(frame: pd.DataFrame, metric: str) -> None:
    scores = frame[metric].to_numpy(dtype=float)
    bad = ~np.isfinite(scores)
    if bad.any():
        raise DataError(
            f"results: expected a score ({METRICS[metric]}) in every row, {bad.sum()} of "
            f"{len(frame)} have none (NaN or infinite), first {_where(frame[bad])}; "
            f"no mean or test can be computed, score these again"
        )
    bad = (scores < 0) | (scores > 1)
    if bad.any():
        raise DataError(
            f"results: expected the {METRICS[metric]} as a share from 0 to 1, got "
            f"{scores[bad][0]:g} for {_where(frame[bad])}; divide per cents by 100"
        )


def _require_same_windows(frame: pd.DataFrame) -> None:
    for what, advice in (
        ("windows", "the rows were scored on different test sets and cannot be compared"),
        ("fold", "scored in several folds, its teachers differ; keep one of them"),
    ):
        kinds = frame.groupby("subject")[what].agg(["nunique", "min", "max"])
        mixed = kinds[kinds["nunique"] > 1]
        if len(mixed):
            first = mixed.iloc[0]
            raise DataError(
                f"results: expected one protocol, {mixed.index[0]} has rows with {what} = "
                f"{first['min']} and {what} = {first['max']}; {advice}"
            )


def _require_all_seeds(frame: pd.DataFrame) -> None:
    keys = [*METHOD, "k"]
    seeds = frame.groupby([*keys, "subject"]).agg(had=("seed", "nunique")).reset_index()
    wanted = frame.groupby(keys).agg(wanted=("seed", "nunique")).reset_index()
    seeds = seeds.merge(wanted, on=keys)
    short = seeds[seeds["had"] < seeds["wanted"]]
    if len(short):
        row = short.iloc[0]
        raise DataError(
            f"results: expected {row['wanted']} seeds of {STAGES[row['stage']]} "
            f"{named(row['model'], row['loss'])} at K={row['k']} for every subject, "
            f"{row['subject']} has {row['had']}; finish the run or leave the odd seeds out"
        )


def _where(frame: pd.DataFrame) -> str:
    row = frame.iloc[0]
    return (
        f"{STAGES.get(row['stage'], row['stage'])} {named(row['model'], row['loss'])}, "
        f"{row['subject']}, "
        f"K={row['k']}, seed {row['seed']}"
    )


def method_name(stage: object, model: object, loss: object = "") -> str:
    """Return the name of a method as tables and figures print it."""
    return f"{STAGES[str(stage)]} · {named(str(model), str(loss))}"


def subject_scores(frame: pd.DataFrame, k: int, metric: str = "accuracy") -> pd.DataFrame:
    """Return the scores that paired comparisons are made of, seeds averaged, in per cent.

    Args:
        frame: A results table.
        k: Calibration repetitions.
        metric: One of :data:`METRICS`.

    Returns:
        A row for each subject, a column for each method in the order of ``STAGES``.

    Raises:
        DataError: The table is not of one protocol, has nothing at this K, or a method was not
            scored on every subject.
    """
    require_one_protocol(frame, metric)
    mine = frame[frame["k"] == k]
    if len(mine) == 0:
        known = ", ".join(str(value) for value in sorted(frame["k"].unique()))
        raise DataError(f"results: expected scores at K={k}, there are only K={known}")
    require_same_people(mine)
    by_method = mine.pivot_table(index=METHOD, columns="subject", values=metric)
    wide = ordered(by_method.reset_index(), METHOD).set_index(METHOD).T
    return 100 * wide.set_axis([method_name(*method) for method in wide.columns], axis=1)


def require_same_people(frame: pd.DataFrame) -> None:
    """Refuse to compare means or tests over different people.

    Raises:
        DataError: A method was not scored on every subject of the table at some K.
    """
    everybody = set(frame["subject"])
    for (*method, k), group in frame.groupby([*METHOD, "k"], sort=False):
        absent = sorted(everybody - set(group["subject"]))
        if absent:
            names = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
            raise DataError(
                f"results: expected every method on the same subjects, "
                f"{method_name(*method)} at K={k} is missing for {len(absent)} of "
                f"{len(everybody)} ({names}); means and paired tests over different people cannot "
                f"be compared, finish the run or leave this method out"
            )


def overview(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Return the summary of a table, without intervals (NaN) where one subject cannot give any.

    Columns as :func:`myodistill.evaluation.results.summary`.
    """
    means = summary(frame, metric)
    return means.assign(
        low=means["low"].where(means["subjects"] > 1),
        high=means["high"].where(means["subjects"] > 1),
    )


def at_chance(frame: pd.DataFrame, gestures: int) -> pd.DataFrame:
    """Return the methods that tell gestures apart no better than guessing does.

    Their balanced accuracy, averaged over subjects, exceeds the chance level of one in ``gestures``
    by less than a twentieth of the distance to 1, or by less than three standard deviations of
    guessing on as many windows (these overlap, hence the twentieth).

    Args:
        frame: A results table.
        gestures: How many there are to choose from, at least 2.

    Returns:
        A row for each method and K: its columns, ``k``, ``balanced_accuracy`` and ``chance``.
    """
    chance = 1 / gestures
    keys = [*METHOD, "k"]
    people = frame.groupby([*keys, "subject"], sort=False, as_index=False).agg(
        balanced_accuracy=("balanced_accuracy", "mean"), windows=("windows", "first")
    )
    methods = people.groupby(keys, sort=False, as_index=False).agg(
        balanced_accuracy=("balanced_accuracy", "mean"), windows=("windows", "sum")
    )
    guessing = np.sqrt(chance * (1 - chance) / methods["windows"].clip(lower=1))
    margin = np.maximum(0.05 * (1 - chance), 3 * guessing)
    stuck = methods[methods["balanced_accuracy"] <= chance + margin]
    table: pd.DataFrame = stuck.drop(columns="windows").assign(chance=chance)
    return table.reset_index(drop=True)


def usual_k(frame: pd.DataFrame) -> int:
    """Return the least K above 0 in a table, where teachers matter most."""
    if len(frame) == 0:
        raise DataError("results: expected at least one score, the table is empty")
    ks = sorted(int(k) for k in frame["k"].unique())
    return next((k for k in ks if k > 0), ks[0])
