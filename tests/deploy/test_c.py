"""The C decoder decides as the Python one does, in float and in 8 bits."""

from __future__ import annotations

import shutil
import subprocess
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoding import STEP, bundle, positions, recording
from torch import nn

from myodistill.bundle import Bundle
from myodistill.decision_rule import DecisionRule
from myodistill.deploy import generated
from myodistill.deploy.cortex import build_cortex, emulate, footprint, lacking
from myodistill.deploy.lowering import lower
from myodistill.deploy.onnx import to_onnx, write_onnx
from myodistill.deploy.plain_c import to_c
from myodistill.deploy.programs import DecodedRecording, build_host, decode_on_host
from myodistill.deploy.quantize import Quantised, operators, quantise, require_int8
from myodistill.errors import BundleError, DataError, ModelError, SettingsError, ToolError
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.runtime import OnnxModel
from myodistill.realtime.windows import Model
from myodistill.signals.filters import apply
from myodistill.signals.windows import Windows

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
LACKING = lacking()
SIGNAL = recording(3, 4, seed=1, seconds=2)
VARIED = DecisionRule(smoothing=3, threshold=0.5, votes=5, hold=4)
LOG_COVARIANCE = ("log-covariance-30k", "log-covariance-10k", "log-covariance-linear")
LOGARITHMS = """
#include <stdio.h>
#include "md.c"

static float matrix[MD_INPUTS][MD_INPUTS], rows[MD_INPUTS][MD_ROW];
static float vector[MD_INPUTS * (MD_INPUTS + 1) / 2];

int main(void)
{
    int i;
    while (fread(matrix, sizeof matrix, 1, stdin) == 1) {
        for (i = 0; i < MD_INPUTS; i++) {
            memcpy(&rows[i][i], &matrix[i][i], sizeof(float) * (size_t)(MD_INPUTS - i));
        }
        matrix_log(rows, vector);
        fwrite(vector, sizeof vector, 1, stdout);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle()


@pytest.fixture(scope="module", params=["log-power-10k", *LOG_COVARIANCE])
def any_student(request: pytest.FixtureRequest) -> Bundle:
    return bundle(request.param)


@pytest.fixture(scope="module")
def any_quantised(any_student: Bundle) -> Quantised:
    return quantise(any_student, filtered(any_student, recording(3, 4)))


def filtered(student: Bundle, signal: np.ndarray = SIGNAL) -> Windows:
    assert student.preprocessing is not None
    return positions(apply(student.preprocessing.sections(), signal), student.spec)


@pytest.fixture(scope="module")
def quantised(student: Bundle) -> Quantised:
    return quantise(student, filtered(student, recording(3, 4)))


def test_ranges_are_found_on_a_few_windows_at_a_time(
    student: Bundle, quantised: Quantised, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    gather = Windows.gather

    def counted(self: Windows, part: slice) -> np.ndarray:
        given.append(len(gather(self, part)))
        return gather(self, part)

    monkeypatch.setattr(Windows, "gather", counted)
    windows = filtered(student, recording(3, 4))
    many = windows.take(np.arange(len(windows)).repeat(300 // len(windows) + 1))
    again = quantise(student, many)
    assert len(given) > 1
    assert max(given) <= 128
    assert sum(given) == len(many) > 256
    assert all(
        np.array_equal(one.weights, other.weights)
        and (one.scale, one.zero) == (other.scale, other.zero)
        for one, other in zip(again.layers, quantised.layers, strict=True)
    )


def played(
    folder: Path,
    bundle: Bundle,
    signal: np.ndarray = SIGNAL,
    *,
    step: int = STEP,
    rule: DecisionRule | None = None,
    quantised: Quantised | None = None,
) -> DecodedRecording:
    to_c(bundle, step=step, rule=rule, quantised=quantised).write(folder)
    (found,) = decode_on_host(build_host(folder, optimise="-O1", sanitise=True), [signal], folder)
    return found


def require_same(
    model: Model, c: DecodedRecording, signal: np.ndarray, step: int, rule: DecisionRule | None
) -> None:
    decoder = Decoder(model, step=step, rule=rule)
    decisions = decoder.push(signal)
    assert c.samples.tolist() == [d.sample for d in decisions]
    assert c.predictions.tolist() == [d.prediction for d in decisions]
    assert c.gestures.tolist() == [d.gesture for d in decisions]
    assert c.abstained == decoder.abstained


@needs_gcc
@pytest.mark.parametrize(("step", "rule"), [(STEP, None), (1, VARIED), (130, DecisionRule(hold=2))])
def test_same_decisions(
    any_student: Bundle, tmp_path: Path, step: int, rule: DecisionRule | None
) -> None:
    signal = SIGNAL[: 700 if step == 1 else None]
    c = played(tmp_path / "c", any_student, signal, step=step, rule=rule)
    require_same(any_student, c, signal, step, rule)


@needs_gcc
def test_same_logits(any_student: Bundle, tmp_path: Path) -> None:
    c = played(tmp_path / "c", any_student)
    assert np.abs(c.logits - any_student.logits(filtered(any_student))).max() < 2e-3


@needs_gcc
def test_abstains_as_python_does(any_student: Bundle, tmp_path: Path) -> None:
    signal = SIGNAL[:1500].copy()
    signal[:3, 1], signal[2:5, 0], signal[400], signal[900, 3] = np.nan, np.inf, 1e30, -np.inf
    c = played(tmp_path / "c", any_student, signal, rule=VARIED)
    assert 0 < c.abstained < len(c.samples)
    require_same(any_student, c, signal, STEP, VARIED)


@needs_gcc
@pytest.mark.parametrize(("channels", "seed"), [(1, 0), (2, 1), (5, 2), (10, 3), (16, 4)])
def test_log_covariance_students_of_any_width(channels: int, seed: int, tmp_path: Path) -> None:
    other = bundle(LOG_COVARIANCE[seed % 3], channels=channels, epochs=20)
    signal = recording(3, channels, seed=10 + seed, seconds=1.5)
    c = played(tmp_path / "c", other, signal)
    logits = other.logits(filtered(other, signal))
    assert np.abs(c.logits - logits).max() < 2e-3
    assert np.mean(c.predictions == logits.argmax(1)) >= 0.999


def covariances(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One of every kind that a matrix logarithm may find hard."""
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    signal, gains = rng.standard_normal((n, 4 * n)), np.logspace(-3, 3, n)[:, None]
    mixed_signal = rng.standard_normal((n, n)) @ signal * 10 ** rng.uniform(-1.5, 1.5, (n, 1))
    few = rng.standard_normal((n, n // 2)) * 10 ** rng.uniform(-3, 3, (n, 1))
    mixed = np.eye(n) + 0.3 * rng.standard_normal((n, n))
    ill = (turn * 10 ** rng.uniform(-6, 6, n)) @ turn.T
    rising, falling = (mixed * g @ (mixed * g).T for g in (gains, gains[::-1]))
    return [
        mixed_signal @ mixed_signal.T,
        ill,
        rising,
        falling,
        few @ few.T,
        np.ones((n, n)) * 10 ** rng.uniform(-6, 6),
        np.diag(10 ** rng.uniform(-6, 6, n)),
        *(size * signal @ signal.T for size in (1.0, 1e-30, 1e28)),
        np.zeros((n, n)),
    ]


def lapack_logarithm(covariance: np.ndarray) -> np.ndarray:
    """As :func:`myodistill.models.covariance.matrix_log` and the vector of it, in double."""
    n, tiny = len(covariance), float(np.finfo(np.float32).tiny)
    ridge = 1e-3 * np.trace(covariance) / n + tiny
    values, vectors = np.linalg.eigh(covariance.astype(np.float64) + ridge * np.eye(n))
    logarithm = (vectors * np.log(np.maximum(values, tiny))) @ vectors.T
    rows, columns = np.triu_indices(n)
    vector: np.ndarray = logarithm[rows, columns] * np.where(rows == columns, 1, 2**0.5)
    return vector


@needs_gcc
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 10, 11, 15, 16])
def test_the_matrix_logarithm_is_at_the_accuracy_of_float(channels: int, tmp_path: Path) -> None:
    """The least eigenvalue is a thousandth of the mean: float knows its logarithm to 5e-4."""
    other = bundle("log-covariance-linear", channels=channels, epochs=0)
    to_c(other).write(tmp_path / "c")
    (tmp_path / "c" / "logarithms.c").write_text(LOGARITHMS)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", *strict, *checks, "-O1", "logarithms.c", "-o", "logarithms", "-lm"]
    subprocess.run(command, cwd=tmp_path / "c", check=True)
    rng = np.random.default_rng(channels)
    given = np.array([c for _ in range(100) for c in covariances(channels, rng)], np.float32)
    done = subprocess.run(
        [tmp_path / "c" / "logarithms"], input=given.tobytes(), capture_output=True, check=True
    )
    found = np.frombuffer(done.stdout, np.float32).reshape(len(given), -1)
    error = np.abs(found - [lapack_logarithm(one) for one in given])
    assert error.max() < 5e-4
    assert error[::11].max() < 5e-5  # of signals


NAMES = (
    ('"a\\', "é1??/ */*", "/*\n#error"),
    ("fist??/", "a\\", "*/ #error /*"),
    ("int", "a b", "a-b"),
    ("a b", "a_b", "a b"),
    ("??/", "%s%n", "\t\r\n"),
    ("@defines@", "@model@", "*@defines@/"),
    ("\u202e\u2066left", "手", "\x7f\x1b[31m1234"),
)


@needs_gcc
@pytest.mark.parametrize("names", NAMES)
def test_any_names(student: Bundle, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Also where a name ends the comment's line, or the unit is odd, too."""
    for place, gestures in enumerate((names, names[::-1])):
        spec = replace(student.spec, gestures=gestures)
        odd = replace(student, spec=spec, unit=names[1])
        folder = tmp_path / f"c{place}"
        to_c(odd, step=STEP).write(folder)
        program = """
#include <stdio.h>
#include "md.h"
int main(void)
{
    int g;
    for (g = 0; g < MD_CLASSES; g++) {
        fputs(md_gestures[g], stdout);
        putchar(0);
    }
    fputs(MD_UNIT, stdout);
    return 0;
}
"""
        (folder / "names.c").write_text(program)
        strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
        command = ["gcc", *strict, "names.c", "md.c", "-o", "names", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        shown = subprocess.run([str(folder / "names")], capture_output=True, check=True).stdout
        assert shown.decode().split("\0") == [*gestures, names[1]]


@needs_gcc
@pytest.mark.parametrize("temperature", [0.4, pytest.param(3.0, marks=pytest.mark.slow)])
def test_the_temperature_is_in_every_form(
    student: Bundle, tmp_path: Path, temperature: float
) -> None:
    warm = replace(student, origin={**student.origin, "temperature": temperature})
    windows, mine = filtered(warm), filtered(student, recording(3, 4))
    logits = warm.logits(windows)
    assert np.allclose(logits, student.logits(windows) / temperature, atol=1e-5)
    assert warm.preprocessing is not None
    inputs = warm.preprocessing.map(windows).gather()
    assert np.allclose(warm._infer(inputs), logits, atol=1e-4)
    write_onnx(warm, tmp_path / "warm.onnx", windows)
    single = OnnxModel.load(tmp_path / "warm.onnx")
    assert np.abs(single._infer(inputs) - logits).max() < 1e-3
    bits = quantise(warm, mine)
    eight = OnnxModel.load(bits.model.SerializeToString())
    step = np.abs(eight._infer(inputs) - logits).max() * temperature
    assert step < 0.5  # as without a temperature
    c = played(tmp_path / "c", warm)
    assert np.abs(c.logits - logits).max() < 2e-3 / min(temperature, 1)
    c8 = played(tmp_path / "c8", warm, quantised=bits)
    assert np.abs(c8.logits - eight._infer(inputs)).max() < 0.1 / min(temperature, 1)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (expected / expected.sum(axis=1, keepdims=True)).max(axis=1)
    for model in (warm, single):
        said = [d.confidence for d in Decoder(model).push(SIGNAL)]
        assert np.allclose(said, confidence, atol=1e-3)


@pytest.mark.slow
def test_the_temperature_of_other_networks(tmp_path: Path) -> None:
    for name in ("tcn-10k", "cnn-10k", "gru-10k"):
        other = bundle(name, epochs=1)
        warm = replace(other, origin={**other.origin, "temperature": 2.5})
        assert write_onnx(warm, tmp_path / "x.onnx", filtered(warm, SIGNAL[:400])) < 1e-4
    shifted = nn.Sequential(other.network, nn.Softplus())
    with pytest.raises(ModelError, match="expected a network that ends with its linear layer"):
        to_onnx(replace(warm, network=shifted))


def test_int8_decides_at_rest_as_float_does_if_rest_is_in_its_ranges() -> None:
    """A log power at rest lies far below those of gestures, and outside of their range."""

    def rest(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        scales = 10 ** rng.uniform(-1.5, 0.5, (20, 1, 6))
        return (300 + rng.standard_normal((20, 300, 6)) * scales).reshape(-1, 6).astype(np.float32)

    student, gestures = bundle(channels=6, gestures=6), recording(6, 6)
    windows = filtered(student, rest(2))
    assert student.preprocessing is not None
    inputs, predictions = (
        student.preprocessing.map(windows).gather(),
        student.logits(windows).argmax(1),
    )
    equal = []
    for calibration in (gestures, np.concatenate([rest(1), gestures])):
        bits = quantise(student, filtered(student, calibration))
        found = OnnxModel.load(bits.model.SerializeToString())._infer(inputs)
        equal.append(np.mean(found.argmax(1) == predictions))
    assert equal[0] < 0.95
    assert equal[1] > equal[0] + 0.03


@needs_gcc
@pytest.mark.parametrize(
    ("model", "channels", "rows"),
    [
        ("log-power-10k", 48, 4),
        pytest.param("log-covariance-30k", 17, 1, marks=pytest.mark.slow),
        pytest.param("log-covariance-10k", 32, 1, marks=pytest.mark.slow),
        pytest.param("log-covariance-30k", 64, 8, marks=pytest.mark.slow),
    ],
)
def test_pooled_electrodes(model: str, channels: int, rows: int, tmp_path: Path) -> None:
    wide = bundle(model, channels=channels, rows=rows, gestures=4, epochs=20)
    signal = recording(4, channels, seed=2, seconds=0.4)
    c = played(tmp_path / "c", wide, signal)
    require_same(wide, c, signal, STEP, None)
    assert np.abs(c.logits - wide.logits(filtered(wide, signal))).max() < 2e-3
    bits = quantise(wide, filtered(wide, recording(4, channels)))
    model8 = OnnxModel.load(bits.model.SerializeToString())
    c8 = played(tmp_path / "c8", wide, signal, quantised=bits)
    mapped = model8.preprocessing.map(filtered(wide, signal))
    assert np.abs(c8.logits - model8._infer(mapped.gather())).max() < 0.1  # one step of an input


@needs_gcc
def test_int8_equals_onnx(any_student: Bundle, any_quantised: Quantised, tmp_path: Path) -> None:
    student, quantised = any_student, any_quantised
    c = played(tmp_path / "c", student, quantised=quantised, rule=VARIED)
    model = OnnxModel.load(quantised.model.SerializeToString())
    require_same(model, c, SIGNAL, STEP, VARIED)
    mapped = model.preprocessing.map(filtered(student))
    assert np.abs(c.logits - model._infer(mapped.gather())).max() < 0.1  # one step of an input
    accuracy = np.mean(c.predictions == mapped.labels)
    assert accuracy > np.mean(student.logits(filtered(student)).argmax(1) == mapped.labels) - 0.02


def test_int8_says_what_is_float(quantised: Quantised) -> None:
    kinds = {(kind, number) for _, kind, number in quantised.operators}
    assert ("MatMulInteger", "int8") in kinds
    assert ("Conv", "float32") in kinds
    assert "Gemm" not in {kind for kind, _ in kinds}
    assert [layer.weights.shape for layer in quantised.layers] == [(60, 144), (3, 60)]


def test_int8_sums_are_exact(quantised: Quantised, student: Bundle) -> None:
    """Also on processors where ONNX Runtime saturates signed weights."""
    model = OnnxModel.load(quantised.model.SerializeToString())
    inputs = np.zeros((1, 4, 100), np.float32)  # every log power is the least there is
    logits = model._infer(inputs)[0]
    x = np.full(144, np.log(np.float32(1e-3)), np.float32)
    for place, layer in enumerate(quantised.layers):
        q = np.clip(np.rint(x / layer.scale) + layer.zero, 0, 255).astype(np.int32)
        x = layer.weights.astype(np.int32) @ (q - layer.zero) * layer.scales + layer.biases
        x = np.maximum(x, 0).astype(np.float32) if place == 0 else x
    assert np.allclose(logits, x, atol=1e-4)


def test_a_layer_that_stays_float_fails(student: Bundle) -> None:
    with pytest.raises(ModelError, match=r"Gemm with head\.1\.weight stays in float"):
        require_int8(student, to_onnx(student))
    other = bundle("tcn-10k", epochs=0)
    with pytest.raises(ModelError, match=r"tcn-10k: expected every layer in 8 bits, Conv"):
        quantise(other, filtered(other))


@pytest.mark.parametrize(("model", "kind"), [("lstm", "LSTM"), ("cnn-10k", "Conv")])
def test_no_layer_stays_float_in_silence(model: str, kind: str) -> None:
    """As ONNX Runtime's own quantisation leaves an LSTM from PyTorch's exporter."""
    with pytest.raises(ModelError, match=f"expected every layer in 8 bits, {kind} with"):
        require_int8(other := bundle(model, epochs=0), to_onnx(other))


def test_no_name_exempts_a_layer_from_8_bits(student: Bundle) -> None:
    layers = nn.Conv1d(4, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3)
    network = nn.Sequential(OrderedDict(head=nn.Sequential(*layers)))
    other = replace(student, network=network.eval())
    with pytest.raises(ModelError, match=r"Conv with head\.0\.weight stays in float"):
        require_int8(other, to_onnx(other))


def test_bad_input(student: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bundle("tcn-10k", epochs=0)
    with pytest.raises(ModelError, match=r"tcn-10k: .*log-power-30k, log-power-10k.*got a Tcn"):
        lower(other, other.network)
    monkeypatch.setattr(generated, "find_spec", lambda _: None)
    with pytest.raises(ToolError, match="emx-onnx-cgen: expected it to be installed"):
        to_c(other, step=STEP)
    with pytest.raises(BundleError, match="person's pre-processing"):
        to_c(replace(student, preprocessing=None), step=STEP)
    with pytest.raises(SettingsError, match="step"):
        to_c(student, step=0)
    with pytest.raises(DataError, match="expected calibration windows, got none"):
        quantise(student, filtered(student).take(np.arange(0)))
    with pytest.raises(ToolError, match="no-such-compiler: expected it on this machine"):
        build_host(tmp_path, compiler="no-such-compiler")
    assert not list(tmp_path.iterdir())


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        *("tcn-10k", "cnn-10k", "lstm-10k", "gru-10k"),
        *("cnn@band-power", "cnn@spectrogram", "cnn@log-covariance", "lstm@band-power"),
    ],
)
def test_generated_networks(model: str, tmp_path: Path) -> None:
    pytest.importorskip("emx_onnx_cgen")
    other = bundle(model, epochs=3)
    c = played(tmp_path / "c", other, SIGNAL[:2000])
    require_same(other, c, SIGNAL[:2000], STEP, None)


def test_states_its_memory(student: Bundle, quantised: Quantised) -> None:
    single, eight = to_c(student, step=STEP), to_c(student, step=STEP, quantised=quantised)
    assert f"#define MD_RAM_BYTES {single.ram}\n" in single.files["md.h"]
    assert single.ram < 16_000
    assert eight.weights < 0.45 * single.weights
    assert operators(quantised.model) == quantised.operators


@pytest.mark.skipif(LACKING is not None, reason=f"no {LACKING} on this machine")
@pytest.mark.parametrize("eight", [False, True])
def test_cortex_m4f(
    any_student: Bundle, any_quantised: Quantised, tmp_path: Path, eight: bool
) -> None:
    signal = SIGNAL[:1500].copy()
    signal[400, 2] = np.nan
    folder, bits = tmp_path / "c", any_quantised if eight else None
    source = to_c(any_student, step=STEP, rule=VARIED, quantised=bits)
    source.write(folder)
    memory = footprint(build_cortex(folder))
    assert source.tables < memory.flash < source.tables + 8000
    assert source.ram <= memory.ram < source.ram + 512
    emulated = emulate(folder, signal)
    model = OnnxModel.load(any_quantised.model.SerializeToString()) if eight else any_student
    require_same(model, emulated.decoded, signal, STEP, VARIED)
    assert 0 < emulated.stack < 640
    assert 10_000 < emulated.instructions < 1_000_000
