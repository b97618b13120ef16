"""One step of a student with a state, in ONNX, says what the student says of whole windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from decoding import bundle

from myodistill.deploy import stream
from myodistill.deploy.stream import to_onnx_stream
from myodistill.errors import BundleError, ModelError


@pytest.mark.parametrize("model", ["lstm-10k", "gru-10k", "tcn-10k"])
def test_steps_give_the_logits_of_the_window(model: str) -> None:
    student = bundle(model, epochs=1)
    exported = to_onnx_stream(student)
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    stored = session.get_modelmeta().custom_metadata_map
    chunk = int(stored["chunk"])
    assert (chunk, stored["licence"]) == (10, "none needed")
    window = np.random.default_rng(0).standard_normal((1, 4, 100)).astype(np.float32)
    state = {
        i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name != "samples"
    }
    for begin in range(0, 100, chunk):
        samples = window[..., begin : begin + chunk]
        logits, *new = session.run(None, {"samples": samples, **state})
        state = dict(zip(state, new, strict=True))
    with torch.no_grad():
        whole = student.network(torch.from_numpy(window)).numpy()
    assert np.abs(logits - whole).max() < 1e-4


def test_refuses_what_has_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="log-power-10k: expected a student with a state"):
        to_onnx_stream(bundle(epochs=0))
    student = bundle("lstm-10k", epochs=1)
    with pytest.raises(BundleError, match="person's pre-processing"):
        to_onnx_stream(replace(student, preprocessing=None))
    monkeypatch.setattr(stream, "_separate_states", lambda _: None)
    with pytest.raises(ModelError, match="the export by steps is off by"):
        to_onnx_stream(student)
