"""Accuracy over a person's days: what history buys, and how long one day's calibration lasts."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from myodistill.evaluation.day_results import CONDITIONS, FIRST_DAY, PROTOCOLS, per_person
from myodistill.evaluation.results import METHOD, STAGES, named
from myodistill.reporting.figures.canvas import MARKS, PAGE, Picture, drawn, fitting

_HEIGHT = 1.5
_ROWS = {
    "no label": "nothing of the day",
    "re-centred": "re-centred",
    "re-centred, adapting": "re-centred,\nadapting",
    "first trial": "K=1",
    "first trial, adapting": "K=1, adapting",
}
_STUDENT = ("pretrained_distilled", "pretrained", "supervised")


@drawn
def accuracy_over_days(frame: pd.DataFrame) -> Picture:
    """The student's accuracy on each day: a column of panels for each person.

    The rows are what is known of the day; a line is a length of history. The last row learns from
    day 1 alone. The dashed grey line is the classical baseline, with the longest history that half
    of the days have.

    Args:
        frame: Results over days, see :mod:`myodistill.evaluation.day_results`.

    Raises:
        DataError: The table is empty, or methods were scored on different days.
    """
    means = per_person(frame)
    student = _student(means)
    people = list(dict.fromkeys(frame["subject"]))
    rows = _rows(frame)
    figure = Figure(figsize=(PAGE, 0.7 + _HEIGHT * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(people), sharex=True, sharey="row", squeeze=False)
    lengths = sorted({int(length) for length in frame["history"]})
    for (protocol, condition), line in zip(rows, panels, strict=True):
        here = frame[(frame["protocol"] == protocol) & (frame["condition"] == condition)]
        for axes, person in zip(line, people, strict=True):
            axes.grid(axis="y")
            _draw(axes, here[here["subject"] == person], student, protocol, lengths)
        which = "day 1 alone,\n" if protocol == FIRST_DAY else ""
        line[0].set_ylabel(f"{which}{_ROWS[condition]}\naccuracy (%)")
    for axes, person in zip(panels[0], people, strict=True):
        axes.set_title(fitting(person))
    for axes in panels[-1]:
        axes.set_xlabel("day")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _legend(figure, panels.ravel().tolist())
    name = named(*student[1:])
    kept = frame[(frame[METHOD] == list(student)).all(axis=1) | (frame["stage"] == "baseline")]
    best = means[(means[METHOD] == list(student)).all(axis=1)]["accuracy"].max()
    return Picture(
        "accuracy-over-days",
        "Accuracy over days",
        figure,
        kept,
        f"Line plots of accuracy against the day for {len(people)} people, a line for each number "
        f"of days of history; the best mean of a person is {100 * best:.1f} %.",
        f"{STAGES[student[0]]} ({name}); rows: "
        + "; ".join(
            f"{' '.join(_ROWS[condition].split())}: {text}"
            for condition, text in CONDITIONS.items()
            if condition in {shown for _, shown in rows}
        )
        + ". History of 0 days is the day's first trial alone; the classical baseline has the "
        "longest history that half of the days have.",
    )


def _student(means: pd.DataFrame) -> tuple[str, str, str]:
    """Return the student that is drawn: distilled if there is one, the best of its kind."""
    for stage in (*_STUDENT, "baseline"):
        of_stage = means[means["stage"] == stage]
        if len(of_stage):
            break
    ranking = of_stage.groupby(METHOD[1:], as_index=False)["accuracy"].mean()
    best = ranking.loc[ranking["accuracy"].idxmax()]
    return stage, str(best["model"]), str(best["loss"])


def _rows(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return protocol and condition of each row; no label only where nothing else is there."""
    there = set(zip(frame["protocol"], frame["condition"], strict=True))
    every = [(p, c) for p in PROTOCOLS for c in CONDITIONS if (p, c) in there]
    return [one for one in every if one[1] != "no label" or (one[0], "re-centred") not in there]


def _draw(
    axes: Axes,
    here: pd.DataFrame,
    student: tuple[str, str, str],
    protocol: str,
    lengths: Sequence[int],
) -> None:
    """Draw one person's lines under one condition."""
    baseline = here[here["stage"] == "baseline"]
    if len(baseline):
        days = baseline.groupby("history")["day"].nunique()
        top = days[days >= baseline["day"].nunique() / 2].index.max()
        rows = baseline[baseline["history"] == top]
        _line(axes, rows, MARKS["baseline"].colour, "--", label="classical baseline")
    for history in sorted(here["history"].unique()):
        of_history = here[here["history"] == history]
        mine = of_history[(of_history[METHOD] == list(student)).all(axis=1)]
        if history == 0:
            mine = of_history[of_history["stage"] == "supervised"]
        rank = lengths.index(history) / max(len(lengths) - 1, 1)
        shade = mpl.colormaps["viridis"](0.92 - 0.87 * rank)
        colour = MARKS["pretrained_distilled"].colour if protocol == FIRST_DAY else shade
        label = "" if protocol == FIRST_DAY else f"{history} days of history"
        label = label.replace("1 days", "1 day") if history == 1 else label
        _line(axes, mine, colour, "-" if history else ":", label=label)


def _line(axes: Axes, rows: pd.DataFrame, colour: object, style: str, *, label: str) -> None:
    scores = 100 * rows.groupby("day")["accuracy"].mean()
    marker = "o" if style != "--" else ""
    axes.plot(
        scores.index,
        scores.to_numpy(),
        color=colour,
        linestyle=style,
        marker=marker,
        markersize=2.5,
        linewidth=1.1,
        label=label or "day 1 alone",
    )


def _legend(figure: Figure, panels: list[Axes]) -> None:
    """One legend for all panels, each label once, in the order of the history."""
    found: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    order = sorted(found, key=lambda label: (not label[0].isdigit(), int(_digits(label))))
    figure.legend([found[label] for label in order], order, loc="outside lower center", ncols=4)


def _digits(label: str) -> str:
    return label.split()[0] if label[0].isdigit() else "0"
