"""A student as a shared library decides as the bundle does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from decoding import STEP, adaptable, bundle, recording

from myodistill.bundle import Bundle
from myodistill.deploy.export import export
from myodistill.deploy.plain_c import to_c
from myodistill.deploy.shared import write_shared
from myodistill.errors import BundleError, SettingsError, ToolError
from myodistill.live.models import load_model
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.native import LIBRARY, CModel

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler on this machine")


@pytest.fixture(scope="module")
def student() -> Bundle:
    return adaptable(bundle(epochs=20))


@pytest.fixture(scope="module")
def folder(student: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("native") / "c"
    export(student, "c", out, step=STEP, shared=True)
    return out


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("chunk", [1, 37, 100_000])
def test_decides_as_the_bundle_does(student: Bundle, folder: Path, adapt: bool, chunk: int) -> None:
    signal = np.concatenate([recording(3, 4, seconds=0.6, seed=seed) for seed in range(6)])
    signal[700, 2] = np.nan
    wanted = Decoder(student, step=STEP, adapt=adapt)
    found = Decoder(load_model(folder), adapt=adapt)
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
