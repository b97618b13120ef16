"""One decision, from the samples of a step to the gesture, beside LibEMG 2.0.3's; one thread.

OMP_NUM_THREADS=1 python benchmarks/decision.py LIBEMG_PYTHON LIBEMG_SOURCE

The 30 k students decode the test recordings of 3DC's first participant (``MYODISTILL_DATA``), 10
channels, a window of 151 samples every 51. Their time does not depend on their weights, so they
are not trained. LibEMG's is a window of the same stream, Hudgins' features and its LDA, without its
filter, which ours includes, and with it. Each form decodes the whole stream by itself, as
LibEMG does.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import libemg, machine
from numpy.typing import NDArray

from myodistill.bundle import Bundle
from myodistill.datasets.recording import Signal
from myodistill.datasets.registry import open_dataset
from myodistill.deploy.onnx import to_onnx
from myodistill.deploy.plain_c import to_c
from myodistill.deploy.programs import build_host, decode_on_host
from myodistill.deploy.quantize import quantise
from myodistill.deploy.shared import write_shared
from myodistill.models.registry import build
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.native import CModel
from myodistill.realtime.runtime import OnnxModel
from myodistill.realtime.windows import Model
from myodistill.signals.filters import design
from myodistill.signals.preprocessing import Preprocessing, filtered, recentring
from myodistill.signals.windows import Windows

Times = NDArray[np.float64]


STUDENTS = ("log-power-30k", "log-covariance-30k")


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
    stream = np.concatenate([r.signal for r in recordings if r.session in facts.test_sessions])
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
        print(machine())
        bare, whole = (np.array(theirs[kind]) for kind in ("plain", "filtered"))
        show("LibEMG, no filter", bare, bare, whole)
        show("LibEMG, its filter", whole, bare, whole)
        for student in STUDENTS:
            bundle = Bundle(
                student,
                facts.spec(),
                build(student, facts.spec(), seed=0).eval(),
                fitted,
                training.seen(),
                {"dataset": "3dc"},
                unit=facts.unit,
                step=facts.step,
            )
            for kind, times in decide(bundle, training, stream, folder / student).items():
                show(f"{student}, {kind}", times, bare, whole)


def decide(student: Bundle, training: Windows, stream: Signal, folder: Path) -> dict[str, Times]:
    """Time every form of a student."""
    eight = quantise(student, training)
    forms: dict[str, Model] = {
        "PyTorch": student,
        "ONNX Runtime": OnnxModel.load(to_onnx(student).SerializeToString()),
        "ONNX Runtime, int8": OnnxModel.load(eight.model.SerializeToString()),
    }
    programs = {}
    for kind, quantised in (("float", None), ("int8", eight)):
        code = to_c(student, quantised=quantised)
        write_shared(student, code, folder / kind)
        forms[f"C library from Python, {kind}"] = CModel.load(folder / kind)
        (played,) = decode_on_host(build_host(folder / kind), [stream], folder / kind)
        programs[f"C program, {kind}"] = played.seconds
    return {kind: push_to_decision(model, stream) for kind, model in forms.items()} | programs


def push_to_decision(model: Model, stream: Signal) -> Times:
    """Seconds of each push that completes a window."""
    decoder, seconds, begin = Decoder(model), [], 0
    for end in range(model.spec.samples, len(stream) + 1, model.step):
        chunk = stream[begin:end]
        start = time.perf_counter()
        (_,) = decoder.push(chunk)
        seconds.append(time.perf_counter() - start)
        begin = end
    return np.array(seconds)


def show(kind: str, times: Times, bare: Times, whole: Times) -> None:
    least, median, p99 = 1e3 * np.quantile(times, (0, 0.5, 0.99))
    print(
        f"{kind}: median {median:.3f} ms, least {least:.3f}, p99 {p99:.3f} of {len(times)} "
        f"decisions; LibEMG / this: {np.median(bare) / np.median(times):.1f} without its filter, "
        f"{np.median(whole) / np.median(times):.1f} with it"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
