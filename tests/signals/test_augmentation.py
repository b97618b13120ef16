"""Augmentation moves electrodes and not time, and a view can be repeated exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from myodistill.config import Augmentation
from myodistill.datasets.recording import Electrodes, grid, ring
from myodistill.signals.augmentation import Augmenter, _normal, _stream, _uniform, blend

RING, GRID = ring(8), grid(4, 4, order=tuple(reversed(range(16))))
EVERYTHING = Augmentation(
    rotation=2, fractional=True, dropout=0.2, gain_db=3, jitter=0.1, time_shift=5,
    mains_hz=50, mains_db=-6, snr_db=(5, 20), mixup=0.4,
)  # fmt: skip


def batch(windows: int, electrodes: Electrodes, samples: int = 40, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(windows, electrodes.channels, samples, generator=generator)


def augmenter(electrodes: Electrodes, seed: int = 0, **options: object) -> Augmenter:
    return Augmenter(Augmentation.model_validate(options), electrodes, 1000.0, seed=seed)


@pytest.mark.parametrize("electrodes", [RING, GRID, Electrodes("ring", 2, 8)])
@settings(max_examples=30, deadline=None)
@given(
    rotation=st.floats(0.5, 7),
    fractional=st.booleans(),
    seed=st.integers(0, 99),
    view=st.integers(0, 9),
)
def test_rotation_moves_electrodes_and_never_time(
    electrodes: Electrodes, rotation: float, fractional: bool, seed: int, view: int
) -> None:
    move = augmenter(electrodes, seed, rotation=rotation, fractional=fractional)
    x, indices = batch(6, electrodes), torch.arange(6)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(move(x, indices, view)[:, :, order], move(x[:, :, order], indices, view))
    if electrodes.is_ring and not fractional:
        moved = move(x, indices, view)
        for r in range(electrodes.rows):
            row = electrodes.positions()[r].tolist()
            assert torch.equal(moved[:, row].sort(dim=1).values, x[:, row].sort(dim=1).values)


def test_ring_turns_and_grid_shifts_as_the_map_says() -> None:
    x = torch.arange(8.0).repeat(50, 1)[:, :, None]
    turned = augmenter(RING, rotation=3)(x, torch.arange(50))[:, :, 0]
    shifts = {int((row - torch.arange(8.0)).remainder(8)[0]) for row in turned}
    assert shifts == {0, 1, 2, 3, 5, 6, 7}
    for row in turned:
        assert len({float(v) for v in (row - torch.arange(8.0)).remainder(8)}) == 1
    # Channel number = column of its place: only column shifts show, edges repeat.
    image = torch.zeros(1, 16, 1)
    for column in range(4):
        image[0, GRID.positions()[:, column], 0] = column
    shifted = augmenter(GRID, rotation=1)(image.repeat(60, 1, 1), torch.arange(60))
    rows = {tuple(s[GRID.positions()[0], 0].tolist()) for s in shifted}
    assert rows == {(0, 1, 2, 3), (0, 0, 1, 2), (1, 2, 3, 3)}


def test_fractional_rotation_interpolates_between_neighbours() -> None:
    x = torch.arange(8.0)[None, :, None].repeat(40, 1, 1)
    turned = augmenter(RING, rotation=1, fractional=True)(x, torch.arange(40))[:, :, 0]
    step = turned[:, 4] - 4.0
    assert step.abs().max() <= 1
    assert step.unique().numel() == 40
    assert torch.allclose(turned[:, 3] - 3.0, step, atol=1e-5)


@pytest.mark.parametrize("electrodes", [RING, GRID])
def test_a_view_is_the_same_in_any_batch(electrodes: Electrodes) -> None:
    augment = Augmenter(EVERYTHING, electrodes, 1000.0, seed=7)
    x, indices = batch(20, electrodes), torch.arange(100, 120)
    whole = augment(x, indices, view=3)
    chosen = torch.tensor([17, 2, 2, 9])
    assert torch.equal(augment(x[chosen], indices[chosen], view=3), whole[chosen])
    assert torch.equal(augment(x[5:6], indices[5:6], view=3), whole[5:6])
    partners, weights = augment.partners(indices, 1000, view=3)
    again = augment.partners(indices[chosen], 1000, view=3)
    assert torch.equal(partners[chosen], again[0])
    assert torch.equal(weights[chosen], again[1])
    for other in (
        augment(x, indices, view=4),
        augment(x, indices + 1, view=3),
        Augmenter(EVERYTHING, electrodes, 1000.0, seed=8)(x, indices, view=3),
    ):
        assert (other != whole).flatten(1).any(dim=1).all()


def test_nothing_asked_for_changes_nothing() -> None:
    x = batch(4, RING)
    kept = x.clone()
    assert torch.equal(augmenter(RING)(x, torch.arange(4)), kept)
    Augmenter(EVERYTHING, RING, 1000.0)(x, torch.arange(4))
    assert torch.equal(x, kept)
    partner, weight = augmenter(RING).partners(torch.arange(9), 5)
    assert (weight == 1).all()
    assert partner.max() < 5


def test_numbers_are_as_random_as_they_claim() -> None:
    keys = augmenter(RING, 3)._keys(torch.arange(2000), 0)
    assert kstest(_uniform(_stream(keys, 1), 20).flatten().numpy(), "uniform").pvalue > 1e-3
    assert kstest(_normal(_stream(keys, 2), 21).flatten().numpy(), "norm").pvalue > 1e-3
    draws = _uniform(_stream(keys, 1), 2)
    assert abs(torch.corrcoef(draws.T)[0, 1]) < 0.1
    assert abs(torch.corrcoef(torch.stack([draws[1:, 0], draws[:-1, 0]]))[0, 1]) < 0.1


def test_sizes_are_those_asked_for() -> None:
    x, indices = batch(3000, RING, 64), torch.arange(3000)
    noisy = augmenter(RING, snr_db=(10, 10))(x, indices) - x
    assert noisy.square().mean() / x.square().mean() == pytest.approx(0.1, rel=0.02)
    assert augmenter(RING, jitter=0.3)(x * 0, indices).std() == pytest.approx(0.3, rel=0.02)
    silent = (augmenter(RING, dropout=0.25)(x, indices) == 0).all(dim=2).float().mean()
    assert silent == pytest.approx(0.25, abs=0.02)
    gain = 20 * (augmenter(RING, gain_db=2)(x, indices) / x)[:, :, 0].log10()
    assert gain.std() == pytest.approx(2.0, rel=0.05)
    hum = augmenter(RING, mains_hz=50, mains_db=0)(x, indices) - x
    assert (hum.square().mean(2).sqrt() / x.square().mean(2).sqrt()).max() < 1.3


def test_time_shift_mirrors_what_is_missing() -> None:
    x = torch.arange(10.0).repeat(200, 8, 1)
    shifted = augmenter(RING, time_shift=2)(x, torch.arange(200))
    seen = {tuple(row.tolist()) for row in shifted[:, 0]}
    assert len(seen) == 5
    assert (2, 1, 0, 1, 2, 3, 4, 5, 6, 7) in seen
    assert (2, 3, 4, 5, 6, 7, 8, 9, 8, 7) in seen


def test_mixup_weights_and_blend() -> None:
    partner, weight = augmenter(RING, mixup=0.3).partners(torch.arange(5000), 77)
    assert partner.unique().numel() == 77
    assert weight.min() >= 0.5
    assert weight.max() <= 1
    # Beta(a, a) folded at one half: E|w - 1/2| by quadrature for a = 0.3 is 0.3659.
    assert float(weight.mean()) == pytest.approx(0.5 + 0.3659, abs=0.02)
    labels = torch.eye(3)
    mixed = blend(labels, labels[[1, 2, 0]], torch.tensor([1.0, 0.5, 0.75]))
    assert mixed.tolist() == [[1, 0, 0], [0, 0.5, 0.5], [0.25, 0, 0.75]]
