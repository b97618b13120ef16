"""Every figure draws what the table says, saves its data, and refuses what it cannot draw."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import GESTURES, example_counts, example_results, write_run
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch.utils.tensorboard import SummaryWriter

from myodistill.datasets.recording import Annotation, Electrodes, Recording, grid, ring
from myodistill.errors import DataError, OutputError
from myodistill.evaluation.protocol import method_name, overview, subject_scores
from myodistill.evaluation.results import summary
from myodistill.evaluation.statistics import compare
from myodistill.reporting.figures import FIGURES, draw
from myodistill.reporting.figures.canvas import Picture
from myodistill.reporting.figures.confusion import confusion_matrices
from myodistill.reporting.figures.cost import accuracy_cost, pareto
from myodistill.reporting.figures.electrodes import gesture_rms, rms_map
from myodistill.reporting.figures.people import accuracy_by_k, paired_slopes
from myodistill.reporting.figures.significance import critical_difference, hypothesis_heatmap
from myodistill.reporting.figures.training import training_curves
from myodistill.reporting.headline import headline, leading
from myodistill.reporting.run import read_run

FLOPS = {"covariance": 262_000, "log-power": 830_000}


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def overflow(picture: Picture) -> float:
    """Inches by which anything drawn leaves the page."""
    picture.figure.draw_without_rendering()
    drawn = picture.figure.get_tightbbox()
    width, height = picture.figure.get_size_inches()
    return float(max(-drawn.x0, -drawn.y0, drawn.x1 - width, drawn.y1 - height))


def recording(
    layout: Electrodes,
    gesture: int,
    loud: int,
    offset: float = 0.0,
    names: tuple[str, ...] = ("rest", "fist", "pinch"),
) -> Recording:
    rng = np.random.default_rng(gesture)
    signal = rng.standard_normal((300, layout.channels)).astype(np.float32)
    signal[:, loud] *= 10
    return Recording(
        "Ann",
        "train",
        signal + np.float32(offset),
        1000.0,
        layout,
        names,
        (Annotation(0, 300, gesture, 0),),
        unit="µV",
    )


def histories() -> pd.DataFrame:
    rows = [
        (f"{stage}/{run}", "for one person", stage, "loss", epoch, float(run + 1) / epoch)
        for stage in ("finetune", "distilled")
        for run in range(3)
        for epoch in range(1, 6)
    ]
    return pd.DataFrame(rows, columns=["run", "phase", "stage", "measure", "epoch", "value"])


@pytest.mark.slow
def test_pictures_are_saved_in_vectors_and_pixels_with_their_data(tmp_path: Path) -> None:
    picture = hypothesis_heatmap(example_results(), k=1)
    paths = picture.save(tmp_path / "figures")
    assert [path.name for path in paths] == [
        "hypothesis-heatmap-k1.pdf",
        "hypothesis-heatmap-k1.png",
        "hypothesis-heatmap-k1.csv",
    ]
    assert paths[0].read_bytes().startswith(b"%PDF")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    saved = pd.read_csv(paths[2])
    expected = compare(subject_scores(example_results(), 1))
    np.testing.assert_allclose(saved["wilcoxon_holm"], expected["wilcoxon_holm"])
    assert picture.render("pdf") == picture.render("pdf"), "the same picture is the same file"
    with pytest.raises(OutputError, match=r"expected one of .*pdf"):
        picture.render("docx")


def test_cost_marks_the_front_and_falls_back_to_parameters() -> None:
    np.testing.assert_array_equal(
        pareto(np.array([1.0, 2, 3, 3]), np.array([5.0, 7, 6, 7])), [True, True, False, False]
    )
    frame = example_results()
    counted = accuracy_cost(frame, FLOPS)
    assert counted.name == "accuracy-flops-k1"
    networks = counted.data[counted.data["parameters"] > 0]
    assert set(networks["cost"]) == set(FLOPS.values())
    assert networks.loc[networks["front"], "model"].tolist() == ["covariance"]
    partly = accuracy_cost(frame, {"covariance": 1})
    assert partly.name == "accuracy-parameters-k1", "half a mapping is none"
    front = partly.data[partly.data["front"]]
    assert list(zip(front["stage"], front["model"], strict=True)) == [
        ("finetune", "covariance"),
        ("pretrained_distilled", "log-power"),
    ]
    with pytest.raises(DataError, match="only classical methods"):
        accuracy_cost(frame[frame["stage"] == "baseline"])


def test_the_heatmap_stars_what_is_significant_and_nothing_else() -> None:
    picture = hypothesis_heatmap(example_results(), k=1)
    starred = [word for word in words(picture.figure) if word.endswith("★")]
    assert len(starred) == picture.data["significant"].sum() > 0
    row = picture.data.iloc[0]
    effect = f"{-row['rank_biserial']:+.2f}".replace("-", "−")
    assert any(word.startswith(effect) for word in words(picture.figure))


def test_critical_difference_names_every_method_once() -> None:
    picture = critical_difference(example_results(), k=2)
    for name in picture.data["method"]:
        assert sum(name in word for word in words(picture.figure)) == 1
    assert picture.data["mean_rank"].is_monotonic_increasing


def test_calibration_curve_holds_the_summary() -> None:
    picture = accuracy_by_k(example_results(), seconds=55.0)
    pd.testing.assert_frame_equal(picture.data.drop(columns="seconds"), summary(example_results()))
    assert picture.data["seconds"].max() == 220.0
    assert "seconds of calibration data" in words(picture.figure)
    with pytest.raises(DataError, match="at least 2 values of K, got only K=4"):
        accuracy_by_k(example_results().query("k == 4"))


def test_slopes_count_whom_distillation_helps() -> None:
    picture = paired_slopes(example_results())
    one = picture.data[picture.data["k"] == 1]
    gain = (one["distilled"] > one["no_teacher"]).sum()
    assert f"K=1: {gain} of 12 gain" in words(picture.figure)
    frame = example_results()
    with pytest.raises(DataError, match="with a distilled student, the same student without"):
        paired_slopes(frame[~frame["stage"].isin(("distilled", "pretrained_distilled"))])
    with pytest.raises(DataError, match="a distilled student 'cnn'"):
        paired_slopes(frame, student="cnn")


@pytest.mark.parametrize("best", ["pretrained_distilled", "distilled", "pretrained"])
def test_every_figure_speaks_of_the_headlines_student(tmp_path: Path, best: str) -> None:
    frame = many_losses()
    frame.loc[frame["stage"] == best, "accuracy"] = frame["accuracy"].clip(upper=0.9) + 0.08
    run = read_run(write_run(tmp_path / "run", frame))
    line = headline(overview(frame), 1, None)
    assert line is not None
    assert line.stage == best
    picture = paired_slopes(frame)
    shown = picture.data[picture.data["k"] == 1].iloc[0]
    titles = [title.replace("\n", " · ") for title in words(draw("confusion", run)[0].figure)]
    name = method_name(line.stage, line.model, line.loss)
    assert name in titles
    if best == "pretrained":
        assert "At K=0, 1, 2, 4 the best student is one without a teacher" in picture.note
        return
    control = {other.what: other.name for other in line.versus}[
        "the same student without a teacher"
    ]
    assert (shown["of_distilled"], shown["of_no_teacher"]) == (name, control)
    assert control in titles
    assert (line.stage, line.model, line.loss) == leading(overview(frame), 1)[0]
    assert name in words(accuracy_by_k(frame).figure)


def test_names_cannot_harm_a_figure() -> None:
    nasty = ("<b>&\"'", "$\\frac{$", "two\nlines\x07", "שלום עולם", "x" * 300, "rest")
    picture = confusion_matrices({"teacher": np.array(example_counts())}, nasty)
    ElementTree.fromstring(picture.render("svg"))
    assert picture.figure.get_figheight() < 7
    assert overflow(picture) < 0.01
    takes = [recording(ring(8), gesture, gesture, names=nasty) for gesture in range(5)]
    ElementTree.fromstring(rms_map(takes).render("svg"))


def test_no_effect_has_no_sign() -> None:
    frame = example_results()
    same = frame[frame["stage"] == "distilled"].assign(model="twin")
    picture = hypothesis_heatmap(pd.concat([frame, same]), k=1)
    assert "0.00" in words(picture.figure)
    assert not {"−0.00", "+0.00"} & set(words(picture.figure))


def test_confusion_shares_are_of_the_gesture_performed() -> None:
    counts = np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]])
    picture = confusion_matrices({"teacher": counts}, ("rest", "fist", "pinch"))
    shown = words(picture.figure)
    assert {"80", "20", "50"} <= set(shown)
    assert "100" not in shown, "a gesture that was not performed has no share"
    assert "takes fist for pinch (50 %)" in picture.alt
    with pytest.raises(DataError, match="at least 2 gestures that were performed, got 1"):
        confusion_matrices({"teacher": np.diag([5, 0, 0])}, ("rest", "fist", "pinch"))
    with pytest.raises(DataError, match="2×2 gestures, got shape"):
        confusion_matrices({"teacher": counts}, ("rest", "fist"))
    with pytest.raises(DataError, match="at least one method"):
        confusion_matrices({}, ())


@pytest.mark.parametrize("layout", [ring(8), grid(2, 4, order=(7, 6, 5, 4, 3, 2, 1, 0))])
def test_rms_map_finds_the_loud_electrode(layout: Electrodes) -> None:
    takes = [recording(layout, gesture, loud=gesture + 3) for gesture in range(3)]
    rms = gesture_rms(takes)
    assert rms.argmax(axis=1).tolist() == [3, 4, 5]
    offset = [recording(layout, gesture, loud=gesture + 3, offset=500.0) for gesture in range(3)]
    np.testing.assert_allclose(gesture_rms(offset), rms, rtol=1e-3)
    picture = rms_map(takes, (20.0, 400.0))
    loudest = picture.data.loc[picture.data.groupby("gesture")["rms"].idxmax()]
    assert dict(zip(loudest["gesture"], loudest["channel"], strict=True)) == {
        "rest": 3,
        "fist": 4,
        "pinch": 5,
    }
    with pytest.raises(DataError, match="at least 2 gestures that were performed, got 1"):
        rms_map(takes[:1])
    with pytest.raises(DataError, match="one layout"):
        rms_map([*takes, recording(ring(6), 0, 1)])


def test_training_curves_show_the_median() -> None:
    picture = training_curves(histories())
    first = picture.data[(picture.data["stage"] == "finetune") & (picture.data["epoch"] == 1)]
    assert first[["low", "median", "high", "runs"]].iloc[0].tolist() == [1.5, 2.0, 2.5, 3]
    part = histories().assign(measure="kd_loss")
    both = training_curves(pd.concat([part, histories()]))
    assert list(both.data["measure"].unique()) == ["loss", "kd_loss"], "the named parts follow"
    broken = histories()
    broken.loc[4, "value"] = np.nan
    with pytest.raises(DataError, match="loss of finetune/0 is nan in epoch 5"):
        training_curves(broken)
    with pytest.raises(DataError, match="got none"):
        training_curves(histories().iloc[:0])


def many_losses() -> pd.DataFrame:
    """A table as of a run over several losses, whose names are long."""
    frame = example_results()
    taught = frame[frame["stage"].isin(("distilled", "pretrained_distilled"))]
    losses = ("decoupled", "dist", "hint", "relational", "standardised-soft-target")
    more = [taught.assign(loss=loss) for loss in losses]
    return pd.concat([frame, *more], ignore_index=True)


def test_nothing_is_written_outside_the_page() -> None:
    frame, long = example_results(), many_losses()
    counts = {name: np.array(example_counts()) for name in ("teacher", "student, no teacher")}
    for picture in (
        accuracy_cost(frame, FLOPS),
        accuracy_by_k(frame, 10.0),
        paired_slopes(frame),
        hypothesis_heatmap(frame, k=1),
        critical_difference(frame, k=1),
        hypothesis_heatmap(long, k=1),
        critical_difference(long, k=1),
        confusion_matrices(counts, GESTURES),
        training_curves(histories()),
        rms_map([recording(ring(8), gesture, gesture) for gesture in range(3)]),
        rms_map([recording(grid(4, 2), gesture, gesture) for gesture in range(3)]),
    ):
        assert overflow(picture) < 0.01, picture.name
        assert picture.figure.get_figwidth() in (3.5, 7.2)
        assert picture.alt
        assert len(picture.data)


def test_means_over_different_people_are_not_drawn() -> None:
    frame = example_results()
    gone = frame[~((frame["stage"] == "supervised") & (frame["subject"] == "Ann"))]
    for figure in (accuracy_cost, accuracy_by_k, paired_slopes, hypothesis_heatmap):
        with pytest.raises(DataError, match=r"missing for 1 of 12 \(Ann\)"):
            figure(gone)
    with pytest.raises(DataError, match="the table is empty"):
        hypothesis_heatmap(frame.iloc[:0])


def test_the_catalogue_draws_from_a_run_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", example_results())
    logs = folder / "fold-1" / "seed-0" / "logs"
    for name in (
        "Ann/k-1/distilled-cnn, dist",
        "pretrain-pretrained_distilled-cnn",
        "pretrain-covariance",
    ):
        with SummaryWriter(str(logs / name)) as writer:
            for epoch in (1, 2, 3):
                writer.add_scalar("loss", 1 / epoch, epoch)
    run = read_run(folder)
    history = run.histories()
    assert set(history[["phase", "stage"]].itertuples(index=False, name=None)) == {
        ("for one person", "distilled"),
        ("across people", "pretrained_distilled"),
        ("across people", "pretrain"),
    }
    np.testing.assert_allclose(history["value"], 3 * [1, 1 / 2, 1 / 3])
    drawn = {picture.name: picture for picture in draw("confusion", run)}
    assert set(drawn) == {"confusion-k1", "confusion-k4"}
    assert "student, distilled, pre-trained\nlog-power" in words(drawn["confusion-k1"].figure)
    assert "student, distilled, pre-trained log-power most often" in drawn["confusion-k1"].alt
    assert [picture.name for picture in draw("training-curves", folder)] == ["training-curves"]
    assert set(FIGURES) >= {"accuracy-cost", "paired-slopes", "rms-map"}
    with pytest.raises(DataError, match="unknown figure 'heatmap': did you mean hypothesis-"):
        draw("heatmap", run)
    with pytest.raises(DataError, match="unknown dataset 'example'"):
        draw("rms-map", run)


def test_a_png_has_print_resolution() -> None:
    import matplotlib.image as images

    content = training_curves(histories()).render("png")
    assert images.imread(io.BytesIO(content)).shape[1] == 3.5 * 300
