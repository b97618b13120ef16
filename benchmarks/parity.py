"""What 8 bits cost every person of a run, and what their student takes on a Cortex-M4F.

python benchmarks/parity.py RUN [--k 4] [--stage pretrained_distilled] [--seed 0] [--c]

Scores the windows of the test sessions that the run itself scored, with the student in float
(PyTorch) and in 8 bits (ONNX Runtime). With ``--c`` the C decoders, as compiled for this computer,
also decode every test recording from raw samples, beside the Python decoder on the same model.
Flash, RAM and stack are of the first person's; all people's students are of one size.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from myodistill.bundle import Bundle
from myodistill.datasets.trees import natural
from myodistill.deploy.cortex import build_cortex, emulate, footprint, lacking
from myodistill.deploy.parity_check import decode_with_model
from myodistill.deploy.plain_c import to_c
from myodistill.deploy.programs import build_host, decode_on_host
from myodistill.deploy.quantize import Quantised, quantise
from myodistill.deploy.subject_data import SubjectData
from myodistill.realtime.runtime import OnnxModel
from myodistill.realtime.windows import Model
from myodistill.splits import require_unseen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--stage", default="pretrained_distilled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--c", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pattern = f"fold-*/seed-{options.seed}/*/k-{options.k}/{options.stage}*/bundle.json"
    folders = [path.parent for path in options.run.glob(pattern)]
    folders.sort(key=lambda path: natural(str(path)))
    scores = []
    for index, folder in enumerate(folders):
        subject_data = SubjectData.of(Bundle.load(folder))
        student, windows = subject_data.student, subject_data.scored
        require_unseen(windows.seen(), student.seen, what=student.model)
        eight = quantise(student, subject_data.ranges)
        if not index:
            print(
                f"{student.model}, {student.parameters:,} parameters; {size(subject_data, eight)}"
            )
        model = OnnxModel.load(eight.model.SerializeToString())
        single = student.logits(windows)
        whole = model._infer(model.preprocessing.map(windows).gather())
        truth = windows.labels
        right = [100 * np.mean(logits.argmax(1) == truth) for logits in (single, whole)]
        equal = 100 * np.mean(single.argmax(1) == whole.argmax(1))
        scores.append(right)
        print(
            f"{subject_data.subject}: float {right[0]:.2f} %, int8 {right[1]:.2f} %, "
            f"difference {right[1] - right[0]:+.2f}, "
            f"equal predictions {equal:.2f} % of {len(truth)}",
            flush=True,
        )
        if options.c:
            pairs = ("float", student, None), ("int8", model, eight)
            print(
                "  C equal to Python: " + ", ".join(equality(subject_data, *pair) for pair in pairs)
            )
    single, whole = np.mean(scores, axis=0)
    change = np.diff(scores, axis=1)
    print(
        f"{len(scores)} people: float {single:.2f} %, int8 {whole:.2f} %, "
        f"difference {whole - single:+.2f}, worst person {change.min():+.2f}, "
        f"best {change.max():+.2f}"
    )


def equality(subject_data: SubjectData, name: str, model: Model, eight: Quantised | None) -> str:
    """How many decisions of all test recordings are the same in C and in Python."""
    signals = [recording.signal for recording in subject_data.tests]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "c"
        to_c(subject_data.student, step=subject_data.step, quantised=eight).write(source)
        compiled = decode_on_host(build_host(source), signals, source)
    python = [decode_with_model(model, signal, step=subject_data.step) for signal in signals]
    same = np.concatenate([a.gestures == b.gestures for a, b in zip(compiled, python, strict=True)])
    return f"{name} {same.sum()} of {len(same)} decisions"


def size(subject_data: SubjectData, eight: Quantised) -> str:
    """Flash, RAM and stack of a student in 8 bits, start-up code and C library included."""
    if missing := lacking():
        return f"no size: there is no {missing} here"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "c"
        to_c(subject_data.student, step=subject_data.step, quantised=eight).write(folder)
        memory = footprint(build_cortex(folder))
        stack = emulate(
            folder, subject_data.tests[0].signal[: 4 * subject_data.student.spec.samples]
        ).stack
    return f"flash {memory.flash / 1e3:.1f} kB, RAM {memory.ram / 1e3:.1f} kB, stack {stack} B"


if __name__ == "__main__":
    main()
