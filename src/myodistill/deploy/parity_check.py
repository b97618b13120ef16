"""The measurements behind the parity table, from PyTorch to the microcontroller.

Every form decodes the same recordings from raw samples to decisions, so that its filters, window
and decision rule are compared along with its network.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from myodistill.bundle import Bundle
from myodistill.datasets.recording import Recording, Repetition, Signal, SignalSpec
from myodistill.decision_rule import REJECTED, DecisionRule
from myodistill.deploy.cortex import build_cortex, emulate, footprint
from myodistill.deploy.onnx import require_finite_logits, to_onnx
from myodistill.deploy.parity_table import MICROJOULES, DeployedForm, ParityTable
from myodistill.deploy.plain_c import CCode, to_c
from myodistill.deploy.programs import DecodedRecording, build_host, decode_on_host, workshop
from myodistill.deploy.quantize import Quantised, quantise
from myodistill.errors import DataError, ModelError, ToolError
from myodistill.evaluation.events import without_rest
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.runtime import OnnxModel
from myodistill.realtime.windows import Model
from myodistill.signals.windows import Windows
from myodistill.splits import require_unseen


def check_parity(
    bundle: Bundle,
    recordings: Sequence[Recording],
    windows: Windows,
    *,
    step: int,
    rule: DecisionRule,
    emulated: int,
    unseen: bool,
) -> ParityTable:
    """Measure every form; see :func:`~myodistill.deploy.parity.deploy_report`."""
    scored = {Repetition(r.subject, r.session, a.repetition) for r in recordings
              for a in r.annotations}  # fmt: skip
    if unseen:
        require_unseen(scored, bundle.seen, what=bundle.model)
        require_unseen(scored, windows.seen(), what="8-bit ranges")
    require_finite_logits(bundle, windows)
    signals = [recording.signal for recording in recordings]
    truth = [_labels(recording, bundle.spec, step) for recording in recordings]
    if not sum(int((labels >= 0).sum()) for labels in truth):
        raise DataError(
            f"parity: expected recordings with a labelled window of {bundle.spec.samples} samples, "
            f"got none; give the person's test recordings"
        )
    check = _ParityCheck(signals, truth, step, rule)
    quantised = check.attempt("ONNX int8", "ONNX", lambda: quantise(bundle, windows))
    bits = sum(p.nbytes for p in bundle.network.state_dict().values())
    check.python("PyTorch", None, bundle, bits)
    exported = check.attempt("ONNX", "PyTorch", lambda: to_onnx(bundle))
    for name, reference, proto in (
        ("ONNX", "PyTorch", exported),
        ("ONNX int8", "ONNX", quantised.model if quantised else None),
    ):
        if proto is not None:
            size = sum(len(t.raw_data) for t in proto.graph.initializer)
            check.python(name, reference, OnnxModel.load(proto.SerializeToString()), size)
    with workshop() as folder:
        check.c("float", "PyTorch", bundle, None, folder / "float", emulated)
        if quantised is not None:
            check.c("int8", "ONNX int8", bundle, quantised, folder / "int8", emulated)
        else:
            reason = check.forms["ONNX int8"].reason
            for name in ("C int8", "C int8, Cortex-M4F"):
                check.forms[name] = DeployedForm(name, "ONNX int8", reason=reason)
    forms = tuple(check.forms[name] for name in _ORDER)
    operators = quantised.operators if quantised else ()
    load, caution = os.getloadavg()[0], without_rest(bundle.spec.gestures)
    cautions = (caution,) if caution and not rule.threshold else ()
    if not unseen:
        cautions = (_SEEN, *cautions)
    return ParityTable(bundle.model, bundle.origin, forms, operators, load, cautions)


_SEEN = (
    "measured on the windows that the student calibrated on, as there are no others: the "
    "accuracies are too good, what one form is against another is right"
)
_ORDER = ("PyTorch", "ONNX", "ONNX int8", "C float", "C int8", "C float, Cortex-M4F",
          "C int8, Cortex-M4F")  # fmt: skip


Made = TypeVar("Made")


class _ParityCheck:
    """The recordings, and the forms measured so far."""

    def __init__(
        self, signals: list[Signal], truth: list[NDArray[np.intp]], step: int, rule: DecisionRule
    ) -> None:
        self.signals, self.truth, self.step, self.rule = signals, truth, step, rule
        self.forms: dict[str, DeployedForm] = {}
        self.decoded: dict[str, list[DecodedRecording]] = {}

    def attempt(self, name: str, reference: str, make: Callable[[], Made]) -> Made | None:
        """Return what ``make`` makes; if it fails, the form records why."""
        try:
            return make()
        except (ModelError, ToolError) as error:
            self.forms[name] = DeployedForm(name, reference, reason=str(error))
            return None

    def python(self, name: str, reference: str | None, model: Model, weights: int) -> None:
        """Measure a form that the Python decoder runs."""
        decoded = [
            decode_with_model(model, signal, step=self.step, rule=self.rule)
            for signal in self.signals
        ]
        self.forms[name] = replace(self._compare(name, reference, decoded), weights=weights)

    def c(
        self,
        kind: str,
        reference: str,
        bundle: Bundle,
        quantised: Quantised | None,
        folder: Path,
        emulated: int,
    ) -> None:
        """Measure one C program: on this computer, and on an emulated Cortex-M4F."""
        host, cortex = f"C {kind}", f"C {kind}, Cortex-M4F"

        def source() -> CCode:
            return to_c(bundle, step=self.step, rule=self.rule, quantised=quantised)

        made = self.attempt(host, reference, source)
        if made is None:
            self.forms[cortex] = replace(self.forms[host], name=cortex, reference=host)
            return
        made.write(folder)

        def on_host() -> DeployedForm:
            decoded = decode_on_host(build_host(folder), self.signals, folder)
            return self._compare(host, reference, decoded)

        form = self.attempt(host, reference, on_host)
        if form is not None:
            self.forms[host] = replace(form, weights=made.weights)

        def on_cortex() -> DeployedForm:
            return self._emulate(cortex, host, folder, emulated)

        form = self.attempt(cortex, host, on_cortex)
        if form is not None:
            self.forms[cortex] = replace(form, weights=made.weights)

    def _emulate(self, name: str, reference: str, folder: Path, emulated: int) -> DeployedForm:
        memory = footprint(build_cortex(folder))
        runs = []
        for signal in self.signals:
            runs.append(emulate(folder, signal))
            if sum(len(run.decoded.samples) for run in runs) >= emulated:
                break
        instructions = float(np.median([run.instructions for run in runs]))
        return replace(
            self._compare(name, reference, [run.decoded for run in runs]),
            flash=memory.flash,
            ram=memory.ram,
            stack=max(run.stack for run in runs),
            instructions=instructions,
            microjoules=instructions * MICROJOULES,
        )

    def _compare(
        self, name: str, reference: str | None, decoded: list[DecodedRecording]
    ) -> DeployedForm:
        self.decoded[name] = decoded
        predicted = np.concatenate([p.predictions for p in decoded])
        labels = np.concatenate(self.truth[: len(decoded)])
        known = labels >= 0
        whole = len(decoded) == len(self.signals)  # else a share of the gestures would mislead
        seconds = np.concatenate([p.seconds for p in decoded])
        form = DeployedForm(
            name,
            reference,
            accuracy=float(np.mean(predicted[known] == labels[known])) if whole else None,
            windows=int(known.sum()),
            decisions=len(predicted),
            median=float(np.median(seconds)) if len(seconds) else None,
            p99=float(np.quantile(seconds, 0.99)) if len(seconds) else None,
        )
        reference_runs = self.decoded.get(reference or "")
        if reference_runs is None:
            return form
        pairs = list(zip(decoded, reference_runs, strict=False))
        equal = np.concatenate([ours.gestures == other.gestures for ours, other in pairs])
        apart = [
            np.abs(ours.logits - other.logits)[ours.predictions != REJECTED].max(initial=0)
            for ours, other in pairs
        ]
        return replace(form, equal=float(np.mean(equal)), difference=float(max(apart)))


class _Watched:
    """A model whose newest logits are kept."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.spec, self.preprocessing = model.spec, model.preprocessing
        self.step, self.rule = model.step, model.rule
        self.adaptation = model.adaptation
        self.logits = np.zeros(model.spec.classes, np.float32)

    def _infer(self, windows: Signal) -> NDArray[np.float32]:
        logits = self._model._infer(windows)
        self.logits = logits[0]
        return logits


def decode_with_model(
    model: Model, signal: Signal, *, step: int, rule: DecisionRule | None = None
) -> DecodedRecording:
    """Decode a recording, ``(time, channel)``, in Python, in chunks that complete a window each."""
    watched = _Watched(model)
    decoder = Decoder(watched, step=step, rule=rule)
    ends = list(range(model.spec.samples, len(signal) + 1, step))
    rows, logits, seconds = [], [], []
    for begin, end in zip([0, *ends], ends, strict=False):
        start = time.perf_counter()
        (decision,) = decoder.push(signal[begin:end])
        seconds.append(time.perf_counter() - start)
        rows.append((decision.sample, decision.gesture, decision.prediction))
        logits.append(watched.logits)
    whole = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return DecodedRecording(
        samples=whole[:, 0],
        gestures=whole[:, 1],
        predictions=whole[:, 2],
        logits=np.array(logits, dtype=np.float32).reshape(-1, model.spec.classes),
        seconds=np.array(seconds),
        abstained=decoder.abstained,
    )


def _labels(recording: Recording, spec: SignalSpec, step: int) -> NDArray[np.intp]:
    """Gesture of each window of a stream; -1 where it is not within one annotation."""
    starts = np.arange(0, len(recording.signal) - spec.samples + 1, step)
    labels = np.full(len(starts), -1, dtype=np.intp)
    for note in recording.annotations:
        labels[(starts >= note.start) & (starts + spec.samples <= note.stop)] = note.gesture
    return labels
