"""Somebody who does not exist performs what a guide asks for."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from myodistill.datasets.recording import SignalSpec, grid, ring
from myodistill.datasets.synthetic import Synthetic
from myodistill.live.demo import Performer, generated
from myodistill.live.verdicts import levels


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        (SignalSpec(ring(8), 40, 200.0, ("rest", "fist", "open hand")), ("rest", "open hand")),
        (SignalSpec(grid(2, 3), 100, 500.0, ("No motion", "pronation")), ("rest", "pronation")),
        (SignalSpec(ring(4), 100, 1000.0, ("a", "b")), Synthetic.facts.gestures),
    ],
)
def test_a_person_is_generated_for_any_signal(spec: SignalSpec, known: tuple[str, ...]) -> None:
    recordings = generated(spec, seed=3)
    for one in recordings:
        assert (one.electrodes, one.sampling_rate) == (spec.electrodes, spec.sampling_rate)
        assert one.gestures == known
    assert not np.array_equal(recordings[0].signal, generated(spec, seed=4)[0].signal)


def test_what_is_asked_for_is_performed() -> None:
    spec = SignalSpec(ring(8), 40, 200.0, ("no motion", "power grip", "whistle"))
    recordings = generated(spec, seed=3)
    asked: list[str | None] = [None]
    chunks = Performer(recordings, spec, lambda: asked[0]).chunks()

    def perform(name: str | None) -> np.ndarray:
        asked[0] = name
        return np.concatenate([chunk.samples for chunk in islice(chunks, 150)])

    free = perform(None)
    np.testing.assert_array_equal(free, recordings[0].signal[: len(free)])
    quiet = levels(perform("no motion"), 200.0)
    assert levels(perform(""), 200.0) == pytest.approx(quiet, rel=0.5)
    first, _, second = perform("power grip"), perform(""), perform("power grip")
    assert (levels(first, 200.0) > 1.5 * quiet).any()
    assert not np.array_equal(first, second)  # another performance
    assert len(perform("whistle")) == 600  # cannot be generated: something else is performed
    asked[0] = None
    chunk, later = islice(chunks, 2)
    assert chunk.number is not None
    assert later.number == chunk.number + len(chunk.samples)
