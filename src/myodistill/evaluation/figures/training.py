"""How training went."""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from myodistill.errors import DataError
from myodistill.evaluation.figures.canvas import COLUMN, MARKS, PAGE, Mark, Picture, drawn
from myodistill.evaluation.results import STAGES

COLUMNS = ("run", "stage", "measure", "epoch", "value")


@drawn
def training_curves(histories: pd.DataFrame) -> Picture:
    """Loss and validation score over epochs: median and middle half of the runs of each stage.

    Args:
        histories: Columns ``run, stage, measure, epoch, value``, one row for each epoch of each
            measure of each run.

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
    measures = sorted(histories["measure"].unique(), key=lambda m: (m != "loss", m))[:3]
    columns = 1 if len(measures) == 1 else 3
    rows_of_names = -(-histories["stage"].nunique() // columns)
    wide = COLUMN if len(measures) == 1 else PAGE
    figure = Figure(figsize=(wide, 2.2 + 0.14 * rows_of_names), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    rows = []
    for axes, measure in zip(panels, measures, strict=True):
        axes.grid(axis="y")
        mine = histories[histories["measure"] == measure]
        for stage, group in sorted(mine.groupby("stage"), key=_place):
            mark = MARKS.get(str(stage), Mark("#6b7280", ""))
            values = group.groupby("epoch")["value"]
            low, middle, high = (values.quantile(q) for q in (0.25, 0.5, 0.75))
            name = STAGES.get(str(stage), str(stage))
            runs = group["run"].nunique()
            axes.plot(
                middle.index,
                middle,
                color=mark.colour,
                linestyle=mark.line,
                label=f"{name} ({runs} run{'s' if runs > 1 else ''})",
            )
            axes.fill_between(middle.index, low, high, color=mark.colour, alpha=0.18, linewidth=0)
            rows.append(
                pd.DataFrame(
                    {
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
        f"Curves of {' and '.join(map(str, measures))} over epochs for {stages}.",
        "Median of the runs of each stage; the band is their middle half.",
    )


def _place(group: tuple[object, pd.DataFrame]) -> int:
    return list(STAGES).index(str(group[0])) if group[0] in STAGES else len(STAGES)
