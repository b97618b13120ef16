"""Every model of the catalogue, on every geometry, through the same tests."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from networks import generated, learns, logits_of
from torch import nn

from myodistill.datasets.recording import SignalSpec, grid, ring
from myodistill.errors import DataError, ModelError
from myodistill.models import registry as registry
from myodistill.models.base import GestureModel
from myodistill.models.layers import parameters
from myodistill.models.logpower import ProjectedLogPower
from myodistill.models.registry import build, entry, models, register_model
from myodistill.models.verification import GEOMETRIES

EVERY = models()
TINY = SignalSpec(ring(4), 24, 200.0, ("rest", "fist", "point"))
SMALL = {
    "1 channel": SignalSpec(grid(1, 1), 52, 200.0, ("a", "b")),
    "2 channels": SignalSpec(grid(2, 1), 52, 200.0, ("a", "b")),
    "ring of 3": SignalSpec(ring(3), 52, 200.0, ("a", "b")),
    "2×2": SignalSpec(grid(2, 2, order=(3, 0, 2, 1)), 52, 200.0, ("a", "b")),
}
STREAMING = [name for name in EVERY if re.match("(baseline-)?(lstm|gru|tcn)", name)]


def on_meta(name: str, spec: SignalSpec) -> nn.Module:
    with torch.device("meta"):
        return build(name, spec)


SIZES = {name: parameters(on_meta(name, TINY)) for name in EVERY}


def by_size(limit: int) -> list[object]:
    """Every model that gradients train; those of more parameters than ``limit`` are slow."""
    slow = pytest.mark.slow
    return [pytest.param(n, marks=slow) if SIZES[n] > limit else n for n in EVERY if SIZES[n]]


def on_every_geometry() -> list[object]:
    """Every model with every signal; deep ones, whose siblings share their code, are slow."""
    deep = re.compile("densenet-(121|161|201)|inception-(s|v3)|p3d-63")
    specs = GEOMETRIES | SMALL
    return [
        pytest.param(
            name,
            spec,
            id=f"{name} {key}",
            marks=[pytest.mark.slow] if deep.match(name) and key not in ("hyser", "3dc") else [],
        )
        for name in EVERY
        for key, spec in specs.items()
    ]


@pytest.mark.parametrize(("name", "spec"), on_every_geometry())
def test_every_model_on_every_geometry(name: str, spec: SignalSpec) -> None:
    if name in ("lstm", "baseline-lstm", "baseline-gru"):  # a step a sample: take a few
        spec = SignalSpec(spec.electrodes, 20, spec.sampling_rate, spec.gestures)
    model = on_meta(name, spec).eval()
    logits = model(torch.empty(3, spec.channels, spec.samples, device="meta"))
    assert logits.shape == (3, spec.classes)


@pytest.mark.parametrize("name", by_size(600_000))
def test_a_model_overfits_64_windows(name: str) -> None:
    model = build(name, TINY, seed=0)
    if not learns(model, *generated(TINY), every=10):
        pytest.fail(f"{name} has not learned 64 windows in 300 steps")


@pytest.mark.parametrize("name", by_size(15_000_000))
def test_a_window_does_not_see_its_batch(name: str) -> None:
    model, windows = build(name, TINY, seed=0), generated(TINY, 32)[0]
    batched = logits_of(model, windows)
    single = torch.cat([logits_of(model, window) for window in windows.split(1)])
    scale = batched.std(dim=0).mean().item()
    assert scale > 0
    torch.testing.assert_close(batched, single, rtol=1e-4, atol=1e-3 * scale)


@pytest.mark.parametrize("name", by_size(600_000))
@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_an_exported_model_gives_the_same(name: str) -> None:
    model, windows = build(name, TINY, seed=0).eval(), generated(TINY, 5)[0]
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(model, (windows[:2],), dynamic_shapes=(batch,))
    expected = logits_of(model, windows)
    # Exported rotations stand in for a solver of eigenvectors, which in float32 knows the logarithm
    # of an eigenvalue that is a thousandth of the mean to 1e-4.
    rounding = 1e-4 * expected.abs().max().item() if name.startswith("log-covariance") else 1e-5
    with torch.no_grad():
        torch.testing.assert_close(program.module()(windows), expected, rtol=1.3e-6, atol=rounding)


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize("chunk", [1, 3, 24])
def test_a_stream_gives_what_the_window_gives(name: str, chunk: int) -> None:
    model: Any = build(name, TINY, seed=0).eval()
    windows = generated(TINY, 4)[0]
    state = model.start(windows)
    with torch.no_grad():
        for samples in windows.split(chunk, dim=-1):
            logits, state = model.step(samples, state)
    torch.testing.assert_close(logits, logits_of(model, windows), rtol=1e-5, atol=1e-6)
    assert all(torch.is_tensor(part) for part in state)


@pytest.mark.parametrize("name", [n for n in EVERY if re.search(r"-\d+k$", n)])
@pytest.mark.parametrize("spec", [*GEOMETRIES.values(), *SMALL.values()], ids=[*GEOMETRIES, *SMALL])
def test_deployable_models_keep_their_budget(name: str, spec: SignalSpec) -> None:
    budget = 1000 * int(name.rsplit("-", 1)[1].removesuffix("k"))
    assert budget / 2 < parameters(on_meta(name, spec)) <= budget


def test_image_models_on_a_ring_do_not_mind_where_it_is_cut() -> None:
    spec = SignalSpec(ring(8), 24, 200.0, TINY.gestures)
    open_ended = SignalSpec(grid(1, 8), 24, 200.0, TINY.gestures)
    windows = generated(spec, 4)[0]
    turned = windows.roll(4, dims=1)  # by a multiple of what the pools join
    for name in ("cnn", "densenet-34", "inception-xs"):
        same = logits_of(build(name, spec, seed=0), windows)
        torch.testing.assert_close(logits_of(build(name, spec, seed=0), turned), same)
        edges = build(name, open_ended, seed=0)
        assert not torch.allclose(logits_of(edges, turned), logits_of(edges, windows))


def test_channels_are_put_where_their_electrodes_sit() -> None:
    order = (3, 0, 2, 1)
    model: Any = build("cnn", SignalSpec(grid(2, 2, order=order), 5, 200.0, ("a", "b")))
    image = model.image(torch.arange(4.0).reshape(1, 4, 1).expand(1, 4, 5))
    assert image[0, 0].tolist() == [[3.0, 0.0], [2.0, 1.0]]


def test_the_seed_decides_the_weights_and_nothing_else() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = build("gru-10k", TINY, seed=3), build("gru-10k", TINY, seed=3)
    assert torch.equal(torch.rand(1), expected)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.fixture
def own_model() -> Iterator[str]:
    @register_model("my-model", "student", aliases=("MyModel",))
    def my_model(spec: SignalSpec) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.channels * spec.samples, spec.classes))

    yield "my-model"
    del registry.MODELS["my-model"]


def test_a_module_of_ones_own_can_be_registered(own_model: str) -> None:
    assert own_model in models("my-*", role="student")
    assert not models("my-*", role="teacher")
    assert entry("MyModel").name == own_model
    assert build(own_model, TINY)(generated(TINY, 2)[0]).shape == (2, 3)
    with pytest.raises(ModelError, match="'MyModel' is registered already"):
        register_model("MyModel", "teacher")(lambda spec: nn.Identity())


@pytest.mark.parametrize("name", by_size(600_000))
def test_features_and_head_are_the_whole(name: str) -> None:
    model, windows = build(name, TINY, seed=0).eval(), generated(TINY, 4)[0]
    assert isinstance(model, GestureModel)
    with torch.no_grad():
        features = model.forward_features(windows)
        assert features.shape == (4, model.num_features)
        assert torch.equal(model.forward_head(features), model(windows))


@pytest.mark.parametrize(
    ("alias", "name"),
    {
        "CustomDNN_34": "densenet-34",
        "CustomDNN_slice_test": "densenet-121",
        "CustomDNN_161": "densenet-161",
        "CustomDNN_201": "densenet-201",
        "VGGbn_small": "vgg-small",
        "VGGbn_11": "vgg-11",
        "VGGbn_16": "vgg-16",
        "InceptionV3_xs": "inception-xs",
        "InceptionV3_s": "inception-s",
        "InceptionV3": "inception-v3",
        "CustomCNN_sml3": "cnn",
        "CustomLSTM": "lstm",
    }.items(),
)
def test_published_class_names_are_aliases(alias: str, name: str) -> None:
    assert entry(alias).name == name


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'densnet-121': did you mean densenet-121"):
        build("densnet-121", TINY)


def test_no_channels_is_an_error() -> None:
    with pytest.raises(DataError, match="at least 1 row and 1 column, got 1×0"):
        ring(0)


@pytest.mark.parametrize("name", ["p3d-63", "cnn-10k", "gru-10k", "tcn-10k"])
def test_a_window_too_short_is_an_error_that_names_the_least(name: str) -> None:
    spec = SignalSpec(ring(4), 5, 1000.0, ("a", "b"))
    with pytest.raises(ModelError, match=r"at least (\d+) samples at 1000 Hz, got 5") as caught:
        build(name, spec)
    least = int(re.findall(r"at least (\d+)", str(caught.value))[0])
    build(name, SignalSpec(ring(4), least, 1000.0, ("a", "b")))
    with pytest.raises(ModelError):
        build(name, SignalSpec(ring(4), least - 1, 1000.0, ("a", "b")))


@pytest.mark.parametrize("name", EVERY)
def test_windows_that_do_not_match_the_electrodes_are_an_error(name: str) -> None:
    model = on_meta(name, TINY)
    for shape in ((2, 5, 24), (2, 4, 23), (4, 24)):
        with pytest.raises(ModelError, match=r"4 channels, 24 samples\), got \("):
            model(torch.empty(shape, device="meta"))


def test_a_budget_that_the_signal_exceeds_is_an_error() -> None:
    spec = SignalSpec(grid(64, 64), 200, 1000.0, ("a", "b"))
    with pytest.raises(ModelError, match=r"10000 parameters suffice for, the narrowest .* needs"):
        build("gru-10k", spec)


def test_log_powers_are_the_same_in_training() -> None:
    """A training step takes a faster way to the same powers."""
    torch.manual_seed(0)
    layer = ProjectedLogPower(3, 5, 7, jitter=0.0)
    factors = torch.randn(20, 3, 5, 9)
    covariances = factors @ factors.mT
    torch.testing.assert_close(layer.train()(covariances), layer.eval()(covariances))
