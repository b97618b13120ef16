"""Person by person: how much calibration buys, and whom distillation helps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from myodistill.errors import DataError
from myodistill.evaluation.figures.canvas import COLUMN, INK, MARKS, PAGE, Picture, drawn
from myodistill.evaluation.protocol import (
    METRICS,
    method_name,
    overview,
    require_one_protocol,
    require_same_people,
    subject_scores,
)
from myodistill.evaluation.results import METHOD, interval

_LINES_FIT = 9


@drawn
def calibration_curve(
    frame: pd.DataFrame, seconds: float | None = None, *, metric: str = "accuracy"
) -> Picture:
    """Accuracy against calibration repetitions, with 95 % intervals.

    Args:
        frame: A results table.
        seconds: Length of one calibration repetition of all gestures; adds a scale in seconds.
        metric: One of the scores of the table.

    Raises:
        DataError: The table is bad, or has a single K.
    """
    require_one_protocol(frame, metric)
    require_same_people(frame)
    means = overview(frame, metric)
    ks = sorted(int(k) for k in means["k"].unique())
    if len(ks) < 2:
        raise DataError(
            f"calibration curve: expected at least 2 values of K, got only K={ks[0]}; "
            f"run with --k 1,2,4"
        )
    figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y")
    groups = [
        (method_name(*method), str(method[0]), group)
        for method, group in means.groupby(METHOD, sort=False)
    ]
    methods = len(groups)
    if methods > _LINES_FIT:
        groups = [
            max((g for g in groups if g[1] == s), key=_mean) for s in {g[1]: 0 for g in groups}
        ]
    groups.sort(key=lambda entry: tuple(-entry[2][["k", "mean"]].iloc[-1]))
    used: dict[str, int] = {}
    for place, (name, stage, group) in enumerate(groups):
        mark = MARKS[stage]
        used[stage] = used.get(stage, 0) + 1
        axes.errorbar(
            group["k"]
            + min(0.025, 0.25 / len(groups))
            * (place - (len(groups) - 1) / 2),  # so that bars do not hide bars
            group["mean"],
            [group["mean"] - group["low"], group["high"] - group["mean"]],
            color=mark.colour,
            marker=mark.marker,
            linestyle=mark.line,
            markerfacecolor=mark.colour if used[stage] == 1 else "white",
            elinewidth=0.7,
            capsize=1.5,
            capthick=0.7,
            label=name,
        )
    axes.set_xticks(ks)
    axes.set_xlabel("calibration repetitions (K)")
    axes.set_ylabel(f"{METRICS[metric]} (%)")
    if seconds is not None:
        top = axes.secondary_xaxis(
            "top", functions=(partial(np.multiply, seconds), partial(np.multiply, 1 / seconds))
        )
        top.set_xticks([k * seconds for k in ks], [f"{k * seconds:.0f}" for k in ks])
        top.set_xlabel("seconds of calibration data")
    figure.legend(loc="outside right center", title="best at the largest K first", alignment="left")
    people = frame["subject"].nunique()
    return Picture(
        "calibration-curve",
        "Accuracy against calibration",
        figure,
        means.assign(seconds=means["k"] * seconds) if seconds else means,
        f"Line plot of {METRICS[metric]} against K={', '.join(map(str, ks))} for {len(groups)} "
        f"methods; at K={ks[-1]} the best, {groups[0][0]}, has"
        f" {groups[0][2]['mean'].iloc[-1]:.1f} %.",
        (
            f"Mean of {people} subjects with 95 % bootstrap intervals; points stand apart sideways."
            if people > 1
            else "One subject, so there are no intervals."
        )
        + (
            f" Of {methods} methods the best of each kind is drawn, the data hold all."
            if len(groups) < methods
            else ""
        ),
    )


@drawn
def paired_slopes(
    frame: pd.DataFrame,
    *,
    teacher: str | None = None,
    student: str | None = None,
    metric: str = "accuracy",
) -> Picture:
    """Each subject from the teacher to the student without and with it, a panel for each K.

    Args:
        frame: A results table.
        teacher: Name of the model; the best one if not given.
        student: Name of the model; the one that is best distilled if not given.
        metric: One of the scores of the table.

    Raises:
        DataError: The table is bad, or there is no K at which teacher, undistilled and distilled
            student were all scored.
    """
    require_one_protocol(frame, metric)
    means = overview(frame, metric)
    if frame["subject"].nunique() < 2:
        raise DataError(
            "paired slopes: expected at least 2 subjects to see whom distillation helps, got 1"
        )
    teacher, _ = _best(means, "finetune", "a teacher", teacher)
    student, loss = _best(means, "distill", "a distilled student", student)
    steps = [("finetune", teacher, ""), ("scratch", student, ""), ("distill", student, loss)]
    names = [method_name(*step) for step in steps]
    mine = frame[_any_of(frame, steps)]
    scored = mine.groupby("k")["stage"].nunique()
    tables = {
        k: subject_scores(mine, k, metric)[names]
        for k in sorted(int(k) for k in scored.index[scored == len(steps)])
    }
    if not tables:
        raise DataError(
            f"paired slopes: expected a K with all of {', '.join(names)}, there is none; "
            f"run the student with and without a teacher"
        )
    figure = Figure(figsize=(COLUMN if len(tables) == 1 else PAGE, 2.6), layout="constrained")
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    rows, said = [], []
    for axes, (k, scores) in zip(panels, tables.items(), strict=True):
        axes.grid(axis="y")
        values = scores.to_numpy()
        gain = values[:, 2] - values[:, 1]
        for line, up in zip(values, gain > 0, strict=True):
            axes.plot(
                range(3),
                line,
                color="#9aa1ab" if up else MARKS["distill"].colour,
                linewidth=0.7,
                linestyle="-" if up else (0, (2, 1.2)),
                zorder=1,
            )
        middle = values.mean(axis=0)
        bounds = np.array([interval(column) for column in values.T]).T
        axes.errorbar(
            range(3),
            middle,
            np.abs(bounds - middle),
            color=INK,
            marker="o",
            linewidth=1.8,
            elinewidth=1.0,
            capsize=2.5,
            zorder=3,
        )
        axes.set_xlim(-0.3, 2.3)
        places = ("teacher", "no teacher", "distilled")
        axes.set_xticks(range(3), [f"{n}\n{m:.1f} %" for n, m in zip(places, middle, strict=True)])
        axes.set_title(f"K={k}: {(gain > 0).sum()} of {len(gain)} gain")
        said.append(f"at K={k} {(gain > 0).sum()} of {len(gain)} subjects gain")
        rows.append(scores.set_axis(["teacher", "no_teacher", "distilled"], axis=1).assign(k=k))
    panels[0].set_ylabel(f"{METRICS[metric]} (%)")
    return Picture(
        "paired-slopes",
        "Whom distillation helps",
        figure,
        pd.concat(rows).reset_index(),
        f"A line for each subject from teacher {teacher} to student {student} without a teacher to "
        f"the same student distilled; {', '.join(said)} by distillation.",
        f"Teacher {teacher}, student {student}. Thin lines are subjects, dashed where distillation "
        f"lost; the thick line is their mean with its 95 % interval.",
    )


def _mean(group: tuple[str, str, pd.DataFrame]) -> float:
    return float(group[2]["mean"].mean())


def _any_of(frame: pd.DataFrame, steps: list[tuple[str, str, str]]) -> pd.Series[bool]:
    methods = frame[METHOD].itertuples(index=False, name=None)
    return pd.Series([method in steps for method in methods], index=frame.index)


def _best(means: pd.DataFrame, stage: str, what: str, model: str | None) -> tuple[str, str]:
    """Return the model of a stage, or the best one, and the loss that it did best with."""
    mine = means[means["stage"] == stage]
    if len(mine) == 0:
        raise DataError(f"paired slopes: expected {what}, the results have none")
    if model is not None:
        mine = mine[mine["model"] == model]
        if len(mine) == 0:
            raise DataError(f"paired slopes: expected {what} '{model}', the results have none")
    over_k = mine.groupby(["model", "loss"])["mean"].mean().nlargest(1).reset_index()
    return str(over_k["model"].iloc[0]), str(over_k["loss"].iloc[0])
