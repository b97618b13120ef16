"""A study is a list of complete settings; what is missing is done, what is there is not."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from evaluation_tables import example_results
from rich.console import Console

from myodistill.config import Settings, read_settings
from myodistill.datasets import registry as registry
from myodistill.datasets.synthetic import Synthetic
from myodistill.distillation.method import DistillationPipeline
from myodistill.errors import DataError, ModelError, SettingsError
from myodistill.evaluation import results
from myodistill.reporting.figures import FIGURES
from myodistill.reporting.merge_runs import merged
from myodistill.studies import study as study_module
from myodistill.studies.experiment import steps
from myodistill.studies.study import carry_out, read_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


def write(folder: Path, **values: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"out": "runs/s", **values}, sort_keys=False))
    return path


def test_runs_and_values_are_combined(tmp_path: Path) -> None:
    study = read_study(
        write(
            tmp_path,
            defaults={"dataset": "synthetic", "distill": {"num_epochs": 7}},
            runs={"plain": {}, "short": {"distill": {"batch_size": 9}, "k": [1]}},
            each={
                "teacher_model": [["population", "covariance"], "population"],
                "distill.learning_rate": [0.1],
            },
        )
    )
    assert list(study.runs) == [
        "plain-population+covariance-0.1",
        "plain-population-0.1",
        "short-population+covariance-0.1",
        "short-population-0.1",
    ]
    last = study.runs["short-population-0.1"]
    assert last.out == Path("runs/s/short-population-0.1")
    assert (last.distill.num_epochs, last.distill.batch_size, last.distill.learning_rate) == (7, 9, 0.1)  # fmt: skip # noqa: E501
    assert last.teacher_model == ("population",)
    assert study.runs["plain-population-0.1"].distill.batch_size != 9


def test_a_short_name_of_an_option_is_that_option(tmp_path: Path) -> None:
    """What is more particular wins, whichever name it goes by; settings are written by one name."""
    study = read_study(
        write(
            tmp_path,
            defaults={"temperature": 20},
            runs={"plain": {}, "warm": {"temp": 3}},
        )
    )
    assert [one.temperature for one in study.runs.values()] == [20, 3]
    swept = read_study(write(tmp_path, defaults={"temp": 20}, each={"temperature": [2, 5]}))
    assert [one.temperature for one in swept.runs.values()] == [2, 5]
    (tmp_path / "run.yaml").write_text("temp: 7")
    assert read_settings(tmp_path / "run.yaml") == {"temperature": 7}
    written = Settings.load({"temp": 7}).model_dump()
    assert written["temperature"] == 7
    assert "temp" not in written
    with pytest.raises(SettingsError, match="temp"):
        Settings.load({"temp": 7, "temperature": 7})


def test_one_run_needs_no_name(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, defaults={"k": 1}), out=tmp_path / "elsewhere")
    assert list(study.runs) == ["run"]
    assert study.runs["run"].out == tmp_path / "elsewhere" / "run"
    named = read_study(write(tmp_path, defaults={"dataset": "mine/arm.yaml"}))
    assert list(named.runs) == ["arm"]
    assert study.title == "study"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"default": {}}, "unknown key 'default': did you mean defaults"),
        ({"defaults": {"colour": 1}}, r"run run: settings: there is no option 'colour'"),
        ({"runs": {"a": {"temp": 0}}}, "run a: temperature: expected greater than 0, got 0"),
        ({"runs": {"a": {"out": "x"}}}, "a: expected no 'out' in a run"),
        ({"runs": {"../a": {}}}, r"a run's name to be a folder's, got '../a'"),
        ({"runs": ["a"]}, "runs: expected a valid dictionary"),
        ({"each": {"seed": []}}, "at least one value of 'seed'"),
        ({"each": {"seed": [1, 1]}}, "each run once, '1' comes twice"),
        ({"each": {"distil.num_epochs": [1]}}, "no option 'distil'"),
        ({"out": None}, "out: expected"),
    ],
)
def test_bad_studies_are_one_line(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read_study(write(tmp_path, **values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_come_with_it_are_valid(path: Path) -> None:
    study = read_study(path)
    assert study.runs
    assert f"myodistill study studies/{path.name}" in path.read_text()


def test_the_published_study_holds_ten_teachers_and_two_students() -> None:
    study = read_study(next(path for path in STUDIES if path.stem == "published"))
    assert len(study.runs) == 10
    assert {one.teacher_model for one in study.runs.values()} == {
        (name,)
        for name in (
            *(f"densenet-{depth}" for depth in (34, 121, 161, 201)),
            *("vgg-small", "vgg-11", "vgg-16", "inception-xs", "inception-s", "inception-v3"),
        )
    }


TINY = {
    "dataset": "tiny",
    "fold": [1],
    "k": [0, 1],
    "student_model": ["log-power-10k"],
    "baseline": ["svm-time-domain"],
    "pretrain": {"num_epochs": 1},
    "pretrain_student": {"num_epochs": 1},
    "finetune": {"num_epochs": 1},
    "distill": {"num_epochs": 1},
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        registry.DATASETS, "tiny", lambda: Synthetic(subjects=5, seconds=0.5, repetitions=1)
    )


def bundles(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("weights.safetensors")}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_killed_study_goes_on_and_ends_with_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers = ["population", "covariance"]
    path = write(tmp_path, title="Two teachers", defaults=TINY, each={"teacher_model": teachers})
    study = read_study(path, out=tmp_path / "out")
    assert [steps(settings) for settings in study.runs.values()] == [2, 2]

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(DistillationPipeline, "distill", killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(study, console=Console(file=io.StringIO()))
    done = bundles(tmp_path / "out")
    assert done
    # One real report is enough: each takes seconds.
    from myodistill.reporting.report import report as real

    def quick(folder: Path) -> Path:
        if folder.name == "all-1":
            return real(folder)
        (folder / "report.html").write_text("<!doctype html>")
        return folder / "report.html"

    monkeypatch.setattr(study_module, "report", quick)
    shown = io.StringIO()
    index = carry_out(study, console=Console(file=shown, width=100))
    assert "4/4" in shown.getvalue()
    after = bundles(tmp_path / "out")
    assert {name: after[name] for name in done} == done
    page = index.read_text(encoding="utf-8")
    links = re.findall(r'<h2 id="s\d+">(.*?)</h2>\s*<p><a href="(.*?)"', page)
    assert [name for name, _ in links] == ["All runs on tiny", *teachers]
    for _, link in links:
        assert (index.parent / link).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "<h1>Two teachers</h1>" in page
    merged_folder = (index.parent / links[0][1]).parent
    facts = next((tmp_path / "out").glob("*/fold-1")).parent / "facts.json"
    assert (merged_folder / "facts.json").read_bytes() == facts.read_bytes()

    monkeypatch.setattr(study_module, "report", lambda folder: folder)
    carry_out(study, console=Console(file=io.StringIO()))
    assert bundles(tmp_path / "out") == after

    table = results.read(tmp_path / "out" / "all-1" / "results.parquet")
    models = table.groupby("stage")["model"].unique()
    assert set(models["baseline"]) == {"lda-time-domain", "lda-log-covariance", "svm-time-domain"}
    assert set(models["supervised"]) == {"log-power-10k"}, "the same in both runs: once"
    assert set(models["pretrained_distilled"]) == {f"log-power-10k ({name})" for name in teachers}
    events = pd.read_parquet(tmp_path / "out" / "all-1" / "events.parquet")
    counted = events.groupby(results.METHOD)["subject"].nunique()
    assert counted.index.equals(table.groupby(results.METHOD)["subject"].nunique().index)


@pytest.mark.usefixtures("tiny")
def test_a_setting_that_no_run_can_use_is_found_before_any_work(tmp_path: Path) -> None:
    path = write(tmp_path, defaults=TINY, runs={"a": {}, "b": {"baseline": ["svm-tim-domain"]}})
    study = read_study(path, out=tmp_path / "out")
    with pytest.raises(
        ModelError, match=r"run b: unknown baseline 'svm-tim-domain': did you mean svm-"
    ):
        carry_out(study, console=Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_five_minute_study_shows_every_figure(tmp_path: Path) -> None:
    path = next(path for path in STUDIES if path.stem == "five-minutes")
    index = carry_out(read_study(path, out=tmp_path), console=Console(file=io.StringIO()))
    run = index.parent / "synthetic"
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "Not drawn" not in text
    assert text.count("<figure>") >= len(FIGURES)
    assert "Read this first" not in text


def test_runs_on_other_windows_are_not_put_side_by_side() -> None:
    frame = example_results(seeds=1)
    other = frame.assign(windows=frame["windows"] + 1, accuracy=frame["accuracy"] / 2)
    with pytest.raises(DataError, match="rows were scored on different test sets"):
        merged({"a": frame, "b": other})
    with pytest.raises(DataError, match="at least one run"):
        merged({})
    assert merged({"a": frame, "b": frame}).equals(results.ordered(frame))
