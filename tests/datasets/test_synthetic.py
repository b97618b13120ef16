"""Generated recordings: same seed, same bytes; the physics points the right way."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import welch

from myodistill.datasets.forearm import (
    MUSCLES,
    Forearm,
    conduct,
    grow,
    place_electrodes,
    spectrum,
)
from myodistill.datasets.recording import Electrodes, Recording, grid, ring
from myodistill.datasets.synthetic import GESTURES, SESSIONS, Synthetic, Variability
from myodistill.errors import DataError
from myodistill.signals.windows import cut

QUIET: dict[str, Any] = {"subjects": 3, "repetitions": 2, "seconds": 1.0}


def digest(dataset: Synthetic, subject: str = "Person2") -> str:
    content = hashlib.sha256()
    for recording in dataset.recordings(subject):
        content.update(recording.signal.tobytes())
        content.update(repr(recording.annotations).encode())
    return content.hexdigest()


@pytest.fixture(scope="module")
def small() -> Synthetic:
    return Synthetic(**QUIET)


@pytest.fixture(scope="module")
def train(small: Synthetic) -> Recording:
    return small.recordings("Person1")[0]


def held(recording: Recording, gesture: int) -> np.ndarray:
    """All samples of one gesture, end to end."""
    parts = [recording.signal[n.start : n.stop] for n in recording.annotations]
    return np.concatenate(
        [p for p, n in zip(parts, recording.annotations, strict=True) if n.gesture == gesture]
    )


class TestSameSeedSameBytes:
    def test_twice_and_whatever_came_before(self) -> None:
        first, second = Synthetic(**QUIET), Synthetic(**QUIET)
        second.recordings("Person3")
        assert digest(first) == digest(second) == digest(first)

    def test_whatever_the_number_of_subjects(self, small: Synthetic) -> None:
        assert digest(small) == digest(Synthetic(**{**QUIET, "subjects": 7}))

    @pytest.mark.parametrize("threads", ["1", "2"])
    def test_in_another_process(self, small: Synthetic, threads: str) -> None:
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); import test_synthetic as t; "
            "print(t.digest(t.Synthetic(**t.QUIET)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": threads},
        )
        assert done.stdout.strip() == digest(small)

    def test_other_seed_other_bytes(self, small: Synthetic) -> None:
        assert digest(small) != digest(Synthetic(**QUIET, seed=1))

    def test_sessions_and_people_differ(self, small: Synthetic) -> None:
        one, other = small.recordings("Person1")
        assert not np.array_equal(one.signal, other.signal)
        assert digest(small, "Person1") != digest(small, "Person2")


class TestRecordings:
    def test_default_is_what_its_facts_say(self) -> None:
        dataset = Synthetic()
        recordings = dataset.recordings("Person12")
        assert dataset.subjects()[0] == "Person1"
        assert len(dataset.subjects()) == 12
        assert dataset.facts == Synthetic.facts
        assert tuple(r.session for r in recordings) == SESSIONS
        for recording in recordings:
            assert recording.signal.dtype == np.float32
            assert recording.signal.shape[1] == dataset.facts.electrodes.channels
            assert recording.sampling_rate == dataset.facts.sampling_rate
            assert recording.gestures == GESTURES
            assert recording.unit == "µV"
        assert recordings[0].gestures[0] == "rest"

    def test_annotations_cover_the_holds_and_leave_the_transitions(
        self, small: Synthetic, train: Recording
    ) -> None:
        notes = train.annotations
        assert [(n.repetition, n.gesture) for n in notes] == [
            (r, g) for r in range(2) for g in range(len(GESTURES))
        ]
        assert all(n.stop - n.start == 1000 for n in notes)
        gaps = {b.start - a.stop for a, b in pairwise(notes)}
        assert gaps == {500}
        assert notes[0].start == 500
        assert len(train.signal) == notes[-1].stop + 500

    def test_windows_can_be_cut(self, small: Synthetic, train: Recording) -> None:
        windows = cut([train], [train.signal], samples=small.facts.samples, step=small.facts.step)
        assert len(windows) == 14 * 18
        assert set(windows.labels) == set(range(len(GESTURES)))

    @pytest.mark.parametrize(
        "electrodes",
        [
            ring(1),
            ring(13),
            Electrodes("ring", 2, 8, spacing_mm=20),
            grid(4, 4),
            grid(8, 16, spacing_mm=4),
            grid(2, 60),
        ],
        ids=str,
    )
    def test_any_ring_or_grid(self, electrodes: Electrodes) -> None:
        dataset = Synthetic(subjects=1, electrodes=electrodes, repetitions=1, seconds=0.5)
        recording = dataset.recordings("Person1")[1]
        assert recording.electrodes == dataset.facts.electrodes == electrodes
        assert recording.signal.shape[1] == electrodes.channels
        assert dataset.facts.spec().channels == electrodes.channels

    @pytest.mark.parametrize("rate", [200.0, 1000.0, 2048.0])
    def test_any_rate_keeps_the_microvolts(self, rate: float) -> None:
        dataset = Synthetic(**QUIET, sampling_rate=rate, gestures=("rest", "power grip"))
        recording = dataset.recordings("Person1")[0]
        assert dataset.facts.samples == round(0.15 * rate)
        assert 20 < np.sqrt(np.mean(held(recording, 1) ** 2)) < 1000

    def test_order_names_the_channels_without_changing_the_skin(self) -> None:
        plain = place_electrodes(grid(2, 2), 40.0)
        turned = place_electrodes(grid(2, 2, order=(3, 1, 2, 0)), 40.0)
        np.testing.assert_array_equal(turned[[3, 1, 2, 0]], plain)


class TestSignal:
    def test_spectrum_is_a_band(self, train: Recording) -> None:
        for gesture in range(1, len(GESTURES)):
            frequencies, power = welch(held(train, gesture), 1000, nperseg=500, axis=0)
            total = np.cumsum(power.sum(axis=1))
            median = frequencies[np.searchsorted(total, total[-1] / 2)]
            assert 50 <= median <= 150
            assert power[frequencies < 10].mean() < 0.5 * power[frequencies == 70].mean()

    def test_spectral_density_has_unit_area(self) -> None:
        frequencies = np.linspace(0, 20000, 200001)
        assert np.trapezoid(spectrum(frequencies), frequencies) == pytest.approx(1, abs=1e-3)

    def test_rest_is_quieter_than_gestures(self, small: Synthetic) -> None:
        for subject in small.subjects():
            for recording in small.recordings(subject):
                rest = np.std(held(recording, 0))
                assert all(np.std(held(recording, g)) > 2 * rest for g in range(1, len(GESTURES)))

    @pytest.mark.parametrize("mains", [50.0, 60.0])
    def test_mains_line_stands_out_at_rest(self, mains: float) -> None:
        dataset = Synthetic(**QUIET, mains=mains)
        rest = held(dataset.recordings("Person1")[0], 0)
        frequencies, power = welch(rest, 1000, nperseg=1000, axis=0)
        beside = (abs(frequencies - mains) > 5) & (abs(frequencies - mains) < 15)
        line = power[np.argmin(abs(frequencies - mains))]
        assert (line > 5 * power[beside].mean(axis=0)).all()
        assert dataset.facts.mains == mains

    def test_without_hum_there_is_no_line(self) -> None:
        rest = held(Synthetic(**QUIET, hum=0.0).recordings("Person1")[0], 0)
        frequencies, power = welch(rest, 1000, nperseg=1000, axis=0)
        near = (abs(frequencies - 50) > 5) & (abs(frequencies - 50) < 15)
        assert power[frequencies == 50].mean() < 3 * power[near].mean()

    def test_amplitudes_are_those_of_skin_electrodes(self, train: Recording) -> None:
        assert 30 < np.sqrt(np.mean(held(train, GESTURES.index("power grip")) ** 2)) < 600


class TestForearm:
    def test_a_muscle_is_strongest_at_the_electrode_above_it(self) -> None:
        forearm = grow(np.random.default_rng(0), variability=0.0)
        places = place_electrodes(ring(36), forearm.radius_mm)
        power = (conduct(forearm, places, np.array([80.0]))[0] ** 2) @ (
            forearm.muscle_index[:, None] == np.arange(len(MUSCLES))
        )
        for index, muscle in enumerate(MUSCLES):
            apart = (10 * power[:, index].argmax() - muscle.angle + 180) % 360 - 180
            assert abs(apart) <= 10, muscle.name

    def test_distance_weakens_and_dulls(self) -> None:
        forearm = Forearm(
            np.array([[30.0, 0, 0], [10.0, 0, 0]]), np.array([0, 1]), np.ones(2), 40.0
        )
        near, far = conduct(forearm, np.array([[40.0, 0, 0]]), np.array([40.0, 200.0]))[:, 0].T
        assert (far < near).all()
        assert far[1] / far[0] < near[1] / near[0]

    def test_fat_weakens(self) -> None:
        thin = grow(np.random.default_rng(0), variability=0.0)
        fat = replace(thin, radius_mm=thin.radius_mm + 5)
        reach = [
            (conduct(arm, place_electrodes(ring(8), arm.radius_mm), np.array([80.0])) ** 2).sum()
            for arm in (thin, fat)
        ]
        assert reach[1] < reach[0]

    def test_turning_by_one_electrode_moves_the_picture_by_one(self) -> None:
        forearm = grow(np.random.default_rng(3))
        still = place_electrodes(ring(8), forearm.radius_mm)
        turned = place_electrodes(ring(8), forearm.radius_mm, turned=45.0)
        np.testing.assert_allclose(turned[:-1], still[1:], atol=1e-9)

    def test_without_variability_everyone_has_one_forearm(self) -> None:
        one, other = (grow(np.random.default_rng(seed), variability=0.0) for seed in (0, 1))
        np.testing.assert_array_equal(one.sources, other.sources)


class TestPeople:
    def test_people_differ_more_than_repetitions(self) -> None:
        dataset = Synthetic(subjects=4)
        pictures = np.array(
            [
                [
                    np.log(
                        [
                            np.var(recording.signal[n.start : n.stop], axis=0)
                            for n in recording.annotations
                            if n.gesture == g
                        ]
                    )
                    for g in range(1, len(GESTURES))
                ]
                for recording in (dataset.recordings(s)[0] for s in dataset.subjects())
            ]
        )  # (person, gesture, repetition, channel)
        between = pictures.mean(axis=2).var(axis=0).mean()
        assert between > 1.2 * pictures.var(axis=2).mean()

    def test_no_variability_is_the_same_performance_every_time(self) -> None:
        still = Variability(**dict.fromkeys(Variability.__dataclass_fields__, 0.0))
        dataset = Synthetic(**QUIET, variability=still)
        powers = [
            np.std(held(recording, 1), axis=0)
            for subject in dataset.subjects()
            for recording in dataset.recordings(subject)
        ]
        np.testing.assert_allclose(powers, np.broadcast_to(powers[0], np.shape(powers)), rtol=0.15)


class TestBadInput:
    @pytest.mark.parametrize(
        "settings",
        [
            {"subjects": 0},
            {"repetitions": 0},
            {"sampling_rate": 0.0},
            {"sampling_rate": float("nan")},
            {"seconds": 0.0},
            {"seconds": float("inf")},
            {"transition": -1.0},
            {"full_effort": 0.0},
            {"noise": 0.0},
            {"hum": -1.0},
            {"mains": 600.0},
            {"seed": -1},
            {"gestures": ("rest",)},
            {"gestures": ("rest", "rest", "power grip")},
            {"gestures": ("rest", "power grab")},
        ],
        ids=str,
    )
    def test_one_clear_line(self, settings: dict[str, Any]) -> None:
        with pytest.raises(DataError) as caught:
            Synthetic(**settings)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith("Synthetic: ")

    def test_nearest_gesture_is_suggested(self) -> None:
        with pytest.raises(DataError, match="did you mean power grip"):
            Synthetic(gestures=("rest", "power grab"))

    def test_negative_variety(self) -> None:
        with pytest.raises(DataError, match=r"posture.*0 or more.*-1"):
            Variability(posture=-1.0)

    def test_unknown_subject(self, small: Synthetic) -> None:
        with pytest.raises(DataError, match="Person9"):
            small.recordings("Person9")
