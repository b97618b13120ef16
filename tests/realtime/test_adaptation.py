"""A decoder that follows its wearer: causal, the same however samples come, and easy to stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoding import adaptable, bundle, positions, recording
from hypothesis import given, settings
from hypothesis import strategies as st

from myodistill.adaptation import Adaptation
from myodistill.bundle import Bundle
from myodistill.bundle_card import CARD, card_hash
from myodistill.deploy.onnx import write_onnx
from myodistill.errors import BundleError, DataError
from myodistill.realtime.adaptation import (
    ADAPTERS,
    Adapter,
    CommonShift,
    GestureMeans,
    GuardedGestureMeans,
)
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.runtime import OnnxModel
from myodistill.signals.filters import apply
from myodistill.signals.windows import Windows

GESTURES = 4
METHODS = pytest.mark.parametrize("method", ADAPTERS.values(), ids=lambda method: method.name)


def stream(
    shift: np.ndarray | float = 0.0, *, windows: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of gestures whose means lie apart, and moved by a shift ``(gesture, logit)``."""
    random = np.random.default_rng(seed)
    performances = random.integers(GESTURES, size=windows // 20)
    labels = np.repeat(performances, 20)
    means = 3 * np.eye(GESTURES) + shift
    noise = 1.2 * random.standard_normal((len(labels), GESTURES))
    return (means[labels] + noise).astype(np.float32), labels


def fitted() -> Adaptation:
    logits, labels = stream(seed=1)
    population = Adaptation.of_population(logits, labels, np.arange(len(labels)) // 400)
    own, gestures = stream(seed=2, windows=400)
    return population.of_person(own, gestures, 1)


def decided(adapter: Adapter, logits: np.ndarray) -> np.ndarray:
    return np.stack([adapter.adapt(one) for one in logits])


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float((logits.argmax(axis=1) == labels).mean())


SHIFT = np.array([[0, 1.5, 0, 0], [0, 0, 1.5, 0], [0, 0, 0, 1.5], [1.5, 0, 0, 0]])


@pytest.mark.parametrize("method", [GestureMeans, GuardedGestureMeans])
def test_means_that_moved_are_followed(method: type[Adapter]) -> None:
    logits, labels = stream(SHIFT)
    half = len(labels) // 2
    adapted = decided(method(fitted()), logits)
    before, after = accuracy(logits[half:], labels[half:]), accuracy(adapted[half:], labels[half:])
    assert after > before + 1


def test_a_shift_of_all_gestures_is_followed() -> None:
    logits, labels = stream(np.array([2.0, -1, 0, -1]))
    half = len(labels) // 2
    adapted = decided(CommonShift(fitted()), logits)
    assert accuracy(adapted[half:], labels[half:]) > accuracy(logits[half:], labels[half:]) + 1


def test_an_unknown_movement_leads_only_the_unguarded_astray() -> None:
    """For a long while, between two gestures; then everything is as it was calibrated."""
    random = np.random.default_rng(0)
    unknown = np.array([0, 2.4, 1.8, 0]) + 0.8 * random.standard_normal((4000, GESTURES))
    logits, labels = stream()
    static = accuracy(logits, labels)

    def after(adapter: Adapter) -> float:
        decided(adapter, unknown)
        return accuracy(decided(adapter, logits), labels)

    plain, guarded = after(GestureMeans(fitted())), after(GuardedGestureMeans(fitted()))
    assert plain < static - 1.5
    assert guarded > plain + 0.5


@pytest.mark.parametrize("seed", range(5))
def test_a_stream_that_stays_as_it_was_is_never_taken_for_another(seed: int) -> None:
    adapter = GuardedGestureMeans(fitted())
    for one in stream(SHIFT, windows=3000, seed=seed)[0]:
        adapter.adapt(one)
        assert not adapter.suspended


def test_adaptation_is_suspended_while_the_stream_is_unlike_what_it_was() -> None:
    adapter = GuardedGestureMeans(fitted())
    usual, _ = stream(SHIFT, windows=3000)
    broken = 4 * stream(SHIFT, windows=3000, seed=3)[0]
    again, _ = stream(SHIFT, windows=8000, seed=4)
    decided(adapter, usual)
    assert not adapter.suspended
    decided(adapter, broken[:1500])
    assert adapter.suspended
    learned = json.loads(adapter.state())["means"]
    late = broken[1500:]
    np.testing.assert_array_equal(decided(adapter, late), late)
    assert json.loads(adapter.state())["means"] == learned
    after = decided(adapter, again)
    assert not adapter.suspended
    assert (after[-100:] != again[-100:]).any()


@METHODS
def test_the_first_window_is_decided_as_without(method: type[Adapter]) -> None:
    logits, _ = stream(SHIFT)
    np.testing.assert_allclose(method(fitted()).adapt(logits[0]), logits[0], atol=1e-6)


@METHODS
@given(cut=st.integers(1, 59), seed=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_later_windows_change_no_earlier_decision(
    method: type[Adapter], cut: int, seed: int
) -> None:
    logits, _ = stream(SHIFT, windows=60, seed=seed)
    other = logits.copy()
    other[cut:] = other[cut:][::-1] * -3
    one, two = decided(method(fitted()), logits), decided(method(fitted()), other)
    np.testing.assert_array_equal(one[: cut + 1][:cut], two[:cut])


@METHODS
def test_reset_forgets(method: type[Adapter]) -> None:
    logits, _ = stream(SHIFT)
    adapter = method(fitted())
    first = decided(adapter, logits)
    assert not np.allclose(first, logits, atol=0.1)
    adapter.reset()
    np.testing.assert_array_equal(decided(adapter, logits), first)


@METHODS
def test_a_state_goes_over_a_power_cycle(method: type[Adapter]) -> None:
    logits, _ = stream(SHIFT)
    adapter, after = method(fitted()), method(fitted())
    decided(adapter, logits[:1000])
    after.restore(adapter.state())
    adapter.pause()  # as a power cycle is one
    np.testing.assert_array_equal(decided(adapter, logits[1000:]), decided(after, logits[1000:]))


def changed(state: str, **values: object) -> str:
    return json.dumps({**json.loads(state), **values})


@METHODS
def test_a_state_of_another_bundle_is_refused(method: type[Adapter]) -> None:
    logits, _ = stream(SHIFT)
    adapter = method(fitted())
    decided(adapter, logits[:100])
    state, learned = adapter.state(), adapter.adapt(logits[100])
    other = method(replace(fitted(), gain=0.123))
    with pytest.raises(BundleError, match="state of this bundle"):
        other.restore(state)
    for wrong in (
        "",
        "[" * 100_000,
        "[1]",
        "null",
        changed(state, format=2),
        changed(state, method="none"),
        changed(state, means=[[1.0]]),
        changed(state, means=float("nan")),
        changed(state, means=[[10**400]]),
        changed(state, means="x"),
        *([changed(state, variance=[-1.0] * GESTURES)] if "variance" in state else []),
    ):
        with pytest.raises(BundleError, match="reset instead"):
            adapter.restore(wrong)
    adapter.restore(state)
    adapter.pause()
    assert np.abs(adapter.adapt(logits[100]) - learned).max() < 1e-6


def test_wrong_numbers_are_refused() -> None:
    good = fitted()
    with pytest.raises(DataError, match="of \\(gesture, gesture\\)"):
        replace(good, means=good.means[:2])
    with pytest.raises(DataError, match="finite"):
        replace(good, scatter=good.scatter * np.float32(np.nan))
    with pytest.raises(DataError, match="positive definite"):
        GuardedGestureMeans(replace(good, scatter=-good.scatter))


# The decoder


@pytest.fixture(scope="module")
def student() -> Bundle:
    return adaptable(bundle())


SIGNAL = recording(3, 4, seed=5, seconds=4) * np.array([1, 1.3, 0.8, 1], np.float32)


def test_the_bundle_holds_it(student: Bundle, tmp_path: Path) -> None:
    student.save(tmp_path)
    back = Bundle.load(tmp_path).adaptation
    assert back is not None
    assert student.adaptation is not None
    assert back.fingerprint == student.adaptation.fingerprint


@given(sizes=st.lists(st.integers(1, 900), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_the_same_in_any_chunks(student: Bundle, sizes: list[int]) -> None:
    whole = Decoder(student, adapt=True).push(SIGNAL)
    assert whole != Decoder(student).push(SIGNAL)
    decoder, decisions, begin = Decoder(student, adapt=True), [], 0
    for size in [*sizes, len(SIGNAL)]:
        decisions += decoder.push(SIGNAL[begin : begin + size])
        begin += size
    assert decisions == whole


def test_the_same_as_offline(student: Bundle) -> None:
    assert student.preprocessing is not None
    assert student.adaptation is not None
    filtered: Windows = positions(apply(student.preprocessing.sections(), SIGNAL), student.spec)
    offline = decided(GuardedGestureMeans(student.adaptation), student.logits(filtered))
    live = [decision.prediction for decision in Decoder(student, adapt=True).push(SIGNAL)]
    assert np.mean(offline.argmax(axis=1) == live) > 0.999


def test_the_same_on_onnx_runtime(student: Bundle, tmp_path: Path) -> None:
    assert student.preprocessing is not None
    windows = positions(apply(student.preprocessing.sections(), SIGNAL), student.spec)
    write_onnx(student, tmp_path / "student.onnx", windows)
    exported = OnnxModel.load(tmp_path / "student.onnx")
    one, two = (Decoder(model, adapt=True).push(SIGNAL) for model in (student, exported))
    assert np.mean([a.prediction == b.prediction for a, b in zip(one, two, strict=True)]) > 0.999


def test_nothing_is_learned_where_the_decoder_abstains(student: Bundle) -> None:
    decoder = Decoder(student, adapt=True)
    assert decoder.adapter is not None
    at_first = decoder.adapter.state()
    decoder.push(SIGNAL[:3000])
    bad = SIGNAL[3000:3300].copy()
    bad[::20, 2] = np.nan
    decoder.push(bad)
    before = decoder.adapter.state()
    decisions = decoder.push(bad)
    assert len(decisions) == 12
    assert all(decision.gesture == -1 for decision in decisions)
    assert decoder.adapter.state() == before != at_first


def test_a_student_without_a_population_does_not_adapt() -> None:
    plain = bundle(epochs=1)
    with pytest.raises(BundleError, match="expected a student that can adapt"):
        Decoder(plain, adapt=True)
    assert Decoder(plain).adapter is None


@pytest.mark.parametrize(
    "damage",
    [
        {"means": [[0.0]]},
        {"means": [[10**400] * 3] * 3},
        {"means": [[0.0], [0.0, 1.0]]},
        {"scatter": "x"},
        {"gain": None},
        {"gain": float("inf")},
        {"repetitions": float("inf")},
        {"repetitions": -1},
    ],
)
def test_a_damaged_adaptation_is_refused_in_one_line(
    student: Bundle, tmp_path: Path, damage: dict[str, object]
) -> None:
    student.save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    card["adaptation"] |= damage
    card["card_sha256"] = card_hash(card)
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(BundleError) as raised:
        Bundle.load(tmp_path)
    assert "\n" not in str(raised.value)
