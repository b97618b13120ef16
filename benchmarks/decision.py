"""One decision, from the samples of a step to the gesture, beside LibEMG 2.0.3's; one thread.

python benchmarks/decision.py LIBEMG_PYTHON LIBEMG_SOURCE

The 30 k student decodes the test recordings of 3DC's first participant (``MYODISTILL_DATA``), 10
channels, a window of 151 samples every 51. Its time does not depend on its weights, so that it is
not trained. LibEMG's is a window of the same stream, Hudgins' features and its LDA, without its
filter, which ours includes, and with it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import libemg, machine
from numpy.typing import NDArray

from myodistill.bundle import Bundle
from myodistill.datasets.registry import open_dataset
from myodistill.deploy.onnx import to_onnx
from myodistill.deploy.parity_check import decode_with_model
from myodistill.deploy.plain_c import to_c
from myodistill.deploy.programs import build_host, decode_on_host
from myodistill.deploy.quantize import quantise
from myodistill.models.registry import build
from myodistill.realtime.runtime import OnnxModel
from myodistill.signals.filters import design
from myodistill.signals.preprocessing import Preprocessing, filtered, recentring

Times = NDArray[np.float64]


def main(python: str, source: str) -> None:
    torch.set_num_threads(1)
    facts = open_dataset("3dc").facts
    recordings = open_dataset("3dc").recordings("Participant1")
    sections = design(facts.sampling_rate, facts.passband, mains=facts.mains)
    windows = filtered(recordings, sections, samples=facts.samples, step=facts.step)
    training = windows.select([r for r in windows.seen() if r.session == facts.calibration_session])
    fitted = Preprocessing(
        facts.sampling_rate, facts.passband, facts.mains, recentring(training), training.seen()
    )
    student = Bundle(
        "log-power-30k",
        facts.spec(),
        build("log-power-30k", facts.spec(), seed=0).eval(),
        fitted,
        training.seen(),
        {"dataset": "3dc"},
        unit=facts.unit,
        step=facts.step,
    )
    stream = np.concatenate([r.signal for r in recordings if r.session in facts.test_sessions])
    eight = quantise(student, training)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(
            folder / "stream.npz",
            stream=stream.astype(np.float64),
            windows=training.gather().astype(np.float64),
            labels=training.labels,
            samples=facts.samples,
            step=facts.step,
        )
        theirs = json.loads(libemg(python, source, "decide", str(folder / "stream.npz")))
        ours: dict[str, Times] = {}
        for kind, model in (
            ("Python, ONNX Runtime", to_onnx(student)),
            ("Python, ONNX Runtime, int8", eight.model),
        ):
            decoder = OnnxModel.load(model.SerializeToString())
            ours[kind] = decode_with_model(decoder, stream, step=facts.step).seconds
        ours["Python, PyTorch"] = decode_with_model(student, stream, step=facts.step).seconds
        for kind, quantised in (("C, float", None), ("C, int8", eight)):
            place = folder / kind
            to_c(student, step=facts.step, quantised=quantised).write(place)
            (played,) = decode_on_host(build_host(place), [stream], place)
            ours[kind] = played.seconds
    print(machine())
    bare, whole = (np.array(theirs[kind]) for kind in ("plain", "filtered"))
    for kind, times in (("LibEMG, no filter", bare), ("LibEMG, its filter", whole), *ours.items()):
        median, p99 = 1e3 * np.quantile(times, (0.5, 0.99))
        print(
            f"{kind}: median {median:.3f} ms, p99 {p99:.3f} ms of {len(times)} decisions; "
            f"LibEMG / this: {np.median(bare) / np.median(times):.1f} without its filter, "
            f"{np.median(whole) / np.median(times):.1f} with it"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
