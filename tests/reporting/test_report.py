"""The report says what the numbers say, names what is absent, and works in a browser."""

from __future__ import annotations

import html
import itertools
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import example_events, example_results, write_answers, write_run

from myodistill.deploy.parity_table import CHIP, DeployedForm, ParityTable
from myodistill.errors import DataError
from myodistill.evaluation.event_metrics import mean_events
from myodistill.evaluation.protocol import subject_scores
from myodistill.evaluation.results import summary
from myodistill.evaluation.statistics import compare
from myodistill.reporting.headline import headline
from myodistill.reporting.report import report
from myodistill.reporting.run import Run, read_run
from myodistill.reporting.tables import event_rows


class Page(HTMLParser):
    """Tags with their attributes, and the text in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def prose(page: Page) -> str:
    return " ".join(page.words.split())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = example_results()
    folder = write_run(tmp_path_factory.mktemp("run"), frame)
    write_answers(folder, frame[frame["seed"] == 0])
    return report(folder)


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return read(written)


def quick(subjects: int = 12) -> pd.DataFrame:
    """One K and one seed, for what does not depend on more."""
    frame = example_results(subjects, seeds=1)
    return frame[frame["k"] == 1]


def test_it_holds_the_numbers(page: Page) -> None:
    frame = example_results()
    text = prose(page)
    for row in summary(frame).itertuples():
        assert f"{row.mean:.1f} [{row.low:.1f}, {row.high:.1f}]" in text
    found = compare(subject_scores(frame, 1))
    assert f"All {len(found) * 3 + 3} comparisons" in text
    assert "covariance → log-power on example" in text
    assert "Read this first" not in text
    assert "myodistill report runs/example" in text
    assert "/tmp" not in text, "where it lies on this machine is nobody's business"


def test_the_headline_agrees_with_the_tests(page: Page) -> None:
    frame = example_results()
    found = compare(subject_scores(frame, 1))
    line = headline(summary(frame), 1, found)
    assert line is not None
    assert (line.stage, line.model, line.candidates) == ("pretrained_distilled", "log-power", 4)
    assert [other.what for other in line.versus] == [
        "the best teacher",
        "the best classical method",
        "the same student without a teacher",
    ]
    control = line.versus[2]
    assert control.name == "student, no teacher, pre-trained · log-power"
    pair = found[
        (found["first"] == control.name) & (found["second"].str.contains("distilled, pre"))
    ]
    assert control.difference == pytest.approx(-pair["difference"].iloc[0])
    assert (control.low, control.high) == (-pair["high"].iloc[0], -pair["low"].iloc[0])
    assert control.significant == pair["significant"].iloc[0]
    assert control.verdict in prose(page)
    teacher = line.versus[0]
    assert not teacher.significant
    assert teacher.verdict == "no difference from the best teacher shown"


def test_it_says_what_a_wearer_feels_and_how_sure_the_decoder_is(page: Page) -> None:
    text = prose(page)
    shown = event_rows(example_events(example_results()), 1)
    assert len(shown) == 7 * 4
    row = next(
        r for r in shown if r["stage"] == "pretrained_distilled" and r["rule"] == "majority of 5"
    )
    assert row["cells"][0] == pytest.approx(200)
    assert row["cells"][2] == pytest.approx(2)
    assert f"log-powermajority of 5200{row['cells'][1]:.1f}2.030.00.0" in text
    assert "All methods at K = 4" in text
    means = summary(example_results())
    mean = means[(means["stage"] == "pretrained_distilled") & (means["k"] == 1)]["mean"].iloc[0]
    assert "Each test session by itself" in text
    assert f"student, distilled, pre-trainedlog-power{mean:.1f}{mean - 10:.1f}" in text
    assert "cannot be computed" not in text
    assert "Expected calibration error in points" in text
    titles = [image["alt"] or "" for image in page.all("img")]
    assert sum(title.startswith("Calibration diagram at K=") for title in titles) == 4
    assert sum(title.startswith("Accuracy against the share") for title in titles) == 4


def test_event_metrics_that_were_counted_twice_are_refused() -> None:
    events = example_events(quick())
    with pytest.raises(DataError, match="expected each row once, got baseline"):
        mean_events(pd.concat([events, events.iloc[:1]]))
    with pytest.raises(DataError, match="a table with the column delay"):
        mean_events(events.drop(columns="delay"))


def test_it_is_one_file_that_asks_for_nothing(page: Page) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "href"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    policy = next(m for m in page.all("meta") if m.get("http-equiv"))
    assert "default-src 'none'" in (policy["content"] or "")


def test_it_can_be_read_without_eyes_and_without_a_mouse(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("meta")[1]["name"] == "viewport"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) >= 5
    names = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(names) == len(set(names))
    targets = [a["href"] for a in page.all("a") if (a.get("href") or "").startswith("#")]
    assert targets[0] == "#main"
    assert {target[1:] for target in targets if target} <= set(names)
    columns = [attrs for attrs in page.all("th") if attrs["scope"] == "col"]
    assert len(page.all("button")) == len(columns)


def test_what_the_run_did_not_record_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, quick(), optional=False)
    (folder / "settings.json").unlink()
    shutil.rmtree(folder / "splits")
    text = prose(read(report(folder)))
    for name in (
        "settings.json",
        "confusion.json",
        "environment.json",
        "models.json",
        "events.parquet",
        "splits/",
    ):
        assert name in text
    assert "The command of the run was not recorded" in text
    assert "The run folder holds no splits" in text
    assert "unknown to whatever" not in text
    assert "Those of the run were not recorded" in text
    assert "not in the catalogue" in text
    assert "confusion matrices: expected confusion.json" in text


def test_one_subject_gets_no_interval_and_no_test(tmp_path: Path) -> None:
    text = prose(read(report(write_run(tmp_path, quick(subjects=1), optional=False))))
    assert "at least 2 subjects, got 1" in text
    assert "was not tested" in text
    assert "With one subject there is neither an interval nor a test" in text
    assert not re.search(r"\d \[\d", text)
    assert "1 person was scored" in text
    assert "paired slopes: expected at least 2 subjects" in text


@pytest.mark.slow
def test_a_method_missing_for_somebody_stops_the_tests_of_that_k(tmp_path: Path) -> None:
    frame = example_results(seeds=1)
    frame = frame[frame["k"] < 2]
    gone = (frame["stage"] == "supervised") & (frame["subject"] == "Ann") & (frame["k"] == 1)
    text = prose(read(report(write_run(tmp_path, frame[~gone], optional=False))))
    assert "Not computed. K=1: results: expected every method on the same subjects" in text
    assert "11 of 12 subjects" in text
    assert "K=1, 12 subjects" not in text
    assert "can show:K=0" in text


@pytest.mark.slow
def test_wrong_runs_are_shouted_about(tmp_path: Path) -> None:
    frame = quick()
    folder = write_run(tmp_path, frame[frame["stage"] != "baseline"])
    split = json.loads((folder / "splits" / "fold-1.json").read_text())
    split["heldout"], split["pretraining"] = split["heldout"][1:], split["heldout"][:1]
    (folder / "splits" / "fold-1.json").write_text(json.dumps(split))
    text = prose(read(report(folder)))
    assert "Read this first" in text
    assert "Fold 1 scored Ann, whom its split" in text
    assert "No classical baseline was scored" in text


@pytest.mark.slow
def test_text_from_files_is_never_markup(tmp_path: Path) -> None:
    frame = quick()
    frame["model"] = frame["model"].replace("log-power", "<script>alert(1)</script>")
    folder = write_run(tmp_path, frame, optional=False)
    (folder / "environment.json").write_text(json.dumps({"command": "run </code><img src=x>"}))
    assert len(read(report(folder)).all("script")) == 1


@pytest.mark.slow
def test_what_guesses_is_named_under_the_table(tmp_path: Path, page: Page) -> None:
    assert "at K=1: its balanced accuracy" not in prose(page)
    frame = quick()
    frame.loc[frame["stage"] == "supervised", "balanced_accuracy"] = 1 / 6
    text = prose(read(report(write_run(tmp_path, frame))))
    assert "student, no teacher · log-power guesses at K=1: its balanced accuracy of 16.7 %" in text
    assert "not above chance, 16.7 %" in text


@pytest.mark.slow
def test_nasty_names_and_missing_numbers_make_a_right_report(tmp_path: Path) -> None:
    frame = quick().assign(
        subject=lambda f: f["subject"].replace({"Ann": "<i>&\"'\nשלום</i>", "Ben": "B" * 300}),
        calibration_error=float("nan"),
        seconds=float("nan"),
    )
    folder = write_run(tmp_path, frame)
    counts = json.loads((folder / "confusion.json").read_text())
    counts["gestures"][:2] = ["</svg><script>1</script>", "$\\frac{&"]
    for one in counts["counts"]:
        one["windows"][3] = [0] * 6  # never tested
    (folder / "confusion.json").write_text(json.dumps(counts))
    page = read(report(folder))
    assert len(page.all("script")) == 1
    assert not page.all("i")
    assert "nan" not in re.findall(r"[a-z]+", prose(page).lower())
    assert any("Confusion matrices" in (image["alt"] or "") for image in page.all("img"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.iloc[:0], "the table is empty"),
        (lambda f: pd.concat([f, f.assign(dataset="b")]), "expected one dataset, got b, example"),
        (lambda f: f.assign(macro_f1=float("nan")), r"a score \(macro-F1\) in every row"),
    ],
)
def test_no_report_of_what_cannot_be_reported(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    folder = write_run(tmp_path, example_results())
    change(example_results()).to_parquet(folder / "results.parquet")
    with pytest.raises(DataError, match=message):
        report(folder)
    assert not (folder / "report.html").exists()


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, example_results())
    (folder / "confusion.json").write_text("{")
    with pytest.raises(DataError, match=r"confusion\.json: expected counts of confusions"):
        report(folder)
    with pytest.raises(DataError, match=r"results\.parquet: expected a results table"):
        report(tmp_path / "nowhere")


def confusions(windows: str) -> str:
    """Return a file of counts of one method over two gestures."""
    method = '"stage": "distilled", "model": "log-power", "loss": "soft-target"'
    counts = f'{{{method}, "k": 1, "windows": {windows}}}'
    return f'{{"gestures": ["a", "b"], "counts": [{counts}]}}'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("confusion.json", confusions("[[1]]"), "no matrix of shape"),
        ("confusion.json", confusions('[["x"]]'), "windows: expected a valid integer"),
        ("confusion.json", "[" * 5000, "too many levels"),
        ("confusion.json", "[]", "a list instead of an object"),
        ("models.json", '{"a": {}}', "a.flops: expected a value"),
        ("models.json", '{"a": {"flops": NaN}}', "NaN, which JSON does not have"),
        ("environment.json", "\x00", "expecting value"),
        ("settings.json", "", "expecting value"),
        ("splits/fold-1.json", "{}", "dataset: expected a value"),
        ("events.parquet", "x", "expected delays, false activations, missed gestures, got"),
        ("sessions.parquet", "", "expected scores of each test session, got"),
        ("results.parquet", "PAR1", "expected a results table, got"),
    ],
)
def test_a_damaged_side_file_is_one_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    folder = write_run(tmp_path, quick(3))
    (folder / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_run(folder)
    line = str(caught.value)
    assert f"{name}: expected " in line
    assert message.lower() in line.lower()
    assert line.isprintable()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": [0]}, "no array probabilities"),
        ({"labels": [0], "probabilities": [0.5]}, "shapes"),
        ({"labels": [2], "probabilities": [[0.5, 0.5]]}, "labels that are not gestures"),
        ({"labels": [0], "probabilities": [[0.0, 0.0]]}, "numbers that are not probabilities"),
        ({"labels": [0], "probabilities": [[math.nan, 1.0]]}, "numbers that are not probabilities"),
        ({"labels": [0], "probabilities": [["a", "b"]]}, "no number"),
        (None, "not a zip"),
    ],
)
def test_damaged_answers_are_one_line(
    tmp_path: Path, arrays: dict[str, Any] | None, message: str
) -> None:
    frame = quick(3)
    row = frame[frame["stage"] == "pretrained_distilled"].iloc[:1]
    write_answers(tmp_path, row)
    path = next(tmp_path.rglob("*.npz"))
    path.write_bytes(b"") if arrays is None else np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"predictions, .*: expected the probabilities") as caught:
        Run(tmp_path, row).predictions([("pretrained_distilled", "log-power", "soft-target")], 1)
    assert message in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.slow
def test_students_on_a_device(tmp_path: Path) -> None:
    folder = write_run(tmp_path, quick(), optional=False)
    before = prose(read(report(folder)))
    assert "No student of this run was measured in its forms for a device" in before
    forms = (
        DeployedForm("PyTorch", None, accuracy=0.9321, weights=121_000, median=0.0005, p99=0.004),
        DeployedForm("C int8", "ONNX int8", reason="gcc: expected it on this machine"),
        DeployedForm(
            "C int8, Cortex-M4F", "C int8", equal=1.0, flash=43_900, ram=11_300, instructions=1e6
        ),
    )
    for subject in ("Ann", "Ben"):
        origin = {"subject": subject, "k": 1, "stage": "pretrained_distilled"}
        parity_table = ParityTable(
            "log-power", origin, forms, (("logits", "MatMulInteger", "int8"),), 0.5
        )
        parity_table.write(
            folder / "fold-1" / "seed-0" / subject / "k-1" / "pretrained_distilled" / "parity.json"
        )
    page = read(report(folder))
    text = prose(page)
    assert "Ann, K = 1: student, distilled, pre-trained, log-power" in text
    assert "The other students (1)" in text
    for shown in ("93.21", "43.9", "11.3", "int8: MatMulInteger", "a proxy, not cycles", CHIP):
        assert shown in text
    assert "C int8: none, gcc: expected it on this machine" in text
    names = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(names) == len(set(names))


PROBE = """
<body style="margin:0"><iframe id="f" style="border:0;width:390px" srcdoc="%s"></iframe>
<script>
const frame = document.getElementById("f");
frame.addEventListener("load", () => {
  const doc = frame.contentDocument, table = doc.querySelector("table.sortable");
  const head = table.tHead.rows[0].cells[5], button = head.querySelector("button");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[5].dataset.value);
  const seen = { wide: doc.documentElement.scrollWidth, before: column() };
  button.click(); seen.down = column(); seen.sort = [head.getAttribute("aria-sort")];
  button.click(); seen.up = column(); seen.sort.push(head.getAttribute("aria-sort"));
  button.focus(); seen.focus = doc.activeElement === button;
  seen.images = [...doc.images].filter((image) => !image.naturalWidth).length;
  document.title = JSON.stringify(seen);
});
</script>
"""


@pytest.mark.browser
def test_in_a_real_browser(written: Path, tmp_path: Path) -> None:
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE % html.escape(written.read_text(encoding="utf-8")), encoding="utf-8")
    found = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "CONSOLE" not in found.stderr, found.stderr
    title = re.search("<title>(.*?)</title>", found.stdout)
    assert title is not None
    seen = json.loads(html.unescape(title[1]))
    assert seen["wide"] <= 390, "the page scrolls sideways on a phone"
    assert seen["images"] == 0
    assert seen["focus"]
    assert seen["sort"] == ["descending", "ascending"]
    numbers = [float(value) for value in seen["before"] if value]
    assert [float(v) for v in seen["down"] if v] == sorted(numbers, reverse=True)
    assert [float(v) for v in seen["up"] if v] == sorted(numbers)
    assert seen["down"][-1] == seen["up"][-1] == "", "what has no score stays last"
