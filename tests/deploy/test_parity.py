"""The parity table: every form of a student beside its reference, or why there is none."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from decoding import STEP, bundle, positions, recording
from rich.console import Console

from myodistill.bundle import Bundle
from myodistill.datasets.recording import Annotation, Recording
from myodistill.decision_rule import DecisionRule
from myodistill.deploy import generated, parity_check
from myodistill.deploy.parity import deploy_report
from myodistill.deploy.parity_table import DeployedForm, ParityTable
from myodistill.errors import DataError, LeakageError, ModelError, OutputError
from myodistill.signals.filters import apply
from myodistill.signals.windows import Windows

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")


def take(student: Bundle, seed: int, *, session: str = "test") -> Recording:
    signal = recording(3, 4, seed=seed)
    third = len(signal) // 3
    notes = tuple(Annotation(g * third, (g + 1) * third, g, 0) for g in range(3))
    spec = student.spec
    rate, names = spec.sampling_rate, spec.gestures
    return Recording("nobody", session, signal, rate, spec.electrodes, names, notes)


def calibration(student: Bundle) -> Windows:
    assert student.preprocessing is not None
    return positions(apply(student.preprocessing.sections(), recording(3, 4)), student.spec)


def report(student: Bundle, seeds: tuple[int, ...] = (5, 6)) -> ParityTable:
    takes = [take(student, seed) for seed in seeds]
    return deploy_report(student, takes, calibration(student), step=STEP, emulated=40)


@pytest.mark.slow
@needs_gcc
def test_a_student_that_every_target_runs(tmp_path: Path) -> None:
    parity_table = report(bundle())
    by_name = {form.name: form for form in parity_table.forms}
    assert next(iter(by_name)) == "PyTorch"
    for name in ("PyTorch", "ONNX", "ONNX int8", "C float", "C int8"):
        form = by_name[name]
        assert form.reason is None
        assert form.accuracy is not None
        assert form.accuracy > 0.8
        assert (form.windows, form.decisions) == (2 * 3 * 21, 2 * 69)
        assert form.median is not None
        assert form.p99 is not None
        assert form.median <= form.p99
    assert by_name["ONNX"].equal == by_name["C float"].equal == by_name["C int8"].equal == 1
    assert by_name["PyTorch"].equal is None
    for name in ("C float, Cortex-M4F", "C int8, Cortex-M4F"):
        form = by_name[name]
        if form.reason is None:
            assert (form.equal, form.accuracy, form.decisions) == (1, None, 69)
            assert form.flash is not None
            assert form.weights is not None
            assert form.weights < form.flash < 50_000
    sizes = [by_name[name].weights or 0 for name in ("C int8", "C float", "PyTorch")]
    assert sizes == sorted(sizes)
    parity_table.write(tmp_path / "parity.json")
    stored = json.loads((tmp_path / "parity.json").read_text())
    assert [form["name"] for form in stored["forms"]] == list(by_name)
    assert ParityTable.read(tmp_path / "parity.json") == parity_table
    console = Console(width=80, record=True)
    console.print(parity_table.table())
    shown = console.export_text()
    assert "accuracy %" in shown
    assert "in float stay" in shown


def test_every_form_fits_a_terminal_of_80_columns() -> None:
    names = ["PyTorch", "ONNX", "ONNX int8"]
    names += [f"C {kind}{chip}" for kind in ("float", "int8") for chip in ("", ", Cortex-M4F")]
    numbers = {
        "accuracy": 1.0, "difference": 1.2e-5, "equal": 1.0, "weights": 9_999_900,
        "flash": 999_900, "ram": 999_900, "stack": 9_900, "median": 0.0123, "p99": 0.9999,
        "instructions": 99_990_000.0, "microjoules": 9999.0,
    }  # fmt: skip
    forms = tuple(DeployedForm(name, "PyTorch", **numbers) for name in names)  # type: ignore[arg-type]
    console = Console(width=80, record=True)
    console.print(ParityTable("log-power-30k", {}, forms, (), 1.0).table())
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    for cell in ("1.2e-05", "99.99", "9999", "999.900", "9999.9"):
        assert sum(line.split().count(cell) for line in lines) == len(names), cell


def test_names_what_a_student_cannot_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "find_spec", lambda _: None)
    parity_table = report(bundle("tcn-10k", epochs=1), seeds=(5,))
    reasons = {form.name: form.reason for form in parity_table.forms}
    assert reasons["PyTorch"] is reasons["ONNX"] is None
    assert "stays in float" in str(reasons["ONNX int8"])
    assert "emx-onnx-cgen: expected it to be installed" in str(reasons["C float"])
    assert reasons["C int8, Cortex-M4F"] == reasons["ONNX int8"]
    assert not parity_table.operators


def test_says_what_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    parity_table = report(bundle(epochs=1), seeds=(5,))
    reasons = {form.name: form.reason for form in parity_table.forms}
    assert "gcc: expected it on this machine" in str(reasons["C float"])
    assert "arm-none-eabi-gcc: expected it" in str(reasons["C int8, Cortex-M4F"])


def test_scores_nothing_that_was_seen() -> None:
    student = bundle(epochs=0)
    seen = take(student, 5, session="a")
    with pytest.raises(LeakageError, match="log-power-10k never saw"):
        deploy_report(student, [seen], calibration(student), step=STEP)


def test_needs_a_labelled_window() -> None:
    student = bundle(epochs=0)
    unlabelled = take(student, 5)
    object.__setattr__(unlabelled, "annotations", (Annotation(0, 50, 0, 0),))
    with pytest.raises(DataError, match="expected recordings with a labelled window"):
        deploy_report(student, [unlabelled], calibration(student), step=STEP)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Invalid JSON"),
        ("{}", "model: Field required"),
        ('{"model": "m", "origin": {}, "forms": [{"name": "C", "reference": null, "flash": "x"}],'
         ' "operators": [], "load": 0}', r"forms\.0\.flash: Input should be a valid integer"),
    ],
)  # fmt: skip
def test_a_damaged_parity_table_is_one_line(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "parity.json").write_text(content)
    with pytest.raises(
        DataError, match=rf"expected the parity table of a student, got: {reason}"
    ) as got:
        ParityTable.read(tmp_path / "parity.json")
    assert "\n" not in str(got.value)


@pytest.mark.slow
def test_says_that_there_is_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    student = bundle(epochs=1)
    assert report(student, seeds=(5,)).notes()[0].startswith("no rest among the gestures")
    resting = replace(student.spec, gestures=("Rest", "b", "c"))
    assert report(replace(student, spec=resting), seeds=(5,)).cautions == ()
    withheld = report(replace(student, rule=DecisionRule(threshold=0.9)), seeds=(5,))
    assert withheld.cautions == ()


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    student = bundle(epochs=1)
    monkeypatch.setattr(parity_check, "decode_on_host", full)
    with pytest.raises(OutputError, match=r"temporary folder: .*; the disk is full") as caught:
        report(student, seeds=(5,))
    assert "\n" not in str(caught.value)


def test_refuses_what_has_diverged() -> None:
    student = bundle(epochs=0)
    with torch.no_grad():
        list(student.network.parameters())[-1][0] = np.nan
    with pytest.raises(ModelError, match="log-power-10k: expected finite logits"):
        report(student, seeds=(5,))
