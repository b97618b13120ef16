"""The command line: flags are settings, and bad input is one line and exit code 2."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import people
import pytest
from commands import call, refused
from conftest import write_threedc

from myodistill.bundle import Bundle
from myodistill.bundle_card import card_hash
from myodistill.config import Settings
from myodistill.datasets import registry as registry
from myodistill.datasets.recording import Repetition
from myodistill.datasets.synthetic import Synthetic
from myodistill.decision_rule import DecisionRule
from myodistill.deploy import parity
from myodistill.deploy.subject_data import SubjectData
from myodistill.errors import SettingsError
from myodistill.evaluation import adaptation_results, results
from myodistill.evaluation.streams import STREAMS
from myodistill.models import complexity, verification
from myodistill.models.registry import MODELS
from myodistill.processes import worker_pool
from myodistill.studies import experiment
from myodistill.studies.adaptation import METHODS
from myodistill.studies.engines import local
from myodistill.studies.experiment import run_experiment

QUICK = [
    *("--fold", "1", "--k", "1", "--student-model", "log-power-10k"),
    *("--pretrain.num-epochs", "1", "--pretrain-student.num-epochs", "1"),
    *("--finetune.num-epochs", "1", "--distill.num_epochs", "1"),
]


def tiny_people(seed: int = 0) -> Synthetic:
    return Synthetic(subjects=5, seconds=0.5, repetitions=2, seed=seed)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.DATASETS, "tiny", tiny_people)


@pytest.mark.usefixtures("tiny")
def test_run_ends_with_report_and_bundle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, shown, _ = call(
        capsys, monkeypatch, "run", "--dataset", "tiny", "--out", str(out), *QUICK
    )
    assert code == 0
    said = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line)
    assert Path(said["report"]).read_text().startswith("<!doctype html>")
    bundle = next(value for name, value in said.items() if name.startswith("student bundle"))
    assert (Path(bundle) / "weights.safetensors").exists()


@pytest.mark.usefixtures("tiny")
def test_published_flag_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = [
        "--device",
        "cpu",
        "--fold",
        "1",
        "--k",
        "1",
        "--model",
        "population",
        "--batch_size",
        "30",
    ]
    code, _, _ = call(
        capsys,
        monkeypatch,
        *("pretrain", "--dataset", "tiny", "--out", str(out), *words, "--num_epochs", "1"),
    )
    assert code == 0
    assert (out / "fold-1" / "seed-0" / "pretrain-population" / "bundle.json").exists()


def test_yaml_keys_are_the_flags(tmp_path: Path) -> None:
    from_yaml = Settings.load({"k": 1, "distill": {"num_epochs": 7}, "temp": 4})
    assert from_yaml.k == (1,)
    assert from_yaml.distill.num_epochs == 7
    assert from_yaml.distill.batch_size == Settings.load({}).distill.batch_size


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": 1}, "no option 'colour'"),
        ({"distill": {"epochs": 1}}, "no option 'distill.epochs'"),
        ({"temp": 0}, "temp: expected greater than 0, got 0"),
        ({"temp": -1}, "temp: expected greater than 0"),
        ({"alpha": 1.5}, "alpha: expected less than or equal to 1"),
        ({"k": "one"}, "k: expected a valid integer"),
        ({"temp": "inf"}, "temp: expected a finite number, got 'inf'"),
        ({"temp": float("nan")}, "temp: expected a finite number, got nan"),
        ({"seed": 2**32}, "seed: expected less than 4294967296"),
        ({"seed": -1}, "seed: expected greater than or equal to 0"),
        ({"threads": 2000}, "threads: expected less than or equal to 256, got 2000"),
        ({"processes": 10**400}, "processes: .* got a number of 1329 bits"),
        ({"device": "meta"}, "device: expected cpu, cuda or cuda:N, got 'meta'"),
        ({"augmentation": None}, "augmentation: expected a valid dictionary"),
        ({"augmentation": {"gain_db": 1e30}}, "augmentation.gain_db: expected less than"),
        ({"augmentation": {"snr_db": "20,5"}}, "snr_db: expected a range, the lower end first"),
        ({"distill": {"rehearsal": 1000}}, "distill.rehearsal: expected less than or equal to 100"),
        ({"distill": {"learning_rate": 1e30}}, "learning_rate: expected less than or equal to 10"),
        ({"distill": {"learning_rate": True}}, "distill.learning_rate: expected a number"),
        ({"distill": {"num_epochs": 10**9}}, "num_epochs: expected less than or equal to 100000"),
        ({"dataset": "a\nb"}, "dataset: expected a word, of at most 1000 characters"),
        ({"out": ""}, "out: expected a word"),
        ({"k": True}, "k: expected no truth value"),
        ({"distill": {"schedule": "zigzag"}}, "distill.schedule: expected 'one-cycle', 'cosine'"),
        ({"distill": {"batch_size": 1}}, "distill.batch_size: expected greater than or equal to 2"),
    ],
)
def test_bad_settings_name_their_key(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.load(values)


@pytest.mark.parametrize("key", ["k", "seed", "teacher_model", "student_model", "loss"])
@pytest.mark.parametrize("nothing", ["", " , ", [], None])
def test_lists_that_a_run_needs_are_not_empty(key: str, nothing: object) -> None:
    with pytest.raises(SettingsError, match=f"{key}: "):
        Settings.load({key: nothing})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("k", "1,1"), ("seed", [0, 0]), ("teacher_model", "population,population")),
        *(("student_model", "cnn,cnn"), ("loss", "dist,dist"), ("baseline", "svm,svm")),
        *(("fold", "1,2,1"), ("subjects", "a,b,a")),
    ],
)
def test_lists_name_each_thing_once(key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"{key}: expected values that are each named once"):
        Settings.load({key: value})


@pytest.mark.parametrize("key", ["fold", "subjects", "baseline"])
def test_lists_of_what_is_chosen_may_be_empty(key: str) -> None:
    assert getattr(Settings.load({key: ""}), key) == ()


def test_a_section_that_is_null_is_one_line_below_a_flag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("augmentation:\n")
    words = ["run", "--config", str(path), "--augmentation.gain-db", "1"]
    line = refused(capsys, monkeypatch, *words)
    assert line == "myodistill: augmentation: expected options below it, got None"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "tinny"], "unknown dataset 'tinny': did you mean tiny"),
        (["--dataset", "tiny", "--k", "1", "--fold", "9"], "fold: expected 1 to 5"),
        (["--dataset", "tiny", "--teacher-model", "x"], "unknown model 'x'"),
        (["--dataset", "tiny", "--teacher-model", "cnn@x"], "unknown representation 'x'"),
        (["--dataset", "tiny", "--student-model", "tcn-10k@spectrogram"], "a way of its own"),
        (["--dataset", "tiny", "--baseline", "svm@band-power"], "unknown model 'svm'"),
        (["--dataset", "tiny", "--temp", "hot"], "temperature: expected a valid number"),
        (["--dataset", "3dc"], "expected '3DCDataset*' (a zip or a folder)"),
        (["--config", "absent.yaml"], "absent.yaml: expected a settings file"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    assert message in refused(capsys, monkeypatch, "run", *words)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_bad_yaml_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str,
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    assert "bad.yaml: expected" in refused(capsys, monkeypatch, "run", "--config", str(path))


COMMANDS = [
    *(["report"], ["table"], ["figure", "paired-slopes"], ["study"], ["deploy-report"]),
    *(["export", "--to", "c"], ["data", "inspect"], ["data", "prepare"], ["data", "fetch"]),
    *(["run", "--fold", "9", "--config"], ["tune", "--config"], ["run", "--dataset"]),
    *(["models", "--geometry"], ["models", "--deployable", "--geometry"], ["models", "--format"]),
    *(["evaluate"], ["nonsense"], ["run", "--nonsense"], ["figure"], ["run", "--distill", "1"]),
]


@pytest.mark.parametrize("place", ["missing", "empty", "folder", "junk", "long", "two lines"])
@pytest.mark.parametrize("suffix", ["", ".yaml", ".zip"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_refuses_nonsense_in_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    place: str,
    suffix: str,
) -> None:
    names = {"long": "x" * 5000, "two lines": "a\nb"}
    path = tmp_path / f"{names.get(place, place)}{suffix}"
    if place == "folder":
        path.mkdir()
    elif place in ("empty", "junk"):
        path.write_bytes(bytes(range(256)) if place == "junk" else b"")
    before = set(tmp_path.rglob("*"))
    assert len(refused(capsys, monkeypatch, *words, str(path))) < 500
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_that_may_not_be_read_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr(registry, "open_dataset", refuse)
    line = refused(capsys, monkeypatch, "data", "inspect", "there")
    assert line == "myodistill: there: expected to read there, got: Permission denied"


def test_a_run_that_is_stopped_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run_experiment", stop)
    code, _, err = call(capsys, monkeypatch, "run")
    assert code == 130
    assert err.strip() == "myodistill: stopped; the same command resumes from here"


def damage(path: Path, kind: str) -> None:
    rows = path.read_text().splitlines()
    if kind == "truncated":
        path.write_text("\n".join(rows[:40]))
    elif kind == "empty":
        path.write_text("")
    elif kind == "channels":
        path.write_text("\n".join(row.rsplit(",", 1)[0] for row in rows))
    elif kind == "nan":
        path.write_text("\n".join(["nan" + rows[0][rows[0].index(",") :], *rows[1:]]))
    else:
        path.write_text("\n".join("7" + row[row.index(",") :] for row in rows))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "expected at least 151 samples"),
        ("empty", "empty file"),
        ("channels", "10"),
        ("nan", "expected finite samples"),
        ("flat", "channel 0 is flat"),
    ],
)
def test_a_damaged_recording_is_one_line_and_leaves_results(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    message: str,
) -> None:
    monkeypatch.setenv("MYODISTILL_DATA", str(tmp_path))
    root = write_threedc(tmp_path, subjects=5)
    damage(root / "Participant2/train/EMG/3dc_EMG_gesture_1_4.txt", kind)
    out = tmp_path / "run"
    out.mkdir()
    (out / "results.parquet").write_bytes(b"earlier")
    line = refused(capsys, monkeypatch, "run", "--dataset", "3dc", "--out", str(out), *QUICK)
    assert message in line
    assert "3dc_EMG_gesture_1_4.txt" in line
    assert (out / "results.parquet").read_bytes() == b"earlier"


@pytest.mark.usefixtures("tiny")
def test_output_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refused(
        capsys,
        monkeypatch,
        "run",
        "--dataset",
        "tiny",
        "--out",
        str(tmp_path / "file" / "run"),
        *QUICK,
    )
    assert "expected to write there" in line
    assert "choose another" in line


@pytest.mark.usefixtures("tiny")
def test_a_full_disk_keeps_what_was_finished(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ["run", "--dataset", "tiny", "--out", str(out), *QUICK]
    assert call(capsys, monkeypatch, *words)[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*.safetensors")}
    settings = (out / "settings.json").read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    line = refused(capsys, monkeypatch, *words, "--temp", "5")
    assert "disk is full" in line
    assert {path: path.read_bytes() for path in out.rglob("*.safetensors")} == before
    assert (out / "settings.json").read_bytes() == settings
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_a_real_process_prints_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from myodistill.cli.main import main; main()"]
    done = subprocess.run(
        [*command, "run", "--dataset", "nothing"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_models_exits_with_one_when_a_count_is_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, shown, _ = call(capsys, monkeypatch, "models", "lstm", "--format", "csv")
    assert code == 0
    assert "2320674" in shown
    monkeypatch.setattr(verification, "TOLERANCE", 1e-6)
    assert call(capsys, monkeypatch, "models", "lstm", "--format", "csv")[0] == 1


@pytest.mark.parametrize("words", [["*"], ["[bc]*", "--latency"], ["*", "--deployable"]])
def test_tables_of_models_fit_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    delay = complexity.Latency(123.456, 99.999)
    monkeypatch.setattr(verification, "latency", lambda *_: delay)
    code, shown, _ = call(capsys, monkeypatch, "models", *words)
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 80
    for entry in MODELS.values():
        student = "--deployable" not in words or entry.role == "student"
        if student and fnmatch(entry.name, words[0]):
            assert any(line.split()[:1] == [entry.name] for line in shown.splitlines()), entry.name
    assert "…" not in shown


def test_models_says_where_students_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["models", "gru-10k", "--deployable", "--geometry", "myo", "--format", "csv"]
    code, shown, _ = call(capsys, monkeypatch, *words)
    assert code == 0
    assert (
        shown.splitlines()[0]
        == "geometry,model,parameters,weight_bytes,onnx,int8,c,c-int8,executorch"
    )
    assert "unknown student" in refused(capsys, monkeypatch, "models", "x", "--deployable")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five generated people; the folder of one's student."""
    out = tmp_path_factory.mktemp("trained") / "run"
    values = {"dataset": "tiny", "out": out, "fold": 1, "k": 1, "student_model": "log-power-10k"}
    stages = ("pretrain", "pretrain_student", "finetune", "distill")
    short = {stage: {"num_epochs": 1} for stage in stages}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, "tiny", tiny_people)
        run_experiment(Settings.load(values | short))
    return next(out.glob("fold-1/seed-0/*/k-1/pretrained_distilled*"))


@pytest.mark.usefixtures("tiny")
def test_from_a_run_to_c_and_the_parity_table_in_its_report(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    trained: Path,
) -> None:
    code, shown, _ = call(capsys, monkeypatch, "export", str(trained), "--to", "c-int8")
    assert (code, shown) == (0, f"c-int8: {trained / 'c-int8'}\n")
    assert r'MD_UNIT "\302\265V"' in (trained / "c-int8" / "md.h").read_text()  # µV in UTF-8
    rules: list[float] = []
    check = parity.deploy_report

    def noted(*arguments: Any, rule: DecisionRule, **options: Any) -> Any:
        rules.append(rule.threshold)
        return check(*arguments, rule=rule, **options)

    monkeypatch.setattr(parity, "deploy_report", noted)
    monkeypatch.setattr(shutil, "which", lambda _: None)  # no compiler: those forms are lacking
    rule = ["--reject-below", "0.9999"]
    code, shown, _ = call(capsys, monkeypatch, "deploy-report", str(trained), *rule)
    assert code == 0
    assert max(map(len, shown.split("parity table:")[0].splitlines())) <= 80
    assert rules == [0.9999]
    assert "got both" in refused(
        capsys, monkeypatch, "deploy-report", str(trained), *rule, "--withhold", "0.1"
    )
    assert "gcc: expected it on this machine" in " ".join(shown.split())
    run = trained.parents[4]
    assert call(capsys, monkeypatch, "report", str(run))[0] == 0
    assert "log-power-10k</span></caption>" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({}, ["--to", "onxx"], "unknown target 'onxx': did you mean onnx"),
        ({}, ["--to", "litert"], "target: LiteRT is not supported, as it needs"),
        ({"format": 1}, ["--to", "c"], "expected bundle format 2, got 1; run again"),
        ({"origin": {}}, ["--to", "c"], "expected a student calibrated for a person"),
        ({"split": "0"}, ["--to", "c"], "expected the split 0 that it was trained on"),
        ({"fold": None}, ["--to", "int8"], "expected a bundle that says its fold"),
        ({"k": None}, ["--to", "int8"], "expected a bundle that says its k"),
        ({"k": "1"}, ["--to", "int8"], "k: expected a whole number from 0, got '1'"),
        ({"seen": []}, ["--to", "c"], "pre-processing that saw"),
        ({"unit": "mV"}, ["--to", "c"], "electrodes, rate, unit and gestures that it was trained"),
        ({}, ["--to", "c", "--reject-below", "2"], "threshold: expected a share from 0 to 1"),
        ({}, ["--to", "c", "--reject-below", "0.5", "--withhold", "0.1"], "got both"),
        ({"model": "tcn-10k"}, ["--to", "c"], "expected a complete bundle"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_a_bundle_that_cannot_leave_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trained: Path,
    change: dict[str, Any],
    words: list[str],
    message: str,
) -> None:
    bundle, out = tmp_path / "bundle", tmp_path / "out"
    shutil.copytree(trained, bundle)
    card = json.loads((bundle / "bundle.json").read_text())
    for key, value in change.items():
        place = card["origin"] if key in card["origin"] else card
        place[key] = value
        if value is None:
            del place[key]
    card["card_sha256"] = card_hash(card)
    (bundle / "bundle.json").write_text(json.dumps(card))
    words = [*words, "--dataset", "tiny", "--out", str(out)]
    line = refused(capsys, monkeypatch, "export", str(bundle), *words)
    assert message in line
    assert not out.exists()


@pytest.mark.usefixtures("tiny")
def test_unsure_decisions_are_withheld(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trained: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    words = ["export", str(trained), "--to", "c", "--out", str(tmp_path / "c")]
    assert call(capsys, monkeypatch, *words)[2] == ""  # there is rest among the gestures
    code, shown, _ = call(capsys, monkeypatch, *words, "--withhold", "0.2")
    assert code == 0
    assert "confident are withheld" in shown
    header = (tmp_path / "c" / "md.h").read_text()
    assert 0.1 < float(header.partition("MD_THRESHOLD ")[2].split("f")[0]) < 1
    call(capsys, monkeypatch, *words, "--reject-below", "0.75")
    assert "#define MD_THRESHOLD 0.75f\n" in (tmp_path / "c" / "md.h").read_text()


@pytest.mark.usefixtures("tiny")
def test_a_bundle_asks_where_its_recordings_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trained: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    words = ["export", str(trained), "--to", "c", "--out", str(tmp_path / "c")]
    monkeypatch.setitem(registry.DATASETS, "tiny", partial(tiny_people, seed=5))
    line = refused(capsys, monkeypatch, *words)
    assert "'tiny' has others or changed ones; name the right one with --dataset" in line
    assert call(capsys, monkeypatch, *words, "--dataset", "tiny")[0] == 0
    monkeypatch.delitem(registry.DATASETS, "tiny")
    line = refused(capsys, monkeypatch, *words)
    assert "expected the dataset 'tiny' that it was trained on, there is none here" in line


@pytest.mark.usefixtures("tiny")
def test_a_run_is_scored_while_its_students_adapt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trained: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    run = trained.parents[4]
    words = ["evaluate", "adaptation", str(run), "--method", ",".join(METHODS)]
    code, shown, _ = call(capsys, monkeypatch, *words)
    assert code == 0
    assert max(map(len, shown.splitlines()[:-3])) <= 80
    frame = adaptation_results.read(run / adaptation_results.FILE)
    assert set(frame["method"]) == {"static", *METHODS}
    assert set(frame["stream"]) == set(STREAMS)
    scores = pd.read_parquet(run / "results.parquet").set_index(["stage", "subject"])["accuracy"]
    recorded = frame[(frame["stream"] == "recorded") & (frame["method"] == "static")]
    for subject, accuracy in zip(recorded["subject"], recorded["accuracy"], strict=True):
        assert accuracy == pytest.approx(scores["pretrained_distilled", subject], abs=0.01)
    assert "| 1 | recorded |" in (run / "adaptation.md").read_text()
    assert (run / "figures" / "accuracy-in-use.png").stat().st_size > 1000
    assert call(capsys, monkeypatch, "report", str(run))[0] == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "log-power-10k: common-shift against static" in page
    assert "Accuracy in use." in page

    for words, wanted in (
        ([str(run), "--k", "3"], "there are none of any model at K=3"),
        ([str(run), "--student-model", "cnn"], "there are none of cnn at K=any"),
        ([str(run), "--method", "common"], "did you mean common-shift"),
        ([str(run), "--k", "x"], "expected whole numbers"),
        ([str(tmp_path)], "of a finished run, there are none"),
    ):
        assert wanted in refused(capsys, monkeypatch, "evaluate", "adaptation", *words)


def test_ranges_are_found_on_whole_calibration_recordings(trained: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, "tiny", tiny_people)
        subject_data = SubjectData.of(Bundle.load(trained))
        every, known = subject_data.ranges, subject_data.calibration
    between = every.take(np.flatnonzero(every.labels < 0))
    assert len(between)
    assert len(every) == len(known) + len(between)
    assert every.seen() == known.seen() == subject_data.split.calibration(subject_data.subject, 1)
    begins = np.cumsum([0, *(len(r.signal) for r in subject_data.recordings)])
    for begin, recording in zip(begins, subject_data.recordings, strict=False):
        for note in recording.annotations:
            if Repetition(subject_data.subject, recording.session, note.repetition) in known.seen():
                continue
            inside = every.starts + every.samples > begin + note.start
            inside &= every.starts < begin + note.stop
            assert not inside.any()


@pytest.mark.slow
def test_processes_give_the_same_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = people.write(tmp_path / "data", people.record(subjects=3, repetitions=1))
    words = [
        "run",
        "--dataset",
        str(data),
        "--teacher-model",
        "population",
        "--seed",
        "0,1",
        *QUICK,
    ]
    made, started = [], []

    def pool(processes: int) -> ProcessPoolExecutor:
        started.append(processes)
        return worker_pool(processes)

    monkeypatch.setattr(local, "worker_pool", pool)
    for processes in ("1", "2"):
        out = tmp_path / processes
        code, _, err = call(
            capsys, monkeypatch, *words, "--out", str(out), "--processes", processes
        )
        assert code == 0, err
        made.append(results.read(out / "results.parquet").drop(columns="seconds"))
    assert set(made[0]["stage"]) >= {"supervised", "pretrained_distilled"}
    pd.testing.assert_frame_equal(made[0], made[1])
    assert started == [2]
