"""The streaming decoder says the same in chunks of any size, and the same as offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from decoding import STEP, adaptable, bundle, positions, recording
from hypothesis import given, settings
from hypothesis import strategies as st

from myodistill.bundle import Bundle
from myodistill.decision_rule import REJECTED, DecisionFilter, DecisionRule
from myodistill.deploy.onnx import to_onnx
from myodistill.errors import BundleError, DataError, SettingsError
from myodistill.evaluation import events
from myodistill.realtime.decoder import Decision, Decoder
from myodistill.realtime.runtime import OnnxModel
from myodistill.signals.filters import apply
from myodistill.signals.preprocessing import PreprocessingStream


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle()


SIGNAL = recording(3, 4, seed=1)
RULES = (
    DecisionRule(),
    DecisionRule(votes=3, threshold=0.6),
    DecisionRule(smoothing=4, hold=3, threshold=0.5),
)


def stream(
    student: Bundle, signal: np.ndarray, cuts: Sequence[int] = (), rule: DecisionRule | None = None
) -> list[Decision]:
    decoder = Decoder(student, step=STEP, rule=rule)
    edges = [0, *sorted(cuts), len(signal)]
    return [d for a, b in pairwise(edges) for d in decoder.push(signal[a:b])]


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, len(SIGNAL)), max_size=12), rule=st.sampled_from(RULES))
def test_chunks_change_nothing(student: Bundle, cuts: list[int], rule: DecisionRule) -> None:
    assert stream(student, SIGNAL, cuts, rule) == stream(student, SIGNAL, rule=rule)


def test_equals_the_offline_pipeline(student: Bundle) -> None:
    assert student.preprocessing is not None
    windows = positions(apply(student.preprocessing.sections(), SIGNAL), student.spec)
    logits = student.logits(windows)
    online = stream(student, SIGNAL, range(0, len(SIGNAL), 7))
    assert [d.gesture for d in online] == logits.argmax(axis=1).tolist()
    assert [d.sample for d in online] == (windows.starts + student.spec.samples).tolist()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for rule in RULES[:2]:
        offline = events.decide(
            probabilities, windows.starts.astype(float), votes=rule.votes, threshold=rule.threshold
        )
        online = stream(student, SIGNAL, rule=rule)
        assert [d.gesture for d in online] == offline.gestures.tolist()


@pytest.mark.parametrize("step", [1, 100, 130])
def test_any_step(student: Bundle, step: int) -> None:
    decoder = Decoder(student, step=step)
    ends = [d.sample for part in np.array_split(SIGNAL[:400], 9) for d in decoder.push(part)]
    assert ends == list(range(100, 401, step))


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 900), max_size=6),
    places=st.lists(st.tuples(st.integers(0, 899), st.integers(0, 3)), max_size=3),
    leading=st.integers(0, 3),
)
def test_abstains_where_the_signal_is_broken(
    student: Bundle, cuts: list[int], places: list[tuple[int, int]], leading: int
) -> None:
    signal = SIGNAL[:900].copy()
    for sample, channel in places:
        signal[sample, channel] = np.nan
    signal[:leading, 1] = np.inf
    bad = ~np.isfinite(signal).all(axis=1)
    decisions = stream(student, signal, cuts)
    assert decisions == stream(student, signal)
    for decision in decisions:
        touched = bool(bad[decision.sample - 100 : decision.sample].any())
        assert (decision.gesture == REJECTED) == touched


def test_counts_what_it_abstained_from_and_recovers(student: Bundle) -> None:
    signal = SIGNAL.copy()
    signal[400, 2] = np.nan
    decoder = Decoder(student, step=STEP)
    decisions = decoder.push(signal.astype(np.float64))
    assert decoder.abstained == sum(d.gesture == REJECTED for d in decisions) == 4
    clean = stream(student, SIGNAL)
    same = [a.gesture == b.gesture for a, b in zip(decisions, clean, strict=True) if a.gesture >= 0]
    assert np.mean(same) > 0.95


def test_refuses_another_number_of_channels(student: Bundle) -> None:
    decoder = Decoder(student, step=STEP)
    for wrong in (SIGNAL[:, :3], SIGNAL[0]):
        with pytest.raises(DataError, match=r"4 channels\), got \("):
            decoder.push(wrong)
    assert decoder.push(SIGNAL[:0]) == []


def test_refuses_what_it_cannot_run(student: Bundle) -> None:
    with pytest.raises(BundleError, match="person's pre-processing"):
        Decoder(replace(student, preprocessing=None), step=STEP)
    for step in (0, 2.5, True):
        with pytest.raises(SettingsError, match="step: expected at least 1 sample"):
            Decoder(student, step=step)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="votes"):
        DecisionRule(votes=0)
    with pytest.raises(SettingsError, match="threshold"):
        DecisionRule(threshold=1.5)


def decide(rule: DecisionRule, gestures: Sequence[int], confidence: float = 0.9) -> list[int]:
    chooser = DecisionFilter(rule)
    share = (1 - confidence) / 2
    rows = [np.where(np.arange(3) == g, confidence, share) for g in gestures]
    return [chooser.decide(np.log(row))[0] for row in rows]


def test_rule() -> None:
    assert REJECTED == events.REJECTED
    assert decide(DecisionRule(votes=3), [0, 0, 1, 1, 2, 0]) == [0, 0, 0, 1, 1, 0]
    assert decide(DecisionRule(hold=3), [0, 1, 1, 1, 2, 2]) == [0, 0, 0, 1, 1, 1]
    assert decide(DecisionRule(smoothing=3), [0, 0, 1, 1]) == [0, 0, 0, 1]
    assert decide(DecisionRule(threshold=0.95), [0, 1]) == [REJECTED, REJECTED]


NO_NUMBERS: dict[str, Callable[[np.ndarray], Any]] = {
    "an integer without end": lambda x: [[10**400] * x.shape[-1]],
    "complex": lambda x: x.astype(complex),
    "masked": lambda x: np.ma.masked_greater(x, 0),
    "objects": lambda x: x.astype(object),
    "truth": lambda x: x > 0,
    "text": lambda x: x.astype(str),
    "bytes": lambda x: x.astype("S8"),
    "ragged": lambda x: [[1.0], [1.0, 2.0]],
    "one dimension": lambda x: x.ravel(),
    "no dimension": lambda x: 3.0,
    "empty": lambda x: [],
    "another channel count": lambda x: x[..., :3, :3],
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_sample_is_one_line(student: Bundle, kind: str) -> None:
    model = OnnxModel.load(to_onnx(student).SerializeToString())
    assert student.preprocessing is not None
    decoder = Decoder(student, step=STEP)
    chunk, windows = SIGNAL[:200], SIGNAL[:100].T[None].copy()
    calls: list[tuple[Callable[[Any], Any], np.ndarray]] = [
        (decoder.push, chunk),
        (PreprocessingStream(student.preprocessing).push, chunk),
        (model._infer, windows),
        (student._infer, windows),
    ]
    for call, sound in calls:
        with pytest.raises(DataError) as caught:
            call(NO_NUMBERS[kind](sound))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 240
    whole = Decoder(student, step=STEP).push(SIGNAL)
    assert decoder.push(SIGNAL) == whole  # nothing of the refused chunk was taken


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, np.iinfo(np.int64).min])
def test_what_no_amplifier_gives_is_never_decided_on(student: Bundle, value: float) -> None:
    signal = SIGNAL[:300].astype(np.float64)
    signal[150, 2] = value
    decisions = Decoder(student, step=STEP).push(signal)
    assert {d.gesture == REJECTED for d in decisions if 150 < d.sample <= 250} == {True}
    assert student.preprocessing is not None
    if abs(value) < 1e30:
        return
    model = OnnxModel.load(to_onnx(student).SerializeToString())
    stream = PreprocessingStream(student.preprocessing)
    before = PreprocessingStream(student.preprocessing).push(SIGNAL[:100])
    with pytest.raises(DataError, match="pre-processing: expected finite samples"):
        stream.push(signal)
    assert np.array_equal(stream.push(SIGNAL[:100]), before)
    for infer in (model._infer, student._infer):
        with pytest.raises(DataError, match="expected finite samples"):
            infer(signal[100:200].T[None])
    assert model._infer(np.zeros((0, 4, 100))).shape == student._infer(np.zeros((0, 4, 100))).shape


def test_a_model_brings_its_step_and_rule(student: Bundle) -> None:
    ruled = replace(student, step=50, rule=DecisionRule(threshold=0.9, votes=3))
    expected = Decoder(student, step=50, rule=ruled.rule).push(SIGNAL)
    assert Decoder(ruled).push(SIGNAL) == expected
    model = OnnxModel.load(to_onnx(ruled).SerializeToString())
    assert (model.step, model.rule) == (50, ruled.rule)
    assert [d.gesture for d in Decoder(model).push(SIGNAL)] == [d.gesture for d in expected]


def test_no_public_method_takes_raw_windows_for_filtered_ones() -> None:
    """Windows as an array go through the filter, or to nothing that a user would call."""
    student = bundle(epochs=1)
    model = OnnxModel.load(to_onnx(student).SerializeToString())
    methods = {n for n in dir(model) if not n.startswith("_") and callable(getattr(model, n))}
    assert methods == {"load"}
    assert "infer" not in dir(student)


def test_threshold_and_adapting_change_while_decoding(student: Bundle) -> None:
    signal = recording(3, 4, seed=1)
    plain, changed = Decoder(student), Decoder(student)
    before = plain.push(signal[:900])
    assert changed.push(signal[:900]) == before
    for one in before:
        assert one.probabilities is not None
        assert one.probabilities.max() == one.confidence
    changed.threshold = 1.0
    assert {one.gesture for one in changed.push(signal[900:1200])} == {-1}
    plain.push(signal[900:1200])
    changed.threshold = 0.0
    assert changed.push(signal[1200:]) == plain.push(signal[1200:])
    with pytest.raises(SettingsError, match="a share from 0 to 1"):
        changed.threshold = 1.5
    with pytest.raises(BundleError, match="expected a student that can adapt"):
        changed.follow(True)
    follower = Decoder(adaptable(student))
    follower.follow(True)
    kept = follower.adapter
    assert kept is not None
    follower.follow(False)
    assert follower.adapter is None
    follower.follow(True)
    assert follower.adapter is kept  # what was learned is still there
