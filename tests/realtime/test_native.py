"""A student as a shared library decides as the bundle does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from decoding import STEP, adaptable, bundle, positions, recording
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from myodistill.bundle import Bundle
from myodistill.deploy.export import export
from myodistill.deploy.plain_c import to_c
from myodistill.deploy.shared import write_shared
from myodistill.errors import BundleError, SettingsError, ToolError
from myodistill.realtime.decoder import Decision, Decoder
from myodistill.realtime.native import LIBRARY, METADATA, CModel
from myodistill.realtime.windows import Model
from myodistill.signals.filters import apply

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler on this machine")


@pytest.fixture(scope="module")
def student() -> Bundle:
    return adaptable(bundle(epochs=20))


@pytest.fixture(scope="module")
def folder(student: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("native") / "c"
    export(student, "c", out, step=STEP, shared=True)
    return out


class InPython:
    """A library whose filter and windows are Python's, in place of its own."""

    def __init__(self, model: CModel) -> None:
        self.spec, self.preprocessing, self.adaptation = (
            model.spec,
            model.preprocessing,
            model.adaptation,
        )
        self.step, self.rule, self._infer = model.step, model.rule, model._infer


def decode(
    model: Model, signal: np.ndarray, cuts: Sequence[int], step: int = STEP, *, adapt: bool = False
) -> list[Decision]:
    decoder = Decoder(model, step=step, adapt=adapt)
    edges = [0, *sorted(cuts), len(signal)]
    return [one for a, b in pairwise(edges) for one in decoder.push(signal[a:b])]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cuts=st.lists(st.integers(0, 900), max_size=12),
    step=st.sampled_from([1, STEP, 100, 130, 250]),
    places=st.lists(st.tuples(st.integers(0, 899), st.integers(0, 3)), max_size=3),
    value=st.sampled_from([np.nan, np.inf, -2e15]),
    leading=st.integers(0, 3),
    adapt=st.booleans(),
)
def test_chunks_and_the_filter_in_c_change_nothing(
    folder: Path,
    cuts: list[int],
    step: int,
    places: list[tuple[int, int]],
    value: float,
    leading: int,
    adapt: bool,
) -> None:
    signal = recording(3, 4, seed=1)[:900]
    for sample, channel in places:
        signal[sample, channel] = value
    signal[:leading, 1] = np.nan
    model = CModel.load(folder)
    whole = decode(InPython(model), signal, [], step, adapt=adapt)
    assert decode(model, signal, cuts, step, adapt=adapt) == whole


@pytest.mark.parametrize(
    ("name", "channels", "rows", "samples"),
    [
        ("log-power-10k", 4, 1, 97),
        ("log-covariance-10k", 5, 1, 100),
        ("log-covariance-linear", 10, 1, 151),
        ("log-covariance-linear", 20, 4, 64),  # neighbours are averaged
        ("log-power-10k", 64, 8, 64),
        ("tcn-10k", 4, 1, 100),  # its network is generated
    ],
)
def test_every_network_gives_the_logits_of_the_bundle(
    name: str, channels: int, rows: int, samples: int, tmp_path: Path
) -> None:
    other = bundle(name, channels=channels, rows=rows, samples=samples, epochs=5)
    assert other.preprocessing is not None
    write_shared(other, to_c(other), tmp_path / "c")
    signal = recording(3, channels, seed=2)
    windows = positions(apply(other.preprocessing.sections(), signal), other.spec)
    model = CModel.load(tmp_path / "c")
    np.testing.assert_allclose(model._infer(windows.gather()), other.logits(windows), atol=1e-3)
    found = decode(model, signal, [401])
    assert found == decode(InPython(model), signal, [])
    predicted = other.logits(windows).argmax(axis=1)
    assert np.mean(predicted == [one.prediction for one in found]) >= 0.99


def test_decoders_of_one_library_do_not_meet(folder: Path) -> None:
    model, signals = CModel.load(folder), [recording(3, 4, seed=seed) for seed in (1, 2)]
    decoders = [Decoder(model), Decoder(model)]
    found: list[list[Decision]] = [[], []]
    for begin in range(0, len(signals[0]), 60):
        for decoder, signal, decisions in zip(decoders, signals, found, strict=True):
            decisions += decoder.push(signal[begin : begin + 60])
    assert found == [decode(model, signal, []) for signal in signals]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sections", "[[1,2,3,4,5]]"),
        ("sections", "[]"),
        ("sections", "x"),
        ("sections", None),
        ("sections", "[[1,0,0,1,0,0]]"),
        ("samples", "99"),
    ],
)
def test_a_damaged_filter_is_one_line(
    folder: Path, name: str, value: object, tmp_path: Path
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    stored = json.loads((other / METADATA).read_text(encoding="utf-8")) | {name: value}
    (other / METADATA).write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(BundleError, match=r"export (it|the bundle) again") as caught:
        CModel.load(other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("chunk", [1, 37, 100_000])
def test_decides_as_the_bundle_does(student: Bundle, folder: Path, adapt: bool, chunk: int) -> None:
    signal = np.concatenate([recording(3, 4, seconds=0.6, seed=seed) for seed in range(6)])
    signal[700, 2] = np.nan
    wanted = Decoder(student, step=STEP, adapt=adapt)
    found = Decoder.from_bundle(folder, adapt=adapt)
    a = wanted.push(signal)
    b = [
        one
        for begin in range(0, len(signal), chunk)
        for one in found.push(signal[begin : begin + chunk])
    ]
    assert wanted.abstained == found.abstained > 0
    equal = [(x.gesture, x.sample) == (y.gesture, y.sample) for x, y in zip(a, b, strict=True)]
    assert np.mean(equal) >= 0.999
    np.testing.assert_allclose([x.confidence for x in a], [y.confidence for y in b], atol=1e-3)


def test_needs_numpy_alone(folder: Path, tmp_path: Path) -> None:
    signal = recording(3, 4, seed=3)
    np.save(tmp_path / "signal.npy", signal)
    script = """
import json, sys
sys.modules |= {name: None for name in ("torch", "scipy", "onnxruntime", "pandas", "pydantic")}
import numpy as np
from myodistill.realtime.decoder import Decoder
decoder = Decoder.from_bundle(sys.argv[1], adapt=True)
ours = {name.rpartition(".")[0] for name in sys.modules if name.startswith("myodistill.")}
print(json.dumps([[one.prediction for one in decoder.push(np.load(sys.argv[2]))], sorted(ours)]))
"""
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "signal.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = Decoder.from_bundle(folder, adapt=True).push(signal)
    runtime = Path(__file__).parents[2] / "runtime" / "pyproject.toml"
    packages = tomllib.loads(runtime.read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    predictions, needed = json.loads(done.stdout)
    assert predictions == [one.prediction for one in expected]
    assert set(needed) <= set(packages)


def test_another_library_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    with (other / LIBRARY).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="SHA-256"):
        CModel.load(other / LIBRARY)


def test_no_compiler_is_one_line_and_leaves_nothing(student: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="install it"):
        write_shared(student, to_c(student), tmp_path / "c", compiler="no-such-compiler")
    assert list(tmp_path.iterdir()) == []


def test_only_c_is_compiled(student: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="shared"):
        export(student, "onnx", tmp_path / "x.onnx", shared=True)
