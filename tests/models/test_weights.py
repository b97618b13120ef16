"""Weights are refused unless they fit, and adapted only on request."""

from pathlib import Path

import pytest
import torch

from myodistill.datasets.recording import SignalSpec, grid, ring
from myodistill.errors import ModelError
from myodistill.models import weights
from myodistill.models.registry import build, models
from myodistill.models.weights import adapt

SPEC = SignalSpec(ring(4), 24, 200.0, ("rest", "fist", "point"))
OTHER = SignalSpec(grid(2, 3, order=(5, 4, 3, 2, 1, 0)), 40, 500.0, ("rest", "fist"))
FIXED = [n for n in models() if not n.endswith("k") and n not in ("vgg-11", "vgg-16")]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    weights.save(tmp_path / "w", "cnn", SPEC, build("cnn", SPEC))
    with pytest.raises(ModelError, match="expected weights of lstm, got cnn"):
        weights.load(tmp_path / "w", "lstm", SPEC)


def test_weights_of_another_geometry_are_refused(tmp_path: Path) -> None:
    weights.save(tmp_path / "w", "cnn", OTHER, build("cnn", OTHER))
    with pytest.raises(ModelError, match=r"expected weights for a 1×4 ring, .* got a 2×3 grid, 40"):
        weights.load(tmp_path / "w", "cnn", SPEC)
    assert weights.read(tmp_path / "w").spec == OTHER


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_a_file_that_is_not_ours_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "w").write_bytes(content)
    with pytest.raises(ModelError, match="expected weights written by myodistill") as caught:
        weights.read(tmp_path / "w")
    assert "\n" not in str(caught.value)


def test_loading_is_strict_and_leaves_the_model_alone() -> None:
    model = build("cnn", SPEC, seed=0)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    good = build("cnn", SPEC, seed=1).state_dict()
    for bad in (
        {key: tensor for key, tensor in good.items() if key != "head.bias"},
        good | {"extra": torch.zeros(1)},
        good | {"head.bias": torch.zeros(4)},
    ):
        with pytest.raises(ModelError, match="another model or signal"):
            weights.load_strictly(model, bad)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", FIXED)
def test_adapting_replaces_stem_and_head_and_keeps_the_rest(name: str) -> None:
    trained = {key: t + 1 for key, t in build(name, SPEC, seed=0).state_dict().items()}
    model, replaced = adapt(name, trained, SPEC, OTHER, seed=1)
    adapted, fresh = model.state_dict(), build(name, OTHER, seed=1).state_dict()
    assert replaced
    if not name.startswith("population"):  # in closed form: all of it belongs to its signal
        assert len(replaced) < len(trained)
    for key, tensor in adapted.items():
        assert torch.equal(tensor, fresh[key] if key in replaced else trained[key])
    assert model(torch.randn(2, 6, 40)).shape == (2, 2)


def test_other_gestures_replace_the_head_only() -> None:
    trained = build("densenet-34", SPEC, seed=0).state_dict()
    target = SignalSpec(SPEC.electrodes, SPEC.samples, SPEC.sampling_rate, ("a", "b", "c"))
    assert adapt("densenet-34", trained, SPEC, target)[1] == ("head.weight", "head.bias")
    assert adapt("densenet-34", trained, SPEC, SPEC)[1] == ()


def test_what_cannot_be_adapted_says_why() -> None:
    trained = build("gru-10k", SPEC).state_dict()
    with pytest.raises(ModelError, match=r"gru-10k: cannot be adapted from a 1×4 ring.*shape"):
        adapt("gru-10k", trained, SPEC, SignalSpec(grid(16, 16), 24, 200.0, SPEC.gestures))
    with pytest.raises(ModelError, match="another model or signal"):
        adapt("cnn", trained, SPEC, OTHER)
