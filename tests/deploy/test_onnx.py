"""An exported student says what the bundle says, and runs where there is no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoding import STEP, bundle, positions, recording

from myodistill.bundle import Bundle
from myodistill.deploy import onnx as export
from myodistill.deploy.onnx import compare, to_onnx, write_onnx
from myodistill.deploy.targets import deployable
from myodistill.errors import BundleError, ModelError
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.runtime import OnnxModel
from myodistill.signals.filters import apply
from myodistill.signals.windows import Windows

SIGNAL = recording(3, 4, seed=1)


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle()


@pytest.fixture(scope="module")
def exported(student: Bundle) -> bytes:
    return bytes(to_onnx(student).SerializeToString())


def filtered(student: Bundle, signal: np.ndarray = SIGNAL) -> Windows:
    assert student.preprocessing is not None
    return positions(apply(student.preprocessing.sections(), signal), student.spec)


def test_same_logits_and_decisions(student: Bundle, exported: bytes) -> None:
    model = OnnxModel.load(exported)
    assert compare(student, model, filtered(student)) < 1e-4
    ours = Decoder(student, step=STEP).push(SIGNAL)
    theirs = Decoder(model, step=STEP).push(SIGNAL)
    assert [d.gesture for d in ours] == [d.gesture for d in theirs]


def test_metadata(student: Bundle, exported: bytes) -> None:
    model = OnnxModel.load(exported)
    assert (model.spec, model.origin) == (student.spec, student.origin)
    assert (model.unit, model.step, model.rule) == ("mV", STEP, student.rule)
    ours, theirs = student.preprocessing, model.preprocessing
    assert ours is not None
    assert np.array_equal(ours.matrix, theirs.matrix)
    assert ours.seen == theirs.seen
    catalogued = replace(student, origin={**student.origin, "dataset": "3dc"})
    assert export.metadata(catalogued)["unit"] == "mV"  # the bundle knows, no list does


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        ("tcn-10k", 1),
        ("log-power-30k", 8),
        ("cnn@band-power", 1),
        pytest.param("cnn@band-power", 8, marks=pytest.mark.slow),  # scaled, not whitened
        pytest.param("cnn@spectrogram", 8, marks=pytest.mark.slow),
        pytest.param("cnn@log-covariance", 8, marks=pytest.mark.slow),
        pytest.param("lstm@band-power", 1, marks=pytest.mark.slow),
        pytest.param("log-covariance-10k", 1, marks=pytest.mark.slow),
        pytest.param("log-covariance-10k", 8, marks=pytest.mark.slow),  # pooled
        pytest.param("log-covariance-30k", 1, marks=pytest.mark.slow),
    ],
)
def test_other_students(model: str, rows: int, tmp_path: Path) -> None:
    other = bundle(model, channels=8 * rows, rows=rows, epochs=1)
    assert deployable(model, other.spec)["onnx"] is None
    signal = recording(3, 8 * rows, seconds=0.2)
    assert write_onnx(other, tmp_path / "x.onnx", filtered(other, signal)) < 1e-3


def test_runs_without_torch_and_scipy(exported: bytes, tmp_path: Path) -> None:
    (tmp_path / "student.onnx").write_bytes(exported)
    np.save(tmp_path / "signal.npy", SIGNAL[:300])
    script = """
import json, sys
from pathlib import Path
sys.modules |= {"torch": None, "scipy": None}
import numpy as np
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.runtime import OnnxModel
decoder = Decoder(OnnxModel.load(Path("student.onnx")), step=50)
decisions = decoder.push(np.load("signal.npy"))
heavy = {"sklearn", "pandas", "onnx"} & set(sys.modules)
print(json.dumps([[one.prediction for one in decisions], sorted(heavy)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    expected = Decoder(OnnxModel.load(exported), step=50).push(SIGNAL[:300])
    assert json.loads(done.stdout) == [[one.prediction for one in expected], []]


def test_says_what_is_not_installed() -> None:
    script = """
import sys
sys.modules["onnxruntime"] = None
from myodistill.errors import ToolError
try:
    import myodistill.realtime.runtime
except ToolError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(
        "onnxruntime: expected it to be installed, it is not; pip install"
    )


def test_bad_input(student: Bundle, exported: bytes, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="person's pre-processing"):
        to_onnx(replace(student, preprocessing=None))
    for content in (exported[:2000], b""):
        with pytest.raises(BundleError, match="expected an exported student") as caught:
            OnnxModel.load(content)
        assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="expected an exported student"):
        OnnxModel.load(tmp_path / "absent.onnx")
    with pytest.raises(BundleError, match="update myodistill"):
        OnnxModel.load(exported.replace(b"\n\x06format\x12\x012", b"\n\x06format\x12\x019"))


def test_refuses_what_onnx_cannot_say(tmp_path: Path) -> None:
    teacher = bundle("covariance", epochs=0)
    with pytest.raises(ModelError, match="covariance: expected operators that ONNX has") as caught:
        write_onnx(teacher, tmp_path / "x.onnx", filtered(teacher))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_writes_nothing_that_is_not_equal(
    student: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "compare", lambda *_: 0.5)
    with pytest.raises(ModelError, match=r"off by 0\.5"):
        write_onnx(student, tmp_path / "x.onnx", filtered(student))
    assert not list(tmp_path.iterdir())
