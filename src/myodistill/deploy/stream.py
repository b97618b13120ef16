"""A student with a state as ONNX that takes 10 ms at a time: its state is an input and an output.

For devices that would rather carry the state of a recurrent or temporal convolutional student than
compute a whole window anew. From the start state, the chunks of a window give the window's logits;
going on beyond that is another protocol than the one that is scored, so the decoder does not.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper
from torch import Tensor, nn

from myodistill.deploy.bundle import Bundle
from myodistill.deploy.onnx import OPSET, TOLERANCE, folded, metadata, quiet
from myodistill.errors import ModelError
from myodistill.models.layers import frame_samples
from myodistill.models.recurrent import Recurrent
from myodistill.models.tcn import Tcn

_CHECKED = 10


class _Step(nn.Module):
    """A network's ``step`` with its state as flat inputs and outputs."""

    def __init__(self, network: Recurrent | Tcn) -> None:
        super().__init__()
        self.network = network

    def forward(self, samples: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        logits, new = self.network.step(samples, state)
        return (logits, *new)


def to_onnx_stream(bundle: Bundle) -> onnx.ModelProto:
    """Export one step of a student that has a state.

    Inputs are ``samples`` (1, channel, ``chunk``) and ``state_0``, ``state_1``, ...; all zeros are
    the start. Outputs are ``logits`` (1, gesture) and ``next_state_0``, ... The metadata are those
    of :func:`~myodistill.deploy.onnx.to_onnx`, and ``chunk``, the samples of a step.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        ModelError: The student has no state, or the export does not answer as PyTorch does.
    """
    network = folded(bundle.network)
    if not isinstance(network, Recurrent | Tcn):
        raise ModelError(
            f"{bundle.model}: expected a student with a state (lstm-*, gru-*, tcn-*), got a "
            f"{type(network).__name__}; export it to ONNX by windows"
        )
    about = metadata(bundle)
    chunk = frame_samples(bundle.spec)
    samples = torch.zeros(1, bundle.spec.channels, chunk)
    state = network.start(samples)
    names = [f"state_{place}" for place in range(len(state))]
    with quiet():
        program = torch.onnx.export(
            _Step(network),
            (samples, *state),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["samples", *names],
            output_names=["logits", *(f"next_{name}" for name in names)],
        )
    assert program is not None
    model = program.model_proto
    _separate_states(model)
    helper.set_model_props(model, {**about, "chunk": str(chunk)})
    difference = _difference(network, model, chunk)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{bundle.model}: expected logits within {TOLERANCE:g} of PyTorch's, the export by "
            f"steps is off by {difference:g}; export it to ONNX by windows"
        )
    return model


def _separate_states(model: onnx.ModelProto) -> None:
    """Give an LSTM of one layer its hidden state back.

    PyTorch 2.13's exporter begins both the hidden state and the cell with the cell's.
    """
    slices = {node.output[0]: node for node in model.graph.node if node.op_type == "Slice"}
    for place, node in enumerate(model.graph.node):
        if node.op_type != "LSTM" or node.input[5] != node.input[6]:
            continue
        cell = slices.get(node.input[6])
        if cell is None or cell.input[0] != "state_2":
            continue
        hidden = helper.make_node("Slice", ["state_1", *cell.input[1:]], ["hidden_start"])
        node.input[5] = "hidden_start"
        model.graph.node.insert(place, hidden)
        return


@torch.no_grad()
def _difference(network: Recurrent | Tcn, model: onnx.ModelProto, chunk: int) -> float:
    """Largest difference of a logit over some steps of noise."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    noise = torch.Generator().manual_seed(0)
    samples = torch.randn(1, network.spec.channels, chunk, generator=noise)
    state = network.start(samples)
    carried = [part.numpy() for part in state]
    worst = 0.0
    for _ in range(_CHECKED):
        samples = torch.randn(samples.shape, generator=noise)
        logits, state = network.step(samples, state)
        given = {f"state_{place}": part for place, part in enumerate(carried)}
        answer, *carried = session.run(None, {"samples": samples.numpy(), **given})
        worst = max(worst, float(np.abs(answer - logits.numpy()).max()))
    return worst
