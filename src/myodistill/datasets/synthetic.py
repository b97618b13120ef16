"""Generated muscles: recordings of people who do not exist, for demonstrations and tests.

Every person has a forearm of their own (:mod:`myodistill.datasets.forearm`), their own way to
perform a gesture, their own way to put on the electrodes; no two performances of a gesture are
equal. What differs between performances (force, wrist posture, co-contraction) differs in the
same manner in everyone, so that a teacher who has seen many people knows what to ignore in a new
one. Spreads are *chosen* so that decoding an unseen person is hard without calibration and
improves with each repetition about as on real recordings; they were not measured. With the
defaults the log-covariance baseline, mean of all twelve people, is 74, 87 and 94 % after 1, 2 and 4
repetitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.forearm import (
    SYNERGIES,
    Array,
    Forearm,
    conduct,
    grow,
    place_electrodes,
    spectrum,
)
from myodistill.datasets.recording import Annotation, Electrodes, Recording, ring
from myodistill.errors import DataError, unknown_name

GESTURES = (
    "rest",
    "radial deviation",
    "wrist flexion",
    "ulnar deviation",
    "wrist extension",
    "power grip",
    "open hand",
)
SESSIONS = ("train", "test")

_BANDS = 48  # the tissue's response is held constant within each of so many bands


@dataclass(frozen=True)
class Variability:
    """How much things vary; standard deviations, of the logarithm where a share is varied.

    All are chosen (see the module's docstring); 0 switches one off.

    Attributes:
        people: Forearms, relative to the spreads in :func:`~myodistill.datasets.forearm.grow`.
        donning: Rotation of the electrodes from person to person, in degrees.
        habit: Share of each muscle in each gesture, from person to person.
        gain: Of each channel, from person to person.
        session_turn: Rotation of the electrodes from session to session, in degrees.
        session_shift: Displacement along the limb from session to session, in mm.
        force: Effort of each performance.
        recruitment: Share of each muscle in each performance.
        cocontraction: Share of effort added to all muscles in a performance.
        posture: Rotation of the skin over the muscles in each performance, in degrees.
        tremor: Slow fluctuation of each muscle during a performance, as a share of its mean.
    """

    people: float = 1.0
    donning: float = 22.0
    habit: float = 0.6
    gain: float = 0.5
    session_turn: float = 3.0
    session_shift: float = 4.0
    force: float = 0.45
    recruitment: float = 0.35
    cocontraction: float = 0.1
    posture: float = 5.0
    tremor: float = 0.18

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _require(name, 0 <= value < np.inf, "0 or more", value)


@dataclass(frozen=True)
class _Person:
    """What stays the same in one person; amplitudes in µV, shapes as in the names."""

    name: str
    forearm: Forearm
    turned: float
    levels: Array  # (gesture, muscle), share of full effort
    gains: Array  # (channel,)
    noise: float
    mains: float


class Synthetic(Dataset):
    """People who do not exist; subjects are ``Person1`` and so on.

    A session is one recording: all gestures, over and over, with a transition between them that
    belongs to no gesture. The same seed gives the same samples, whatever the number of subjects.

    Args:
        subjects: Number of people.
        electrodes: Any ring or grid.
        sampling_rate: In hertz.
        gestures: Names out of :data:`~myodistill.datasets.forearm.SYNERGIES`, in label order.
        repetitions: Of every gesture in each of the sessions ``train`` and ``test``.
        seconds: Length of each performance.
        transition: Seconds between performances.
        variability: How much people and performances vary.
        full_effort: RMS of an average muscle at full effort, at the reference distance, in µV;
            chosen, giving about a hundred µV in a strong gesture.
        noise: RMS of electrode and amplifier noise, in µV; chosen, as of dry electrodes.
        hum: Amplitude of the mains line, in µV; chosen.
        mains: Mains frequency, in hertz.
        seed: Any whole number from 0.

    Raises:
        DataError: A number is out of its range, or a gesture is unknown.
    """

    facts = Facts(
        name="synthetic",
        title="Synthetic",
        electrodes=ring(8),
        sampling_rate=1000.0,
        gestures=GESTURES,
        unit="µV",
        samples=150,
        step=50,
        passband=(20.0, 495.0),
        mains=50.0,
        repetitions=4,
        calibration_session="train",
        test_sessions=("test",),
        licence="none needed: generated",
        citation="generated by MyoDistill",
        home="myodistill.datasets.synthetic",
    )

    def __init__(
        self,
        *,
        subjects: int = 12,
        electrodes: Electrodes | None = None,
        sampling_rate: float = 1000.0,
        gestures: Sequence[str] = GESTURES,
        repetitions: int = 4,
        seconds: float = 2.0,
        transition: float = 0.5,
        variability: Variability | None = None,
        full_effort: float = 1000.0,
        noise: float = 10.0,
        hum: float = 8.0,
        mains: float = 50.0,
        seed: int = 0,
    ) -> None:
        _require("subjects", subjects >= 1, "at least 1", subjects)
        _require("repetitions", repetitions >= 1, "at least 1", repetitions)
        _require("sampling_rate", 100 <= sampling_rate < np.inf, "at least 100 Hz", sampling_rate)
        _require("seconds", 0.5 <= seconds < np.inf, "at least 0.5 s", seconds)
        _require("transition", 0.1 <= transition < np.inf, "at least 0.1 s", transition)
        _require("full_effort", 0 < full_effort < np.inf, "more than 0 µV", full_effort)
        _require("noise", 0 < noise < np.inf, "more than 0 µV", noise)
        _require("hum", 0 <= hum < np.inf, "0 µV or more", hum)
        _require("mains", 0 < mains < sampling_rate / 2, "below half the sampling rate", mains)
        _require("seed", seed >= 0, "0 or more", seed)
        _require("gestures", len(set(gestures)) >= 2, "at least 2 different ones", len(gestures))
        for gesture in gestures:
            if gesture not in SYNERGIES:
                raise DataError(f"Synthetic: {unknown_name('gesture', gesture, SYNERGIES)}")
        _require("gestures", len(set(gestures)) == len(gestures), "each once", ", ".join(gestures))
        self.facts = replace(
            type(self).facts,
            electrodes=electrodes or type(self).facts.electrodes,
            sampling_rate=float(sampling_rate),
            gestures=tuple(gestures),
            samples=round(0.15 * sampling_rate),
            step=round(0.05 * sampling_rate),
            passband=(20.0, min(495.0, 0.495 * sampling_rate)),
            mains=float(mains),
            repetitions=repetitions,
        )
        self._names = tuple(f"Person{i + 1}" for i in range(subjects))
        self._hold = round(seconds * sampling_rate)
        self._gap = round(transition * sampling_rate)
        self._variability = variability or Variability()
        self._full_effort = full_effort
        self._noise = noise
        self._hum = hum
        self._seed = seed

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the people."""
        return self._names

    def recordings(self, subject: str) -> list[Recording]:
        """Generate both sessions of one person."""
        self._check_subject(subject)
        index = self._names.index(subject)
        person = self._person(subject, self._rng(index, 0))
        return [
            self._session(person, session, self._rng(index, 1 + i))
            for i, session in enumerate(SESSIONS)
        ]

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._seed, *key]))

    def _person(self, name: str, rng: np.random.Generator) -> _Person:
        vary, channels = self._variability, self.facts.electrodes.channels
        forearm = grow(rng, variability=vary.people)
        levels = np.array(list(SYNERGIES.values()))
        levels = levels * np.exp(vary.habit * rng.standard_normal(levels.shape))
        names = list(SYNERGIES)
        return _Person(
            name=name,
            forearm=forearm,
            turned=float(vary.donning * rng.standard_normal()),
            levels=levels[[names.index(gesture) for gesture in self.facts.gestures]],
            noise=float(self._noise * np.exp(0.3 * vary.people * rng.standard_normal())),
            mains=float(self._hum * np.exp(0.5 * vary.people * rng.standard_normal())),
            gains=np.exp(vary.gain * rng.standard_normal(channels)),
        )

    def _session(self, person: _Person, session: str, rng: np.random.Generator) -> Recording:
        facts, vary, hold, gap = self.facts, self._variability, self._hold, self._gap
        order = [(r, g) for r in range(facts.repetitions) for g in range(len(facts.gestures))]
        length = gap + len(order) * (hold + gap)
        turned = person.turned + vary.session_turn * rng.standard_normal()
        shifted = vary.session_shift * rng.standard_normal()
        signal = self._background(person, length, rng)
        notes = []
        for position, (repetition, gesture) in enumerate(order):
            start = gap + position * (hold + gap)
            posture = vary.posture * rng.standard_normal()
            positions = place_electrodes(
                facts.electrodes,
                person.forearm.radius_mm,
                turned=turned + posture,
                shifted_mm=shifted,
            )
            effort = self._effort(person.levels[gesture], rng)
            signal[start - gap : start + hold + gap] += self._emg(
                person.forearm, positions, effort, rng
            )
            notes.append(Annotation(start, start + hold, gesture, repetition))
        return Recording(
            subject=person.name,
            session=session,
            signal=(signal * person.gains).astype(np.float32),
            sampling_rate=facts.sampling_rate,
            electrodes=facts.electrodes,
            gestures=facts.gestures,
            annotations=tuple(notes),
            unit=facts.unit,
            source=f"synthetic/{person.name}/{session}",
        )

    def _background(self, person: _Person, length: int, rng: np.random.Generator) -> Array:
        """Electrode noise and mains with its third harmonic, ``(time, channel)`` in µV."""
        rate, channels = self.facts.sampling_rate, self.facts.electrodes.channels
        signal = person.noise * rng.standard_normal((length, channels))
        pickup = person.mains * np.exp(0.3 * rng.standard_normal(channels))
        begin = rng.uniform(0, 2 * np.pi)
        for harmonic, share in ((1, 1.0), (3, 0.3)):
            frequency = harmonic * self.facts.mains
            if frequency < rate / 2:
                phase = 2 * np.pi * frequency * np.arange(length) / rate + harmonic * begin
                signal += share * np.sin(phase)[:, None] * pickup
        return signal

    def _effort(self, levels: Array, rng: np.random.Generator) -> Array:
        """Draw one performance: share of full effort over time, ``(muscle, time)``.

        It rises and falls as a raised cosine in the transitions at both ends.
        """
        vary, hold, gap = self._variability, self._hold, self._gap
        force = np.exp(vary.force * rng.standard_normal())
        shares = levels * np.exp(vary.recruitment * rng.standard_normal(len(levels)))
        shares = shares + vary.cocontraction * abs(rng.standard_normal()) * levels.max()
        length = hold + 2 * gap
        # Force drifts slower than about 2 Hz: knots a quarter second apart, straight between.
        knots = 2 + int(length / (0.25 * self.facts.sampling_rate))
        times = np.linspace(0, knots - 1, length)
        drift = rng.standard_normal((len(levels) + 1, knots))
        slow = np.stack([np.interp(times, np.arange(knots), row) for row in drift])
        course = np.maximum(1 + vary.tremor * (slow[:-1] + slow[-1]), 0.05)
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(gap) + 0.5) / gap)
        course *= np.concatenate([ramp, np.ones(hold), ramp[::-1]])
        return np.asarray(force * shares[:, None] * course)

    def _emg(
        self, forearm: Forearm, positions: Array, effort: Array, rng: np.random.Generator
    ) -> Array:
        """EMG of one performance on the skin, ``(time, channel)`` in µV.

        Each motor-unit group fires noise of its own, as strong as its muscle's effort; many
        independent firings add up to band-shaped Gaussian noise whose deviation follows the
        effort (Hogan and Mann, Myoelectric signal processing, IEEE TBME 27(7), 1980).
        """
        rate, length = self.facts.sampling_rate, effort.shape[1]
        size = next_fast_len(length, real=True)
        firing = (
            rng.standard_normal((len(forearm.muscle_index), length)) * effort[forearm.muscle_index]
        )
        waves = rfft(firing, size, axis=1)
        frequencies = np.arange(waves.shape[1]) * rate / size
        waves *= self._full_effort * np.sqrt(spectrum(frequencies) * rate / 2)
        edges = np.linspace(0, waves.shape[1], _BANDS + 1).astype(int)
        centres = (edges[:-1] + edges[1:]) / 2 * rate / size
        response = conduct(forearm, positions, centres)
        mixed = np.empty((len(positions), waves.shape[1]), dtype=np.complex128)
        for band, (low, high) in enumerate(pairwise(edges)):
            # Not a BLAS product: its rounding could depend on the number of threads.
            mixed[:, low:high] = np.einsum("cs,sf->cf", response[band], waves[:, low:high])
        return np.asarray(irfft(mixed, size, axis=1)[:, :length].T)


def _require(name: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise DataError(f"Synthetic: expected {name} to be {expected}, got {got}")
