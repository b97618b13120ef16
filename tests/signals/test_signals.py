"""Causal pre-processing is the same in chunks and whole; windows are views."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import sosfilt_zi, sosfreqz

from myodistill.datasets.recording import Annotation, Recording, Repetition, ring
from myodistill.errors import DataError, SettingsError
from myodistill.signals import filters, preprocessing
from myodistill.signals.features import log_covariance, time_domain
from myodistill.signals.filters import CausalFilter, apply, design
from myodistill.signals.gather import gather
from myodistill.signals.preprocessing import Preprocessing, PreprocessingStream
from myodistill.signals.windows import Windows, cut, running

RATE = 1000.0


def noise(samples: int, channels: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, channels)).astype(np.float32)


def take(signal: np.ndarray, subject: str = "s", repetition: int = 0) -> Recording:
    notes = (Annotation(0, len(signal), repetition % 2, repetition),)
    return Recording(subject, "a", signal, RATE, ring(signal.shape[1]), ("x", "y"), notes)


def windows_of(*signals: np.ndarray, samples: int = 50, step: int = 10) -> Windows:
    takes = [take(signal, repetition=i) for i, signal in enumerate(signals)]
    return cut(takes, [t.signal for t in takes], samples=samples, step=step)


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 300), max_size=8),
    seed=st.integers(0, 1000),
    offset=st.floats(-1e4, 1e4),
)
def test_chunks_give_the_same_samples_as_the_whole(
    cuts: list[int], seed: int, offset: float
) -> None:
    signal = noise(300, seed=seed) + np.float32(offset)
    matrix = noise(4, seed=seed + 1)
    fitted = Preprocessing(RATE, (20.0, 450.0), 50.0, matrix, frozenset())
    stream = PreprocessingStream(fitted)
    edges = [0, *sorted(cuts), 300]
    chunks = [stream.push(signal[a:b]) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(chunks), fitted.apply(signal))


def test_long_recordings_are_worked_on_in_parts() -> None:
    signal, sections, matrix = noise(20000), design(RATE, (20.0, 450.0)), noise(4, seed=1)
    whole = CausalFilter(sections).push(signal).astype(np.float32)
    assert np.array_equal(apply(sections, signal), whole)
    mapped = sum(whole[:, [c]] * matrix[:, c] for c in range(4))
    assert np.array_equal(preprocessing.map_channels(whole, matrix), mapped)


@pytest.mark.parametrize("channels", [1, 2, 9, 17])
def test_a_sample_is_mapped_alike_alone_and_among_many(channels: int) -> None:
    signal, matrix = noise(2000, channels), noise(channels, channels, seed=1)
    whole = sum(signal[:, [c]] * matrix[:, c] for c in range(channels))
    for size in (1, 2, 51, 2000):
        parts = [signal[begin : begin + size] for begin in range(0, len(signal), size)]
        mapped = [preprocessing.map_channels(part, matrix) for part in parts]
        assert np.array_equal(np.concatenate(mapped), whole)


def test_filter_is_causal() -> None:
    signal = noise(200)
    later = signal.copy()
    later[120:] += 100
    sections = design(RATE, (20.0, 450.0))
    assert np.array_equal(apply(sections, signal)[:120], apply(sections, later)[:120])


@pytest.mark.parametrize(
    ("hertz", "least", "most"), [(5, 0, 0.01), (100, 0.99, 1.01), (50, 0, 1e-6)]
)
def test_filter_passes_its_band_and_stops_the_mains(
    hertz: float, least: float, most: float
) -> None:
    sections = design(RATE, (20.0, 450.0), mains=50.0)
    _, gain = sosfreqz(sections, worN=[hertz], fs=RATE)
    assert least <= abs(gain[0]) <= most


def test_constant_offset_does_not_ring() -> None:
    constant = np.full((100, 2), 5000.0, dtype=np.float32)
    assert np.abs(apply(design(RATE, (20.0, 450.0)), constant)).max() < 1e-3


@pytest.mark.parametrize("band", [(0.0, 100.0), (100.0, 50.0), (600.0, 700.0)])
def test_impossible_band(band: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match="passband: expected 0 < low < high"):
        design(RATE, band)


def test_stream_refuses_another_channel_count() -> None:
    stream = PreprocessingStream(
        Preprocessing(RATE, (20.0, 450.0), 0.0, np.eye(4, dtype="f4"), frozenset())
    )
    with pytest.raises(DataError, match=r"shape \(time, 4\), got \(10, 3\)"):
        stream.push(noise(10, 3))


def test_windows_share_memory() -> None:
    windows = windows_of(noise(5000), noise(5000, seed=1), samples=100, step=10)
    assert len(windows) == 2 * 491
    assert np.shares_memory(windows.every_position(), windows.signal)
    assert np.shares_memory(windows.select(windows.repetitions[:1]).signal, windows.signal)
    assert windows.signal.nbytes == 2 * 5000 * 4 * 4


def test_gathered_windows_are_the_signal() -> None:
    a, b = noise(100), noise(80, seed=1)
    windows = windows_of(a, b, samples=50, step=10)
    batch = windows.gather()
    assert batch.shape == (6 + 4, 4, 50)
    assert np.array_equal(batch[1], a[10:60].T)
    assert np.array_equal(batch[6], b[0:50].T)
    assert windows.labels.tolist() == [0] * 6 + [1] * 4


@given(length=st.integers(50, 200), step=st.integers(1, 60))
def test_no_window_straddles_an_annotation(length: int, step: int) -> None:
    signal = noise(400)
    notes = (Annotation(0, length, 0, 0), Annotation(length, 400, 1, 0))
    one = Recording("s", "a", signal, RATE, ring(4), ("x", "y"), notes)
    windows = cut([one], [signal], samples=50, step=step)
    stops = windows.starts + 50
    assert np.all((stops <= length) | (windows.starts >= length))
    assert np.all((windows.labels == 0) == (windows.starts < length))


def test_too_short_annotation() -> None:
    with pytest.raises(DataError, match=r"expected at least 50 samples of gesture 0.*got 49"):
        windows_of(noise(49))


def test_running_windows_cover_whole_recordings_of_some_sessions() -> None:
    takes = [
        Recording("Ann", session, noise(length), 1000.0, ring(4), ("a", "b"), (note,))
        for session, length, note in (
            ("train", 80, Annotation(0, 80, 0, 0)),
            ("test", 100, Annotation(30, 90, 1, 0)),
            ("test", 75, Annotation(0, 75, 0, 1)),
        )
    ]
    cuts = cut(takes, [take.signal for take in takes], samples=50, step=10)
    found = running(cuts, takes, sessions=("test",), step=10)
    assert found.starts.tolist() == [80, 90, 100, 110, 120, 130, 180, 190, 200]
    assert found.repetition_index.tolist() == [1] * 6 + [2] * 3
    assert (found.labels == -1).all()
    assert np.array_equal(found.gather()[0], takes[1].signal[:50].T)
    with pytest.raises(DataError, match="at least 50 samples in day2"):
        running(cuts, takes, sessions=("day2",), step=10)


def test_trimmed_windows_are_the_same_over_less_signal() -> None:
    windows = windows_of(noise(200), noise(150, seed=1), noise(300, seed=2))
    some = windows.select(windows.repetitions[1:2])
    trimmed = some.trimmed()
    assert np.array_equal(trimmed.gather(), some.gather())
    assert len(trimmed.signal) == 150
    assert np.array_equal(np.concatenate(list(windows.batches())), windows.gather())


def test_a_repetition_that_is_not_there_cannot_be_selected() -> None:
    windows = windows_of(noise(100))
    with pytest.raises(DataError, match="expected windows of t/a/repetition 7"):
        windows.select({Repetition("t", "a", 7)})


def test_scaling_gives_unit_power() -> None:
    windows = windows_of(noise(2000) * np.array([1, 10, 100, 1000], dtype=np.float32))
    matrix = preprocessing.scaling(windows)
    assert np.count_nonzero(matrix - np.diag(np.diag(matrix))) == 0
    scaled = windows.over(preprocessing.map_channels(windows.signal, matrix))
    assert np.allclose(np.diag(preprocessing.mean_covariance(scaled)), 1, atol=1e-5)


def test_recentring_brings_the_mean_covariance_near_the_identity() -> None:
    windows = windows_of(noise(2000) @ noise(4, seed=5))
    matrix = preprocessing.recentring(windows)
    assert np.allclose(matrix, matrix.T, atol=1e-6)
    centred = windows.over(preprocessing.map_channels(windows.signal, matrix))
    assert np.allclose(preprocessing.mean_covariance(centred), np.eye(4), atol=0.1)


def test_preprocessing_survives_json_to_the_last_bit() -> None:
    matrix = preprocessing.recentring(windows_of(noise(500)))
    before = Preprocessing(RATE, (20.0, 450.0), 60.0, matrix, frozenset({Repetition("s", "a", 1)}))
    after = Preprocessing.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after.seen == before.seen
    assert np.array_equal(after.apply(noise(300)), before.apply(noise(300)))


def test_filter_state_carries_across_single_samples() -> None:
    signal = noise(50)
    one = CausalFilter(design(RATE, (20.0, 450.0)))
    rows = [one.push(signal[i : i + 1]) for i in range(50)]
    whole = CausalFilter(design(RATE, (20.0, 450.0))).push(signal)
    assert np.array_equal(np.concatenate(rows), whole)


def test_time_domain_features_by_hand() -> None:
    window = np.array([[[1.0, -1.0, 2.0, 2.0]]], dtype=np.float32)
    mav, length, crossings, turns, rms, log_variance = time_domain(window)[0]
    assert mav == 1.5
    assert length == 2 + 3 + 0
    assert crossings == 2
    assert turns == 1
    assert rms == pytest.approx(np.sqrt(10 / 4))
    assert log_variance == pytest.approx(np.log(1.5))


def test_log_covariance_of_independent_channels_by_hand() -> None:
    t = np.arange(400)
    a, b = np.sin(2 * np.pi * t / 20), 3 * np.cos(2 * np.pi * t / 20)
    vector = log_covariance(np.stack([a, b])[None].astype(np.float32), shrinkage=0.0)[0]
    assert vector == pytest.approx([np.log(0.5), 0.0, np.log(4.5)], abs=1e-5)


def test_windows_gathered_on_a_device_are_the_same() -> None:
    windows = windows_of(noise(400), noise(300, seed=1))
    starts = torch.from_numpy(windows.starts)[[3, 50, 3, 0]]
    batch = gather(torch.from_numpy(windows.signal), starts, windows.samples)
    assert np.array_equal(batch.numpy(), windows.gather(np.array([3, 50, 3, 0])))
    fortran = windows.over(np.asfortranarray(windows.signal))
    assert np.array_equal(fortran.gather(), windows.gather())


@pytest.mark.parametrize("mains", [0.0, 60.0])
def test_a_filter_without_scipy_gives_the_same_samples(
    mains: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections, signal = design(RATE, (20.0, 450.0), mains=mains), noise(200) + np.float32(50)
    assert np.array_equal(filters.steady_state(sections), sosfilt_zi(sections))
    expected = CausalFilter(sections).push(signal)
    monkeypatch.setattr(filters, "_HAS_SCIPY", False)
    for size in (1, 3, 51, 200):
        alone = CausalFilter(sections)
        found = [alone.push(signal[begin : begin + size]) for begin in range(0, 200, size)]
        assert np.array_equal(np.concatenate(found), expected)
