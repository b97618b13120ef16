"""How training went."""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from myodistill.errors import DataError
from myodistill.evaluation.results import STAGES
from myodistill.reporting.figures.canvas import COLUMN, MARKS, PAGE, Mark, Picture, drawn

COLUMNS = ("run", "phase", "stage", "measure", "epoch", "value")
_ORDER = ("loss", "validation", "task_loss", "kd_loss", "feature_loss")


@drawn
def training_curves(histories: pd.DataFrame) -> Picture:
    """Losses and validation score over epochs: median and middle half of the runs of each stage.

    Args:
        histories: Columns ``run, phase, stage, measure, epoch, value``, one row for each epoch of
            each measure of each run; each measure and phase has a panel, up to nine.

    Raises:
        DataError: There is no row, a column is missing, or a value is not finite.
    """
    absent = [name for name in COLUMNS if name not in histories.columns]
    if absent:
        raise DataError(f"training curves: expected columns {', '.join(COLUMNS)}; no {absent[0]}")
    if len(histories) == 0:
        raise DataError(
            "training curves: expected the epochs of at least one run in TensorBoard logs, got none"
        )
    finite = histories[histories["value"].abs() < float("inf")]
    if len(finite) < len(histories):
        row = histories.drop(finite.index).iloc[0]
        raise DataError(
            f"training curves: expected finite values, {row['measure']} of {row['run']} is "
            f"{row['value']} in epoch {row['epoch']}; that training diverged"
        )
    measured = histories[["measure", "phase"]].drop_duplicates().itertuples(index=False, name=None)
    shown: list[tuple[str, str]] = sorted(measured, key=_panel)[:9]
    rows_of_panels = -(-len(shown) // 3)
    columns = 1 if len(shown) == 1 else 3
    rows_of_names = -(-histories["stage"].nunique() // columns)
    wide = COLUMN if len(shown) == 1 else PAGE
    figure = Figure(
        figsize=(wide, 2.3 * rows_of_panels + 0.14 * rows_of_names), layout="constrained"
    )
    grid = figure.subplots(rows_of_panels, min(len(shown), 3), squeeze=False).ravel()
    panels = grid[: len(shown)]
    for empty in grid[len(shown) :]:
        empty.set_axis_off()
    rows = []
    for axes, (measure, phase) in zip(panels, shown, strict=True):
        axes.grid(axis="y")
        axes.set_title(phase)
        mine = histories[(histories["measure"] == measure) & (histories["phase"] == phase)]
        if measure.endswith("loss") and (mine["value"] > 0).all():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        for stage, group in sorted(mine.groupby("stage"), key=_place):
            mark = MARKS.get(str(stage), Mark("#6b7280", ""))
            values = group.groupby("epoch")["value"]
            low, middle, high = (values.quantile(q) for q in (0.25, 0.5, 0.75))
            name = STAGES.get(str(stage), str(stage))
            runs = group["run"].nunique()
            axes.plot(middle.index, middle, color=mark.colour, linestyle=mark.line, label=name)
            axes.fill_between(middle.index, low, high, color=mark.colour, alpha=0.18, linewidth=0)
            rows.append(
                pd.DataFrame(
                    {
                        "phase": phase,
                        "stage": stage,
                        "measure": measure,
                        "epoch": middle.index,
                        "low": low.to_numpy(),
                        "median": middle.to_numpy(),
                        "high": high.to_numpy(),
                        "runs": runs,
                    }
                )
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(str(measure))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    entries: dict[str, Artist] = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        entries.update(zip(names, handles, strict=True))
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)
    stages = ", ".join(STAGES.get(str(s), str(s)) for s in histories["stage"].unique())
    return Picture(
        "training-curves",
        "How training went",
        figure,
        pd.concat(rows),
        f"Curves of {' and '.join({measure: 0 for measure, _ in shown})} over epochs for {stages}.",
        "Median of the runs of each stage; the band is their middle half.",
    )


def _panel(panel: tuple[str, str]) -> tuple[int, str, str]:
    measure, phase = panel
    return _ORDER.index(measure) if measure in _ORDER else len(_ORDER), measure, phase


def _place(group: tuple[object, pd.DataFrame]) -> int:
    return list(STAGES).index(str(group[0])) if group[0] in STAGES else len(STAGES)
