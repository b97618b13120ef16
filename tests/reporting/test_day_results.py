"""Tables and the figure of results over days."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from myodistill.errors import DataError
from myodistill.evaluation import day_results, results
from myodistill.reporting.figures.days import accuracy_over_days


def row(person: str, day: int, history: int, accuracy: float, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "long-term",
        "fold": 1,
        "subject": person,
        "stage": "pretrained_distilled",
        "model": "log-power-30k",
        "loss": "soft-target",
        "k": 0,
        "seed": 0,
        "accuracy": accuracy,
        "macro_f1": accuracy,
        "balanced_accuracy": accuracy,
        "calibration_error": 0.1,
        "windows": 100,
        "parameters": 29_614,
        "seconds": 1.0,
        "protocol": "latest days",
        "condition": "re-centred",
        "history": history,
        "day": day,
    } | changes


def frame() -> pd.DataFrame:
    """Person A has two days, B one: a mean over days would count A twice."""
    rows = [row("A", 3, 1, 0.5), row("A", 6, 1, 0.7), row("B", 3, 1, 0.9), row("A", 6, 5, 0.8)]
    control: dict[str, Any] = {"stage": "baseline", "model": "lda", "loss": "", "parameters": 0}
    return pd.DataFrame([*rows, *({**one, **control, "accuracy": 0.25} for one in rows)])


def test_means_are_over_days_then_people() -> None:
    means = day_results.summary(frame()).set_index(["stage", "history"])["accuracy"]
    assert means["pretrained_distilled", 1] == pytest.approx(75.0)  # of 60 and 90
    assert means["pretrained_distilled", 5] == pytest.approx(80.0)
    assert means["baseline", 1] == pytest.approx(25.0)
    lines = day_results.markdown(frame()).splitlines()
    assert any("| mean | 75.0 | 80.0 |" in line for line in lines)
    assert any("| B | 90.0 |  |" in line for line in lines)


def test_methods_on_different_days_are_refused() -> None:
    with pytest.raises(DataError, match="the same days of A, they differ at history 1"):
        day_results.summary(frame().iloc[1:])
    with pytest.raises(DataError, match="expected at least one score"):
        day_results.summary(frame().iloc[:0])


def test_a_table_fits_80_columns() -> None:
    wide = pd.DataFrame(
        [
            row("A", 30, history, 0.5, model="a-student-with-a-long-name+another")
            for history in (0, 1, 2, 5, 10, 20)
        ]
    )
    console = Console(width=80, record=True, file=StringIO())
    for table in day_results.render(wide):
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("50.0") == 6
    assert "…" not in text


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    results.write(frame().drop(columns="history"), path)
    with pytest.raises(DataError, match="results over days"):
        day_results.read(path)
    results.write(frame().assign(condition="guessed"), path)
    with pytest.raises(DataError, match="an unknown condition"):
        day_results.read(path)
    results.write(frame(), path)
    assert len(day_results.read(path)) == 8


def test_the_figure_has_a_panel_for_each_person_and_condition() -> None:
    blind = frame().assign(condition="no label")
    first = frame().assign(condition="first trial", k=1)
    picture = accuracy_over_days(pd.concat([frame(), blind, first]))
    panels = picture.figure.get_axes()
    assert [axes.get_title(loc="left") for axes in panels] == ["A", "B", "", ""]
    lines = {line.get_label(): line for line in panels[0].get_lines()}
    assert set(lines) == {"1 day of history", "5 days of history", "classical baseline"}
    assert np.asarray(lines["1 day of history"].get_xdata()).tolist() == [3, 6]
    assert np.asarray(lines["1 day of history"].get_ydata()).tolist() == [50.0, 70.0]
    assert len(picture.render("png")) > 10_000
