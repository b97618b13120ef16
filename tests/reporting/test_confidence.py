"""Figures over the predictions of each window agree with the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from myodistill.errors import DataError
from myodistill.evaluation.events import abstention
from myodistill.evaluation.metrics import calibration_error
from myodistill.reporting.figures.confidence import (
    abstention_curve,
    reliability_diagram,
)

Probabilities = tuple[np.ndarray, np.ndarray]


def person(seed: int, windows: int = 400, sharpness: float = 1.0) -> Probabilities:
    """Labels drawn from the probabilities, which are then sharpened: calibrated at 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (windows, 5))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (honest.cumsum(axis=1) > rng.random((windows, 1))).argmax(axis=1)
    shown = np.exp(sharpness * logits)
    return labels, shown / shown.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def predictions() -> dict[tuple[str, str, str], list[Probabilities]]:
    return {
        ("pretrained_distilled", "log-power", "soft-target"): [person(seed) for seed in range(3)],
        ("baseline", "lda", ""): [person(seed, 100 + 300 * seed, sharpness=4) for seed in range(3)],
    }


def test_the_diagram_tells_the_honest_from_the_sure(predictions: dict[Any, Any]) -> None:
    picture = reliability_diagram(predictions, k=2)
    assert picture.name == "confidence-k2"
    errors = picture.data.groupby("stage")["calibration_error"].first()
    for stage, people in (("pretrained_distilled", 0), ("baseline", 1)):
        expected = np.mean([calibration_error(*one) for one in list(predictions.values())[people]])
        assert errors[stage] == pytest.approx(100 * expected, abs=1e-12)
    assert errors["baseline"] > errors["pretrained_distilled"] + 5
    shares = picture.data.groupby("stage")["share"].sum()
    np.testing.assert_allclose(shares, 1)
    sure = picture.data[picture.data["stage"] == "baseline"].iloc[-1]
    assert sure["confidence"] > sure["accuracy"] + 0.05
    legend = [text.get_text() for text in picture.figure.findobj(Text)]
    assert (
        f"{errors['pretrained_distilled']:.1f}  student, distilled, pre-trained · log-power"
        in legend
    )


def test_abstention_ends_at_the_accuracy_and_counts_people_alike(
    predictions: dict[Any, Any],
) -> None:
    picture = abstention_curve(predictions, k=1)
    for (stage, *_), people in predictions.items():
        mine = picture.data[picture.data["stage"] == stage]
        curves = [abstention(*one) for one in people]
        assert mine["accuracy"].iloc[-1] == pytest.approx(
            np.mean([curve["accuracy"].iloc[-1] for curve in curves]), abs=1e-12
        )
        half = [curve[curve["decided"] >= 0.5 - 1e-12]["accuracy"].iloc[0] for curve in curves]
        at_half = mine[np.isclose(mine["decided"], 0.5)]["accuracy"].iloc[0]
        assert at_half == pytest.approx(np.mean(half), abs=1e-12)
        assert half > [curve["accuracy"].iloc[-1] for curve in curves]


def test_nothing_leaves_the_page(predictions: dict[Any, Any]) -> None:
    for picture in (reliability_diagram(predictions, k=1), abstention_curve(predictions, k=1)):
        picture.figure.draw_without_rendering()
        drawn = picture.figure.get_tightbbox()
        width, height = picture.figure.get_size_inches()
        assert min(drawn.x0, drawn.y0) > -0.01
        assert drawn.x1 < width + 0.01
        assert drawn.y1 < height + 0.01


def test_what_cannot_be_drawn_is_said(predictions: dict[Any, Any]) -> None:
    with pytest.raises(DataError, match="predictions of at least one method"):
        reliability_diagram({}, k=1)
    with pytest.raises(DataError, match="predictions of at least one method"):
        abstention_curve({("pretrained_distilled", "a", ""): []}, k=1)
    labels, probabilities = person(0)
    with pytest.raises(DataError, match="sum to 1 in every window"):
        reliability_diagram({("pretrained_distilled", "a", ""): [(labels, 2 * probabilities)]}, k=1)
