"""Person by person: how much calibration buys, and whom distillation helps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from myodistill.errors import DataError
from myodistill.evaluation.protocol import (
    METRICS,
    method_name,
    overview,
    require_one_protocol,
    require_same_people,
    subject_scores,
)
from myodistill.evaluation.results import METHOD, interval
from myodistill.reporting.figures.canvas import COLUMN, INK, MARKS, PAGE, Picture, drawn
from myodistill.reporting.headline import ALONE, cast, leading, method_of

_LINES_FIT = 9
_STEPS, _COLUMNS = ("teacher", "control", "student"), ("teacher", "no_teacher", "distilled")


@drawn
def accuracy_by_k(
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
        kept = {method_name(*method) for k in ks for method in leading(means, k)}
        kinds = {g[1] for g in groups} - {g[1] for g in groups if g[0] in kept}
        kept |= {max((g for g in groups if g[1] == s), key=_mean)[0] for s in kinds}
        groups = [g for g in groups if g[0] in kept]
    groups.sort(key=lambda entry: tuple(-entry[2][["k", "mean"]].iloc[-1]))
    used: dict[str, int] = {}
    for index, (name, stage, group) in enumerate(groups):
        mark = MARKS[stage]
        used[stage] = used.get(stage, 0) + 1
        axes.errorbar(
            group["k"]
            + min(0.025, 0.25 / len(groups))
            * (index - (len(groups) - 1) / 2),  # so that bars do not hide bars
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
            f" Of {methods} methods those of the headlines and the best of any other kind are "
            f"drawn; the data hold all."
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
        teacher: Name of the model; the best one of each K if not given.
        student: Name of the model; the best distilled one of each K if not given.
        metric: One of the scores of the table.

    Raises:
        DataError: The table is bad or of one subject, or there is no K at which teacher,
            undistilled and distilled student were all scored.
    """
    require_one_protocol(frame, metric)
    require_same_people(frame)
    means = overview(frame, metric)
    if frame["subject"].nunique() < 2:
        raise DataError(
            "paired slopes: expected at least 2 subjects to see whom distillation helps, got 1"
        )
    casts = {}
    for k in sorted(int(k) for k in means["k"].unique()):
        roles = cast(means, k, distilled=True, teacher=teacher, student=student)
        if set(_STEPS) <= set(roles):
            casts[k] = [method_of(roles[role]) for role in _STEPS]
    if not casts:
        whom = f"a distilled student{f' {student!r}' if student else ''}"
        raise DataError(
            f"paired slopes: expected a K with {whom}, the same student without a teacher and a "
            f"teacher{f' {teacher!r}' if teacher else ''}, there is none"
        )
    tables = {
        k: subject_scores(frame, k, metric)[[method_name(*method) for method in methods]]
        for k, methods in casts.items()
    }
    figure = Figure(figsize=(COLUMN if len(tables) == 1 else PAGE, 2.6), layout="constrained")
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    rows, sentences = [], []
    for axes, (k, scores) in zip(panels, tables.items(), strict=True):
        axes.grid(axis="y")
        values = scores.to_numpy()
        gain = values[:, 2] - values[:, 1]
        for line, up in zip(values, gain > 0, strict=True):
            axes.plot(
                range(3),
                line,
                color="#9aa1ab" if up else MARKS["distilled"].colour,
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
        steps = ("teacher", "no teacher", "distilled")
        axes.set_xticks(range(3), [f"{n}\n{m:.1f} %" for n, m in zip(steps, middle, strict=True)])
        axes.set_title(f"K={k}: {(gain > 0).sum()} of {len(gain)} gain")
        sentences.append(f"at K={k} {(gain > 0).sum()} of {len(gain)} subjects gain")
        named = {f"of_{role}": str(name) for role, name in zip(_COLUMNS, scores, strict=True)}
        rows.append(scores.set_axis([*_COLUMNS], axis=1).assign(k=k, **named))
    panels[0].set_ylabel(f"{METRICS[metric]} (%)")
    drawn_at: dict[str, list[str]] = {}
    for k, scores in tables.items():
        drawn_at.setdefault(" – ".join(map(str, scores)), []).append(str(k))
    who = "; ".join(f"K={', '.join(ks)}: {names}" for names, ks in drawn_at.items())
    beaten = [str(k) for k in tables if cast(means, k)["student"]["stage"] not in ALONE]
    return Picture(
        "paired-slopes",
        "Whom distillation helps",
        figure,
        pd.concat(rows).reset_index(),
        f"A line for each subject from the teacher to a student without a teacher to the same "
        f"student distilled; {', '.join(sentences)} by distillation.",
        f"From left to right: {who}. Thin lines are subjects, dashed where distillation lost; the "
        f"thick line is their mean with its 95 % interval."
        + (
            f" At K={', '.join(beaten)} the best student is one without a teacher; the best "
            f"distilled one is drawn."
            if beaten and student is None
            else ""
        ),
    )


def _mean(group: tuple[str, str, pd.DataFrame]) -> float:
    return float(group[2]["mean"].mean())
