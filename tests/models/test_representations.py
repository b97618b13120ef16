"""Every representation in front of every network that can read it."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from decoding import bundle
from networks import generated, learns, logits_of
from torch import nn

from myodistill.bundle import Bundle
from myodistill.datasets.recording import SignalSpec, grid, ring
from myodistill.deploy.targets import deployable
from myodistill.distillation.subjects import front_key
from myodistill.errors import ModelError
from myodistill.models.base import GestureModel, split_network
from myodistill.models.registry import (
    MODELS,
    REPRESENTATIONS,
    build,
    entry,
    models,
    register_model,
)
from myodistill.models.verification import GEOMETRIES

READERS = [name for name in models() if entry(name).reads]
SPEC = SignalSpec(ring(4), 60, 500.0, ("rest", "fist", "point"))
SMALL = ["cnn", "baseline-cnn", "baseline-cnn-lstm", "baseline-cnn-lstm-image", "baseline-gru"]
FAMILIES = [*SMALL, "densenet-34", "inception-xs", "lstm", "p3d-32", "vgg-small"]
SIGNALS = {
    "ring of 10": GEOMETRIES["3dc"],
    "4×16": GEOMETRIES["flexemg"],
    "16×16": GEOMETRIES["hyser"],
    "two rings": GEOMETRIES["ninapro-16"],
    "1 channel": SignalSpec(grid(1, 1), 52, 200.0, ("a", "b")),
    "2×2": SignalSpec(grid(2, 2, order=(3, 0, 2, 1)), 52, 200.0, ("a", "b")),
}


def combinations(readers: list[str], *, slow_beyond: list[str] = SMALL) -> list[object]:
    """Each reader with each representation; those that are not among some are slow."""
    return [
        pytest.param(f"{name}@{way}", marks=[] if name in slow_beyond else [pytest.mark.slow])
        for name, way in product(readers, REPRESENTATIONS)
    ]


@pytest.mark.parametrize("name", combinations(READERS, slow_beyond=FAMILIES))
def test_every_reader_reads_every_representation(name: str) -> None:
    for spec in SIGNALS.values():
        with torch.device("meta"):
            model = build(name, spec).eval()
        logits = model(torch.empty(3, spec.channels, spec.samples, device="meta"))
        assert logits.shape == (3, spec.classes)
        assert isinstance(model, GestureModel)
        assert model.num_features == build_plain(name, spec).num_features


def build_plain(name: str, spec: SignalSpec) -> Any:
    with torch.device("meta"):
        return build(name.partition("@")[0], spec)


@pytest.mark.parametrize("name", combinations(FAMILIES))
def test_learns_some_windows(name: str) -> None:
    model, (windows, labels) = build(name, SPEC, seed=0), generated(SPEC, 48)
    if not learns(model, windows, labels, every=5):
        pytest.fail(f"{name} has not learned {len(windows)} windows in 300 steps")


@pytest.mark.parametrize("name", combinations(FAMILIES))
def test_a_window_does_not_see_its_batch(name: str) -> None:
    model, windows = build(name, SPEC, seed=0), generated(SPEC, 16)[0]
    batched = logits_of(model, windows)
    single = torch.cat([logits_of(model, window) for window in windows.split(1)])
    scale = batched.std(dim=0).mean().item()
    assert scale > 0
    torch.testing.assert_close(batched, single, rtol=1e-4, atol=1e-3 * scale)


@pytest.mark.parametrize("name", combinations(FAMILIES))
def test_training_reads_what_the_fixed_front_gives(name: str) -> None:
    model, windows = build(name, SPEC, seed=0), generated(SPEC, 6)[0]
    front, trained = split_network(model.eval())
    assert front is not None
    assert not any(True for _ in front.parameters())
    assert torch.equal(logits_of(trained, front(windows)), logits_of(model, windows))


@pytest.mark.parametrize("name", combinations(FAMILIES))
@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_an_exported_model_gives_the_same(name: str) -> None:
    model, windows = build(name, SPEC, seed=0).eval(), generated(SPEC, 5)[0]
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(model, (windows[:2],), dynamic_shapes=(batch,))
    expected = logits_of(model, windows)
    rounding = 1e-3 if "covariance" in name else 1e-4  # rotations know small eigenvalues to 1e-4
    rounding *= max(1.0, expected.abs().max().item())
    with torch.no_grad():
        torch.testing.assert_close(program.module()(windows), expected, rtol=0, atol=rounding)


@pytest.mark.parametrize("way", REPRESENTATIONS)
def test_a_bundle_keeps_it_bit_for_bit(way: str, tmp_path: Path) -> None:
    made = bundle(f"cnn@{way}", epochs=2)
    made.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    assert loaded.model == f"cnn@{way}"
    front: Any = split_network(loaded.network)[0]
    assert not torch.equal(front.whitening, torch.eye(front.channels).expand_as(front.whitening))
    windows = torch.randn(7, made.spec.channels, made.spec.samples)
    assert torch.equal(logits_of(loaded.network, windows), logits_of(made.network, windows))
    assert loaded.fingerprint == made.fingerprint


def fronts(spec: SignalSpec) -> list[Any]:
    return [split_network(build(name, spec))[0] for name in readings()]


def readings() -> list[str]:
    return [f"{name}@{way}" for name in ("cnn", "lstm") for way in REPRESENTATIONS]


@pytest.mark.parametrize("name", readings())
@pytest.mark.parametrize("electrodes", [ring(4), grid(5, 8)], ids=["ring of 4", "5×8"])
def test_recentring_takes_out_how_strong_a_person_is(name: str, electrodes: Any) -> None:
    spec = SignalSpec(electrodes, 100, 500.0, ("a", "b"))
    front: Any = split_network(build(name, spec))[0]
    windows = torch.randn(40, spec.channels, 100, generator=torch.Generator().manual_seed(0))
    seen = []
    for strength in (1.0, 30.0):
        front.whitening.copy_(front.centre(strength * windows))
        seen.append(front(strength * windows))
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=2e-2)
    assert abs(seen[0].mean()) < 2
    front.whitening.copy_(torch.eye(front.channels).expand_as(front.whitening))
    assert (front(30 * windows) - front(windows)).abs().max() > 1


def test_a_part_of_the_window_is_a_frame_and_a_frequency_a_band() -> None:
    spec = SignalSpec(ring(3), 400, 1000.0, ("a", "b"))
    time = torch.arange(400) / 1000
    windows = torch.zeros(1, 3, 400)
    windows[0, 1] = torch.sin(2 * torch.pi * 100 * time) * (time >= 0.3)
    for way in ("band-power", "spectrogram"):
        powers = split_network(build(f"cnn@{way}", spec))[0](windows)  # type: ignore[misc]
        place, frame, feature = divmod_all(int(powers.argmax()), powers.shape[1:])
        assert (place, frame) == (1, 3)
        low, high = {"band-power": (80, 120), "spectrogram": (85, 115)}[way]
        assert low <= centres(way)[feature] <= high
    powers = split_network(build("lstm@band-power", spec))[0](windows)  # type: ignore[misc]
    assert powers.shape == (1, 1, 16, 3 * 6)
    loud = powers[0, 0].mean(dim=1)
    assert loud[:11].max() < loud[12:].min()


def centres(way: str) -> list[float]:
    """Frequency in the middle of each band at 1000 Hz."""
    if way == "band-power":
        return [32.5, 62.5, 100.0, 145.0, 210.0, 350.0]
    return [1000 * number / 64 for number in range(2, 29)]


def divmod_all(index: int, shape: torch.Size) -> list[int]:
    place: list[int] = []
    for size in reversed(shape):
        index, rest = divmod(index, size)
        place.insert(0, rest)
    return place


def test_an_image_knows_where_its_electrodes_sit() -> None:
    """A mean over the electrodes of a ring would not tell a signal from one turned by four."""
    spec = SignalSpec(ring(8), 60, 500.0, ("a", "b", "c"))
    windows = generated(spec, 4)[0]
    model = build("cnn@band-power", spec, seed=0)
    turned = windows.roll(4, dims=1)
    assert not torch.allclose(logits_of(model, turned), logits_of(model, windows), atol=1e-3)


def test_channels_keep_their_place_whatever_their_order() -> None:
    order = (3, 0, 2, 1)
    plain = SignalSpec(grid(2, 2), 60, 500.0, SPEC.gestures)
    wired = SignalSpec(grid(2, 2, order=order), 60, 500.0, SPEC.gestures)
    windows = generated(plain, 4)[0]
    rewired = torch.empty_like(windows)
    rewired[:, list(order)] = windows
    for way in ("band-power", "spectrogram"):
        name = f"cnn@{way}"
        expected = logits_of(build(name, plain, seed=0), windows)
        torch.testing.assert_close(logits_of(build(name, wired, seed=0), rewired), expected)


def test_no_two_fronts_share_a_key() -> None:
    keys = [front_key(front) for front in fronts(SPEC)]
    assert len({*keys, front_key(None)}) == len(keys) + 1
    again = [front_key(front) for front in fronts(SPEC)]
    assert again == keys


def test_raw_is_the_model_itself() -> None:
    assert entry("densenet-121@raw") == entry("densenet-121")
    assert entry("CustomDNN_34@band-power").name == "densenet-34@band-power"
    assert "cnn@spectrogram" in MODELS
    assert "cnn@raw" in MODELS
    assert "log-power-30k@band-power" not in MODELS
    assert not [name for name in models() if "@" in name]
    assert models("cnn@*") == [f"cnn@{way}" for way in REPRESENTATIONS]
    windows = generated(SPEC, 2)[0]
    raw, plain = (build(name, SPEC, seed=0) for name in ("cnn@raw", "cnn"))
    assert torch.equal(logits_of(raw, windows), logits_of(plain, windows))


def test_a_model_of_ones_own_can_read_them() -> None:
    @register_model("my-reader", "student", reads="image")
    def my_reader(spec: SignalSpec) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.channels * spec.samples, spec.classes))

    try:
        model = build("my-reader@band-power", SPEC)
        assert model(generated(SPEC, 2)[0]).shape == (2, 3)
        assert not entry("my-reader@band-power").ours
    finally:
        del MODELS["my-reader"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn@band-powr", "unknown representation 'band-powr': did you mean band-power"),
        ("cmn@band-power", "unknown model 'cmn': did you mean cnn"),
        ("cnn-30k@band-power", "model cnn-30k: expected one that reads images or sequences"),
        ("population@log-covariance", "it reads the signal in a way of its own"),
    ],
)
def test_what_does_not_go_together_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build(name, SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*readings(), "p3d-32@band-power"])
def test_a_window_too_short_is_an_error_that_names_the_least(name: str) -> None:
    def spec(samples: int) -> SignalSpec:
        return SignalSpec(ring(4), samples, 200.0, ("a", "b"))

    least = 3
    while refusal := refused(name, spec(least)):
        assert least < refusal <= 60  # filters first, then parts of the window
        least = refusal
    assert least > 3
    assert refused(name, spec(least - 1)) == least


def refused(name: str, spec: SignalSpec) -> int:
    """The least number of samples that a refusal names; 0 without one."""
    try:
        build(name, spec)
    except ModelError as error:
        found = re.findall(rf"at least (\d+) samples at 200 Hz, got {spec.samples}", str(error))
        return int(found[0])
    return 0


def test_where_they_run_is_known_before_training() -> None:
    for way in ("band-power", "spectrogram"):
        assert deployable(f"cnn@{way}", SPEC)["onnx"] is None
        assert deployable(f"cnn@{way}", SPEC)["c"] is None
        assert deployable(f"cnn@{way}", SPEC)["int8"] is not None
        assert deployable(f"lstm@{way}", SPEC)["executorch"] == "recurrent layers unroll"
    assert deployable("cnn@log-covariance", SPEC)["onnx"] is None
