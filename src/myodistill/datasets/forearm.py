"""The physics of a generated forearm: where muscles lie, who pulls when, what reaches the skin.

Numbers marked *chosen* are plausible round values set so that decoding is about as hard as on
real people; they were not measured. The others carry their source.

Angles run around the cross-section of a right forearm seen from the elbow, in degrees: 0 is the
middle of the palm side, 90 the thumb side, 180 the back, 270 the little-finger side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Electrodes

Array = NDArray[np.float64]

# Velocity along muscle fibres, 4 m/s: usual value for healthy limb muscles (range 3 to 5;
# Merletti and Parker, Electromyography, 2004). Millimetres a second here.
FIBRE_VELOCITY = 4000.0
# Corners of the surface EMG spectrum, 60 and 120 Hz: as used to simulate EMG with the model of
# Shwedyk et al. by Farina and Merletti (J. Electromyogr. Kinesiol. 10, 2000).
LOW_CORNER, HIGH_CORNER = 60.0, 120.0
# Distance at which a source has that spectrum and its full amplitude, millimetres; chosen.
REFERENCE_MM = 8.0
# Amplitude falls with this power of the distance, on top of the low-pass; chosen.
DECAY = 1.3
# Share of a source that does not travel along the fibres (end-of-fibre potentials) and so
# escapes the low-pass; it carries the cross-talk of far muscles. Chosen.
STANDING = 0.15
# A metre along the limb counts as this much across it, as fibres run along the limb; chosen.
LENGTHWISE = 0.35
# Points that stand for the motor units of one muscle; chosen.
UNITS = 3
# Distance between electrodes where the layout does not tell it, millimetres; chosen.
DEFAULT_SPACING_MM = 10.0


@dataclass(frozen=True)
class Muscle:
    """One muscle in the cross-section of the forearm's upper third.

    Attributes:
        name: Anatomical name.
        angle: Of its middle, in degrees as in the module's docstring.
        depth_mm: Of its middle below the inner edge of the fat.
        width_mm: Across, along the circumference.
    """

    name: str
    angle: float
    depth_mm: float
    width_mm: float


# Order and layer (superficial, deep) as in any anatomical atlas; angles and millimetres chosen.
MUSCLES = (
    Muscle("brachioradialis", 80, 7, 18),
    Muscle("pronator teres", 48, 9, 14),
    Muscle("flexor carpi radialis", 22, 6, 14),
    Muscle("palmaris longus", 2, 5, 10),
    Muscle("flexor digitorum superficialis", 340, 11, 22),
    Muscle("flexor carpi ulnaris", 300, 6, 16),
    Muscle("flexor digitorum profundus", 312, 17, 22),
    Muscle("flexor pollicis longus", 35, 17, 14),
    Muscle("extensor carpi radialis longus", 106, 6, 14),
    Muscle("extensor carpi radialis brevis", 132, 7, 14),
    Muscle("extensor digitorum", 172, 6, 18),
    Muscle("extensor carpi ulnaris", 222, 6, 14),
    Muscle("abductor pollicis longus", 155, 15, 14),
    Muscle("supinator", 110, 16, 16),
)

# Share of full effort of each muscle, in the order above. Which muscles move what is anatomy;
# the amounts are chosen, for a comfortable and not a maximal effort.
SYNERGIES: dict[str, tuple[float, ...]] = {
    #                    br   pt   fcr  pl   fds  fcu  fdp  fpl  ecrl ecrb ed   ecu  apl  sup
    "rest": (.01,) * len(MUSCLES),
    "radial deviation": (.25, .05, .45, .1, .1, .05, .05, .1, .6, .4, .1, .05, .5, .1),
    "wrist flexion": (.05, .15, .6, .6, .35, .5, .2, .1, .05, .1, .05, .1, .1, .05),
    "ulnar deviation": (.05, .05, .05, .1, .1, .6, .15, .05, .05, .1, .2, .6, .05, .1),
    "wrist extension": (.1, .05, .05, .05, .1, .1, .1, .05, .5, .6, .4, .5, .1, .1),
    "power grip": (.1, .15, .15, .15, .6, .2, .6, .5, .25, .4, .15, .25, .2, .1),
    "open hand": (.05, .05, .05, .1, .1, .1, .05, .1, .15, .3, .65, .35, .5, .1),
    "pinch grip": (.05, .1, .1, .1, .4, .1, .35, .6, .15, .3, .2, .15, .35, .1),
    "pronation": (.15, .65, .3, .1, .1, .1, .05, .1, .05, .05, .1, .1, .05, .05),
    "supination": (.4, .05, .05, .05, .05, .05, .05, .1, .15, .15, .2, .15, .3, .65),
}  # fmt: skip


@dataclass(frozen=True)
class Forearm:
    """The forearm of one person.

    Attributes:
        sources: Position of each motor-unit group, shape ``(source, 3)``, in mm: two coordinates in
            the cross-section, the third along the limb.
        muscle_index: Index into :data:`MUSCLES` of each source.
        strengths: Amplitude of each source at full effort, relative to an average one.
        radius_mm: Of the skin.
    """

    sources: Array
    muscle_index: NDArray[np.intp]
    strengths: Array
    radius_mm: float


def grow(rng: np.random.Generator, *, variability: float = 1.0) -> Forearm:
    """Draw the forearm of one person.

    Args:
        rng: Source of chance.
        variability: How much people differ; 0 gives the average forearm.
    """
    # Radius and fat: chosen; about the 25 cm around the upper forearm of an adult.
    flesh = 36.0 * np.exp(0.07 * variability * rng.standard_normal())
    fat = 3.0 * np.exp(0.4 * variability * rng.standard_normal())
    skin = 1.5
    sources, muscle_index, strengths = [], [], []
    for index, muscle in enumerate(MUSCLES):
        jitter = variability * rng.standard_normal(3)
        angle = muscle.angle + 6.0 * jitter[0]
        radius = flesh - np.clip(muscle.depth_mm + 1.5 * jitter[1], 3.0, flesh - 8.0)
        size = np.exp(0.25 * jitter[2])
        for unit in range(UNITS):
            fraction = (unit + 0.5) / UNITS - 0.5
            turn = np.deg2rad(angle) + fraction * muscle.width_mm * size / radius
            along = 30.0 * (unit - (UNITS - 1) / 2) + 10.0 * variability * rng.standard_normal()
            sources.append((radius * np.cos(turn), radius * np.sin(turn), along))
            muscle_index.append(index)
            strengths.append(size / np.sqrt(UNITS))
    return Forearm(
        sources=np.array(sources),
        muscle_index=np.array(muscle_index, dtype=np.intp),
        strengths=np.array(strengths),
        radius_mm=float(flesh + fat + skin),
    )


def place_electrodes(
    electrodes: Electrodes, radius_mm: float, *, turned: float = 0.0, shifted_mm: float = 0.0
) -> Array:
    """Lay electrodes on the skin.

    A ring starts at the middle of the palm side; a grid is centred on it. Rows follow each other
    along the limb. A grid too wide for the forearm is squeezed until it closes around it.

    Args:
        electrodes: Their layout.
        radius_mm: Of the skin.
        turned: Rotation around the limb, in degrees.
        shifted_mm: Displacement along the limb.

    Returns:
        Shape ``(channel, 3)`` in mm, in channel order.
    """
    rows, columns = electrodes.rows, electrodes.columns
    spacing = electrodes.spacing_mm or DEFAULT_SPACING_MM
    if electrodes.is_ring:
        apart, first = 2 * np.pi / columns, 0.0
    else:
        apart = min(spacing / radius_mm, 2 * np.pi / columns)
        first = -apart * (columns - 1) / 2
    angles = np.deg2rad(turned) + first + apart * np.arange(columns)
    positions = np.empty((rows, columns, 3))
    positions[:, :, 0] = radius_mm * np.cos(angles)
    positions[:, :, 1] = radius_mm * np.sin(angles)
    positions[:, :, 2] = (spacing * (np.arange(rows) - (rows - 1) / 2) + shifted_mm)[:, None]
    ordered = np.empty((electrodes.channels, 3))
    ordered[electrodes.positions().ravel()] = positions.reshape(-1, 3)
    return ordered


def conduct(forearm: Forearm, positions: Array, frequencies: Array) -> Array:
    """Amplitude with which each source reaches each electrode at each frequency.

    Tissue weakens a source that travels along fibres at velocity v by about
    exp(-2π f d / v) over a distance d, which makes deep and fat-covered muscles weak and dull
    (Lindström and Magnusson, Interpretation of myoelectric power spectra, Proc. IEEE 65(5),
    1977: the asymptote of their Bessel functions).

    Args:
        forearm: Where the sources are.
        positions: Of the electrodes, shape ``(channel, 3)`` in mm.
        frequencies: In hertz, shape ``(frequency,)``.

    Returns:
        Shape ``(frequency, channel, source)``; 1 at :data:`REFERENCE_MM`.
    """
    offset = positions[:, None, :] - forearm.sources[None, :, :]
    offset[:, :, 2] *= LENGTHWISE
    distance = np.maximum(np.linalg.norm(offset, axis=2), 1.0)
    extra = np.maximum(distance - REFERENCE_MM, 0.0)
    wave = np.exp(-2 * np.pi * frequencies[:, None, None] * extra / FIBRE_VELOCITY)
    spread = (REFERENCE_MM / distance) ** DECAY * forearm.strengths
    return np.asarray(spread * (STANDING + (1 - STANDING) * wave))


def spectrum(frequencies: Array) -> Array:
    """One-sided power spectral density of a source of unit power, in 1/Hz.

    f_h⁴ f² / ((f² + f_l²)(f² + f_h²)²), scaled to unit area (Shwedyk, Balasubramanian and Scott,
    A nonstationary model for the electromyogram, IEEE TBME 24(5), 1977).

    Args:
        frequencies: In hertz.
    """
    low, high = LOW_CORNER, HIGH_CORNER
    square = frequencies**2
    # The integral of the shape from 0 to infinity.
    area = np.pi * high**3 / (4 * (low + high) ** 2)
    return np.asarray(high**4 * square / ((square + low**2) * (square + high**2) ** 2) / area)
