"""One door for every target; nothing is written where it fails."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from decoding import STEP, bundle, positions, recording

from myodistill.bundle import Bundle
from myodistill.decision_rule import DecisionRule
from myodistill.deploy import installed
from myodistill.deploy.executorch import METADATA, PROGRAM, write_executorch
from myodistill.deploy.export import export
from myodistill.deploy.rejection import rejection_threshold
from myodistill.deploy.targets import EXPORTERS, TARGETS, deployable, fits, render
from myodistill.errors import (
    BundleError,
    DataError,
    ModelError,
    OutputError,
    SettingsError,
    ToolError,
)
from myodistill.realtime.runtime import OnnxModel
from myodistill.signals.filters import apply
from myodistill.signals.windows import Windows


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle(epochs=5)


def calibration(student: Bundle) -> Windows:
    assert student.preprocessing is not None
    return positions(apply(student.preprocessing.sections(), recording(3, 4)), student.spec)


@pytest.mark.parametrize("to", sorted(set(TARGETS) - {"executorch"}))
def test_writes_each_target(student: Bundle, to: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rule = DecisionRule(threshold=0.75)
    export(student, to, out, windows=calibration(student), step=50, rule=rule)
    if to.startswith("c"):
        assert {"md.h", "md.c", "md_model.h"} <= {path.name for path in out.iterdir()}
        header = (out / "md.h").read_text()
        for line in (f"INT8 {int(to == 'c-int8')}", "THRESHOLD 0.75f", "STEP 50", 'UNIT "mV"'):
            assert f"#define MD_{line}\n" in header
    else:
        model = OnnxModel.load(out)
        assert (model.spec, model.step, model.rule) == (student.spec, 50, rule)


def test_executorch_is_an_extra(
    student: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == "executorch" else name)
    with pytest.raises(ToolError, match=r"executorch: .* pip install 'myodistill\[executorch\]'"):
        export(student, "executorch", tmp_path / "out", windows=calibration(student))
    monkeypatch.setattr(installed, "find_spec", lambda name: name)
    other = bundle("gru-10k", epochs=0)
    with pytest.raises(ModelError, match="gru-10k: expected a student without recurrent layers"):
        export(other, "executorch", tmp_path / "out", windows=calibration(other))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["log-power-10k", "cnn-10k", "tcn-10k", "cnn"])
def test_executorch(model: str, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    other = bundle(model, epochs=1)
    assert deployable(model, other.spec)["executorch"] is None
    assert write_executorch(other, tmp_path / "out", calibration(other)) < 1e-4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {PROGRAM, METADATA}
    stored = json.loads((tmp_path / "out" / METADATA).read_text())
    assert stored["labels"] == '["a", "b", "c"]'


def test_bad_input(student: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SettingsError, match="unknown target 'onxx': did you mean onnx"):
        export(student, "onxx", out)
    with pytest.raises(SettingsError, match="LiteRT is not supported"):
        export(student, "litert", out)
    with pytest.raises(SettingsError, match="step: expected"):
        export(student, "c", out, step=0)
    for to in ("onnx", "int8", "c-int8", "executorch"):
        with pytest.raises(DataError, match=f"{to}: expected calibration windows"):
            export(student, to, out, step=STEP)
    other = bundle("tcn-10k", epochs=0)
    for to in ("int8", "c-int8"):
        with pytest.raises(ModelError, match="tcn-10k: expected a log-power or log-cov"):
            export(other, to, out, windows=calibration(other), step=STEP)
    assert not list(tmp_path.iterdir())


def test_says_before_training_what_runs_where(student: Bundle) -> None:
    spec = student.spec
    assert set(deployable("log-power-10k", spec).values()) == {None}
    assert deployable("tcn-10k", spec)["onnx"] is None
    assert deployable("covariance", spec)["onnx"] == "no matrix logarithm"
    for name in ("log-covariance-30k", "log-covariance-10k", "log-covariance-linear"):
        runs = deployable(name, spec)
        assert runs.pop("executorch") == "matrix logarithm untested"
        assert set(runs.values()) == {None}
    assert deployable("gru-10k", spec)["int8"] == "only log-power and log-covariance students"
    assert deployable("gru-10k", spec)["c"] is None


def test_does_not_vouch_for_the_exporter_of_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPORTERS._entries, "chip", lambda bundle, out, **_: None)
    (fit,) = fits("myo", "log-power-10k")
    assert fit.targets["c"] == "yes"
    assert fit.targets["chip"] == "its exporter decides"
    assert "its exporter decides" in render([fit])


def test_lists_where_students_run() -> None:
    table = fits("myo", "*-10k")
    by_name = {fit.model: fit.targets for fit in table}
    assert set(by_name["log-power-10k"].values()) == {"yes"}
    assert by_name["gru-10k"]["onnx"] == by_name["gru-10k"]["c"] == "yes"
    assert by_name["gru-10k"]["executorch"] == "recurrent layers unroll"
    assert by_name["gru-10k"]["int8"].startswith("only log-power")
    records = json.loads(render(table, "json"))
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    text, page = render(table), render(table, "markdown")
    for fit, record, line in zip(table, records, lines, strict=True):
        assert {**fit.targets, "model": fit.model}.items() <= record.items()
        assert line["c-int8"] == record["c-int8"]
        assert fit.model in text
        assert f"| {fit.model} | {fit.parameters:,} |" in page
    with pytest.raises(ModelError, match="unknown student 'covariance'"):
        fits("myo", "covariance")
    with pytest.raises(SettingsError, match="unknown geometry 'myoo': did you mean myo"):
        fits("myoo")


def test_says_what_is_not_installed() -> None:
    script = """
import sys
sys.modules["onnx"] = None
from pathlib import Path
from myodistill.cli import main as cli
from myodistill.deploy.export import export
from myodistill.errors import ToolError
try:
    export(None, "c", Path("out"), step=1)
except ToolError as error:
    print(error)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "onnx: expected it to be installed, it is not; pip install 'myodistill[export]'\n"
    )


def spoiled(student: Bundle, value: float) -> Bundle:
    """The student with one weight of its last layer replaced."""
    network = deepcopy(student.network)
    with torch.no_grad():
        list(network.parameters())[-1][0] = value
    return replace(student, network=network)


@pytest.mark.parametrize("to", sorted(set(TARGETS) - {"executorch"}))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_what_has_diverged(student: Bundle, to: str, value: float, tmp_path: Path) -> None:
    broken, windows = spoiled(student, value), calibration(student)
    with pytest.raises(ModelError, match="expected finite logits, got others on the calibration"):
        export(broken, to, tmp_path / "out", windows=windows)
    if to == "c":
        with pytest.raises(ModelError, match="expected finite weights"):
            export(broken, to, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_activation_beyond_every_number_is_refused(student: Bundle, tmp_path: Path) -> None:
    """The weights are finite, what they give is not."""
    network = deepcopy(student.network)
    with torch.no_grad():
        for weights in list(network.parameters())[-2:]:
            weights.fill_(3e38)
    with pytest.raises(ModelError, match="expected finite logits"):
        export(replace(student, network=network), "c", tmp_path / "out",
               windows=calibration(student))  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["onnx", "int8", "c"])
def test_a_full_disk_is_one_line_and_the_old_export_stays(
    student: Bundle, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export(student, to, out, windows=calibration(student))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full") as caught:
        export(student, to, out, windows=calibration(student), step=50)
    assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_killed_while_writing_it_leaves_no_part(student: Bundle, tmp_path: Path) -> None:
    student.save(tmp_path / "bundle")
    script = """
import os, signal, sys
from pathlib import Path
from myodistill import files
from myodistill.bundle import Bundle
from myodistill.deploy.plain_c import to_c
written = []
fsync = os.fsync
def kill(handle):
    written.append(handle)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
files.os.fsync = kill
to_c(Bundle.load(Path("bundle"))).write(Path("out"))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    export(student, "c", tmp_path / "out")
    assert {"md.h", "md.c", "md_model.h"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_a_threshold_withholds_the_share_that_is_wanted(student: Bundle, share: float) -> None:
    windows = calibration(student)
    threshold = rejection_threshold(student, windows, share)
    logits = student.logits(windows).astype(float)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    withheld = np.mean(confidence < threshold - 1e-9)
    assert share - 1.5 / len(windows) <= withheld <= share
    with pytest.raises(SettingsError, match="withhold: expected a share"):
        rejection_threshold(student, windows, 1.0)
    with pytest.raises(DataError, match="withhold: expected windows"):
        rejection_threshold(student, windows.take(np.arange(0)), share)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "", "x" * 5000])
def test_a_name_that_no_file_can_hold_is_refused(
    student: Bundle, name: str, tmp_path: Path
) -> None:
    odd = replace(student, spec=replace(student.spec, gestures=(name, "b", "c")))
    for to in ("onnx", "int8", "c"):
        with pytest.raises(BundleError, match="gesture: expected") as caught:
            export(odd, to, tmp_path / "out", windows=calibration(student))
        assert str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())
