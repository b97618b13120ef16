"""What students take on a Cortex-M4F: flash, RAM, stack and instructions of a decision.

python benchmarks/cortex.py [--geometry 3dc] [--ring 32] [STUDENT ...]

The students are untrained and decode noise, for none of the numbers depends on the weights. Flash
and RAM are those of the linked program, start-up code and C library included, RAM without the
stack; instructions are counted by QEMU and are not cycles.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from myodistill.adaptation import Adaptation
from myodistill.bundle import Bundle
from myodistill.datasets.recording import Repetition, ring
from myodistill.deploy.cortex import build_cortex, emulate, footprint
from myodistill.deploy.plain_c import to_c
from myodistill.deploy.quantize import quantise
from myodistill.models.registry import build
from myodistill.models.verification import GEOMETRIES, geometry_spec
from myodistill.signals.filters import apply, filter_mark
from myodistill.signals.preprocessing import Preprocessing
from myodistill.signals.windows import Windows

STUDENTS = (
    "log-power-30k",
    "log-covariance-30k",
    "log-covariance-10k",
    "log-covariance-linear",
)
STEP = 50


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--geometry", choices=GEOMETRIES, default="3dc")
    parser.add_argument(
        "--ring", type=int, metavar="N", help="N electrodes around the limb instead"
    )
    parser.add_argument("students", nargs="*", default=STUDENTS)
    options = parser.parse_args()
    spec = geometry_spec(options.geometry)
    if options.ring:
        spec = replace(spec, electrodes=ring(options.ring))
    print(spec.summary())
    channels, seen = spec.channels, frozenset({Repetition("nobody", "a", 0)})
    band = (20.0, min(450.0, 0.45 * spec.sampling_rate))
    passes = Preprocessing(spec.sampling_rate, band, 0.0, np.eye(channels, dtype=np.float32), seen)
    noise = np.random.default_rng(0).standard_normal((5 * spec.samples, channels))
    filtered = apply(passes.sections(), noise.astype(np.float32))
    starts = np.arange(0, len(noise) - spec.samples + 1, STEP)
    nothing = np.zeros(len(starts), np.intp)
    mark = filter_mark(passes.sections())
    windows = Windows(filtered, spec.samples, starts, nothing, nothing, tuple(seen), mark)
    for name in options.students:
        network = build(name, spec, seed=0).eval()
        bundle = Bundle(name, spec, network, passes, seen, {}, unit="mV", step=STEP)
        logits, labels = bundle.logits(windows), np.arange(len(windows)) % spec.classes
        follows = replace(bundle, adaptation=Adaptation.of_population(logits, labels, nothing))
        int8 = quantise(bundle, windows)
        for kind, form, quantised in (
            ("float", bundle, None),
            ("8 bits", bundle, int8),
            ("8 bits, adapting", follows, int8),
        ):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "c"
                to_c(form, quantised=quantised).write(folder)
                adapt = form is follows
                memory = footprint(build_cortex(folder, adapt=adapt))
                found = emulate(folder, noise.astype(np.float32), adapt=adapt)
            print(
                f"{name}, {kind}: flash {memory.flash / 1e3:.1f} kB, "
                f"RAM {memory.ram / 1e3:.1f} kB, stack {found.stack} B, "
                f"{found.instructions / 1e6:.2f} million instructions",
                flush=True,
            )


if __name__ == "__main__":
    main()
