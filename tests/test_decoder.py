"""The streaming decoder says the same in chunks of any size, and the same as offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from decoding import STEP, bundle, positions, recording
from hypothesis import given, settings
from hypothesis import strategies as st

from myodistill.deploy.bundle import Bundle
from myodistill.errors import BundleError, DataError, SettingsError
from myodistill.evaluation import events
from myodistill.realtime.decoder import Decision, Decoder
from myodistill.realtime.rule import REJECTED, Chooser, Rule
from myodistill.signals.filters import apply


@pytest.fixture(scope="module")
def student() -> Bundle:
    return bundle()


SIGNAL = recording(3, 4, seed=1)
RULES = (Rule(), Rule(votes=3, threshold=0.6), Rule(smoothing=4, hold=3, threshold=0.5))


def stream(
    student: Bundle, signal: np.ndarray, cuts: Sequence[int] = (), rule: Rule | None = None
) -> list[Decision]:
    decoder = Decoder(student, step=STEP, rule=rule)
    edges = [0, *sorted(cuts), len(signal)]
    return [d for a, b in pairwise(edges) for d in decoder.push(signal[a:b])]


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, len(SIGNAL)), max_size=12), rule=st.sampled_from(RULES))
def test_chunks_change_nothing(student: Bundle, cuts: list[int], rule: Rule) -> None:
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
            probabilities, windows.starts, votes=rule.votes, threshold=rule.threshold
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
    with pytest.raises(DataError, match="expected numbers"):
        decoder.push([["a"] * 4])
    assert decoder.push(SIGNAL[:0]) == []


def test_refuses_what_it_cannot_run(student: Bundle) -> None:
    with pytest.raises(BundleError, match="person's pre-processing"):
        Decoder(replace(student, preprocessing=None), step=STEP)
    with pytest.raises(SettingsError, match="step"):
        Decoder(student, step=0)
    with pytest.raises(SettingsError, match="votes"):
        Rule(votes=0)
    with pytest.raises(SettingsError, match="threshold"):
        Rule(threshold=1.5)


def answers(rule: Rule, gestures: Sequence[int], confidence: float = 0.9) -> list[int]:
    chooser = Chooser(rule)
    share = (1 - confidence) / 2
    rows = [np.where(np.arange(3) == g, confidence, share) for g in gestures]
    return [chooser.decide(np.log(row))[0] for row in rows]


def test_rule() -> None:
    assert REJECTED == events.REJECTED
    assert answers(Rule(votes=3), [0, 0, 1, 1, 2, 0]) == [0, 0, 0, 1, 1, 0]
    assert answers(Rule(hold=3), [0, 1, 1, 1, 2, 2]) == [0, 0, 0, 1, 1, 1]
    assert answers(Rule(smoothing=3), [0, 0, 1, 1]) == [0, 0, 0, 1]
    assert answers(Rule(threshold=0.95), [0, 1]) == [REJECTED, REJECTED]
