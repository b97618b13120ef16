"""The public interface: lazy, documented, and enough for three evenings."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import decoding
import numpy as np
import people
import pytest

import myodistill as md
from myodistill.config import Settings
from myodistill.datasets import registry
from myodistill.datasets.recording import Annotation, Recording
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import BundleError, DataError, MyoDistillError, SettingsError
from myodistill.signals.filters import apply
from myodistill.signals.preprocessing import filtered, filtered_windows

EXAMPLES = Path(__file__).parents[1] / "examples"
QUICK = {
    "k": [1],
    "fold": [1],
    "student_model": ["log-power-10k"],
    "teacher_model": ["population"],
    "pretrain_student": {"num_epochs": 1},
    "distill": {"num_epochs": 1},
}


def test_importing_takes_nothing_with_it() -> None:
    code = "import sys, myodistill; print(*sorted({'torch', 'pandas', 'numpy'} & {*sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("name", md.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(md, name)
    assert name in dir(md)
    if name != "__version__":
        assert inspect.getdoc(found)
        assert not isinstance(found, type(md))


@pytest.mark.parametrize("name", ["load_dataset", "run", "pretrain", "calibrate", "export",
                                  "Population", "EMGClassifier", "DistilledClassifier"])  # fmt: skip # noqa: E501
def test_the_main_names_show_an_example(name: str) -> None:
    assert "Example:" in (inspect.getdoc(getattr(md, name)) or "")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'calibrat'"):
        md.calibrat  # noqa: B018


def test_the_package_is_a_command() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "myodistill", "data", "show", "nothing"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stdout == ""


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        registry.DATASETS, "tiny", lambda: Synthetic(subjects=5, seconds=0.6, repetitions=2)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_run_by_the_name_of_a_dataset(tmp_path: Path) -> None:
    done = md.run("tiny", out=tmp_path / "run", **QUICK)
    assert set(done.table.stage) >= {"baseline", "finetune", "pretrained_distilled"}
    assert done.report() == tmp_path / "run" / "report.html"
    assert done.report().stat().st_size > 10_000
    key = ("Person1", 1, "pretrained_distilled-log-power-10k")
    assert key in done.bundles
    bundle = done.bundles[key]
    test = next(r for r in md.load_dataset("tiny").recordings("Person1") if r.session == "test")
    assert len(bundle.predict(test)) == len(md.Decoder.from_bundle(bundle).push(test.signal))
    with pytest.raises(BundleError, match="unknown bundle"):
        done.bundles["Person1", 2, "nothing"]


def settings_of(monkeypatch: pytest.MonkeyPatch, *args: Any, **more: Any) -> dict[str, Any]:
    """What a run would be told."""
    told: list[Settings] = []
    monkeypatch.setattr("myodistill.api.run_experiment", told.append)
    monkeypatch.setattr("myodistill.api.read_run", lambda folder: None)
    md.run(*args, **more)
    return told[0].model_dump()


def test_settings_come_in_many_forms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    described = people.write(tmp_path / "own", people.record(subjects=1))
    written = tmp_path / "run.yaml"
    written.write_text("dataset: myo\ndistill:\n  num_epochs: 7\n  batch_size: 9\n")

    def told(*args: Any, **more: Any) -> dict[str, Any]:
        return settings_of(monkeypatch, *args, **more)

    assert told()["dataset"] == "synthetic"
    assert told("3dc")["dataset"] == "3dc"
    assert told(str(described))["dataset"] == str(described)
    assert told(described)["dataset"] == str(described)
    for base in (written, str(written), {"dataset": "myo", "distill": {"num_epochs": 7, "batch_size": 9}}):  # fmt: skip # noqa: E501
        found = told(base, distill={"num_epochs": 5}, k=3)
        assert found["dataset"] == "myo"
        assert found["k"] == (3,)
        assert (found["distill"]["num_epochs"], found["distill"]["batch_size"]) == (5, 9)
    again = Settings.load({"seed": 4, "distill": {"num_epochs": 7}})
    found = told(again, distill={"batch_size": 11})
    assert (found["seed"], found["distill"]["num_epochs"]) == ((4,), 7)
    wrong: Any
    for wrong in (5, ["3dc"]):
        with pytest.raises(SettingsError, match="settings: expected settings, a mapping"):
            md.run(wrong)
    with pytest.raises(SettingsError, match="distill__num_epochs"):
        md.run("synthetic", distill__num_epochs=5)


def test_a_dataset_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean synthetic"):
        md.run("sinthetic", out=tmp_path / "never")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_run(example: Path, tmp_path: Path) -> None:
    """On fewer people and epochs than they are written for: each takes both from its flags."""
    found = subprocess.run(
        [sys.executable, str(example), "--people", "3", "--epochs", "1"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip()


@pytest.fixture(scope="module")
def student() -> md.Bundle:
    return decoding.bundle()


SIGNAL = decoding.recording(3, 4, seed=1)


def recorded(student: md.Bundle) -> Recording:
    spec = student.spec
    third = len(SIGNAL) // 3
    notes = tuple(Annotation(g * third, (g + 1) * third, g, 0) for g in range(3))
    return Recording(
        "me", "today", SIGNAL, spec.sampling_rate, spec.electrodes, spec.gestures, notes,
        student.unit,
    )  # fmt: skip


def test_a_bundle_predicts_what_its_decoder_decides(student: md.Bundle, tmp_path: Path) -> None:
    student.save(tmp_path / "mine")
    for decoder in (md.Decoder.from_bundle(tmp_path / "mine"), md.Decoder.from_bundle(student)):
        decided = [d.prediction for part in np.array_split(SIGNAL, 7) for d in decoder.push(part)]
        assert decided == student.predict(SIGNAL).tolist()
    assert np.array_equal(student.predict(SIGNAL), student.predict(recorded(student)))
    assert np.allclose(student.predict_proba(SIGNAL).sum(axis=1), 1, atol=1e-6)


def test_raw_windows_are_filtered_on_their_way(student: md.Bundle) -> None:
    """A stream's first window is the same in both; with a lead-in, so are all others nearly."""
    spec, step = student.spec, student.step
    starts = np.arange(400, len(SIGNAL) - spec.samples + 1, step)
    first = SIGNAL[: spec.samples].T[None]
    assert np.allclose(student.predict_proba(first), student.predict_proba(SIGNAL)[:1], atol=1e-6)
    stream = student.predict_proba(SIGNAL)[400 // step :]
    apart = []
    for lead in (0, 100, 400):
        raw = np.stack([SIGNAL[at - lead : at + spec.samples].T for at in starts])
        apart.append(float(np.abs(student.predict_proba(raw) - stream).max()))
    assert apart[2] < 1e-3
    assert apart[2] < apart[1] < apart[0]
    many = np.repeat(first, 600, axis=0)  # more than are filtered at once
    assert np.ptp(student.predict_proba(many), axis=0).max() < 1e-6


def test_windows_that_were_not_filtered_so_are_refused(student: md.Bundle) -> None:
    assert student.preprocessing is not None
    sections = student.preprocessing.sections()
    right = filtered([recorded(student)], sections, samples=100, step=25)
    assert np.array_equal(student.predict(right), student.logits(right).argmax(1))
    other = filtered([recorded(student)], sections[:2], samples=100, step=25)
    for wrong, match in (
        (replace(right, signal=SIGNAL, filtered=""), "these are raw"),
        (other, "these went through another"),
        (student.preprocessing.map(right), "these went through another"),
    ):
        with pytest.raises(DataError, match=match):
            student.logits(wrong)
    assert filtered_windows(SIGNAL[None, :100].transpose(0, 2, 1), sections, samples=100).filtered
    assert np.array_equal(right.signal, apply(sections, SIGNAL))


def test_what_no_bundle_can_read_is_told_in_one_line(student: md.Bundle) -> None:
    alike = recorded(student)
    bad = SIGNAL.copy()
    bad[7, 2] = np.nan
    wrong: Any
    for wrong in (
        SIGNAL[:, :3], SIGNAL[:50], SIGNAL[None], SIGNAL[0], bad, "signal", None,
        np.zeros((2, 4, 99)),
        replace(alike, sampling_rate=500.0), replace(alike, unit="µV"),
    ):  # fmt: skip
        with pytest.raises(DataError) as caught:
            student.predict(wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="pre-processing"):
        replace(student, preprocessing=None).predict(SIGNAL)
    assert student.predict_proba(np.zeros((0, 4, 100))).shape == (0, 3)


def test_a_bundle_is_exported(student: md.Bundle, tmp_path: Path) -> None:
    for target in ("c", "c-int8"):
        assert student.export(target, tmp_path / target, [recorded(student)]) == tmp_path / target
        assert list((tmp_path / target).glob("*.c"))
    student.save(tmp_path / "mine")
    md.export(tmp_path / "mine", "onnx", tmp_path / "one.onnx", [recorded(student)])
    assert (tmp_path / "one.onnx").stat().st_size
    with pytest.raises(MyoDistillError, match="calibration windows"):
        student.export("onnx", tmp_path / "two.onnx")
    with pytest.raises(MyoDistillError):
        student.export("abacus", tmp_path / "three")
