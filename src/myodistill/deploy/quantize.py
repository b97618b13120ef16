"""8-bit weights and activations for the linear layers of an exported student.

Weights are symmetric with a scale for each output, activations have one scale and zero for each
layer, found on calibration windows (Jacob et al., Quantization and training of neural networks for
efficient integer-arithmetic-only inference, CVPR 2018, section 2). Sums are 32-bit integers. The
front of a student on band covariances (filters, covariances, logarithm) stays in float, and the
report says so; any other layer that would stay in float fails the export.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from myodistill.bundle import Bundle
from myodistill.deploy.onnx import to_onnx
from myodistill.errors import DataError, ModelError
from myodistill.models.base import GestureModel
from myodistill.models.logpower import ProjectedLogPower
from myodistill.signals.windows import Windows

_LAYERS = ("Gemm", "MatMul", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN")
_WEIGHT_ZERO = 128
"""ONNX Runtime sums signed weights wrongly where the processor saturates 16-bit pairs (AVX2), so
its weights are unsigned with this zero; the numbers are the same."""

_AT_ONCE = 128
"""Calibration windows at a time: ONNX Runtime holds the filtered bands of all of them."""


@dataclass(frozen=True)
class QuantisedLayer:
    """A linear layer in 8 bits: ``(weights @ (q - zero)) * scales + biases``.

    Attributes:
        scale: Of its input: ``q = round(x / scale) + zero``, from 0 to 255.
        zero: Of its input.
        weights: ``(output, input)``, from -127 to 127.
        scales: Of each output, the input's scale included.
        biases: In float.
    """

    scale: np.float32
    zero: int
    weights: NDArray[np.int8]
    scales: NDArray[np.float32]
    biases: NDArray[np.float32]


@dataclass(frozen=True)
class Quantised:
    """A student in 8 bits.

    Attributes:
        model: As ONNX, metadata included.
        layers: The layers in 8 bits, in order.
        operators: Name, kind and number type of every operator of the graph.
    """

    model: onnx.ModelProto = field(repr=False)
    layers: tuple[QuantisedLayer, ...] = field(repr=False)
    operators: tuple[tuple[str, str, str], ...]


def quantise(bundle: Bundle, windows: Windows) -> Quantised:
    """Export a bundle with its linear layers in 8 bits.

    Args:
        bundle: Of a student calibrated for a person.
        windows: Filtered windows of the person, as for :meth:`Bundle.logits`; not those that
            are scored. Include rest and the transitions between gestures, as
            :attr:`SubjectData.ranges` does, or their activations leave the ranges.

    Raises:
        DataError: There is no calibration window.
        ModelError: It cannot be exported, has diverged, or a layer would stay in float.
    """
    if len(windows) == 0:
        raise DataError(
            "int8: expected calibration windows, got none; give the person's calibration "
            "repetitions"
        )
    model = to_onnx(bundle)
    ranges = _ranges(bundle, model, windows)
    tensors = {t.name: t for t in model.graph.initializer}
    layers, nodes = [], []
    for node in model.graph.node:
        if node.op_type == "Gemm" and node.input[1] in tensors:
            layer = _layer(node, tensors, *ranges[node.input[0]])
            nodes.extend(_integer_nodes(node, layer, model.graph))
            layers.append(layer)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    require_int8(bundle, model)
    onnx.checker.check_model(model)
    return Quantised(model, tuple(layers), operators(model))


def require_int8(bundle: Bundle, model: onnx.ModelProto) -> None:
    """Refuse a bundle's graph with a layer in float that should be in 8 bits.

    Float may stay what the network declares as fixed, and the projections of log power.

    Raises:
        ModelError: There is one; it is named.
    """
    single = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    front = _front(bundle.network, model)
    for node in model.graph.node:
        if node.op_type not in _LAYERS or node.output[0] in front:
            continue
        weights = [weight for weight in node.input if weight in single]
        if weights:
            raise ModelError(
                f"{bundle.model}: expected every layer in 8 bits, {node.op_type} with {weights[0]} "
                f"stays in float; export it to ONNX in float, or distill into a student whose name "
                f"begins with log-"
            )


def _front(network: nn.Module, model: onnx.ModelProto) -> set[str]:
    """Outputs of the operators that come from what stays in float."""
    fixed = network.fixed_front if isinstance(network, GestureModel) else None
    single = {
        name
        for name, part in network.named_modules()
        if part is fixed or isinstance(part, ProjectedLogPower)
    }
    return {out for node in model.graph.node if single & _modules(node) for out in node.output}


def _modules(node: onnx.NodeProto) -> set[str]:
    """Names of the modules that PyTorch's exporter has made an operator from."""
    scopes = [p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
    return set(ast.literal_eval(scopes[0])) if scopes else set()


def operators(model: onnx.ModelProto) -> tuple[tuple[str, str, str], ...]:
    """Name, kind and number type of every operator of a graph."""
    integer = ("MatMulInteger", "QuantizeLinear")
    return tuple(
        (n.output[0], n.op_type, "int8" if n.op_type in integer else "float32")
        for n in model.graph.node
    )


def _ranges(
    bundle: Bundle, model: onnx.ModelProto, windows: Windows
) -> dict[str, tuple[float, float]]:
    """Least and greatest input of each linear layer over the calibration windows."""
    assert bundle.preprocessing is not None
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [node.input[0] for node in model.graph.node if node.op_type == "Gemm"]
    if not names:
        return {}
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    mapped = bundle.preprocessing.map(windows)
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for begin in range(0, len(mapped), _AT_ONCE):
        values = session.run(names, {"windows": mapped.gather(slice(begin, begin + _AT_ONCE))})
        for name, value in zip(names, values, strict=True):
            low, high = ranges[name]
            ranges[name] = min(low, float(np.min(value))), max(high, float(np.max(value)))
    if not np.isfinite(list(ranges.values())).all():
        raise ModelError(
            f"{bundle.model}: expected finite activations for 8 bits, got others on the "
            f"calibration windows, so training diverged; train it again"
        )
    return ranges


def _layer(
    node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto], low: float, high: float
) -> QuantisedLayer:
    weights = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
    if not any(a.name == "transB" and a.i for a in node.attribute):
        weights = weights.T
    biases = np.zeros(len(weights), np.float32)
    if len(node.input) > 2:
        biases = numpy_helper.to_array(tensors[node.input[2]]).astype(np.float32)
    scale = np.float32(max(high - low, 1e-6) / 255)
    zero = int(np.clip(np.rint(-low / scale), 0, 255))
    of_output = np.maximum(np.abs(weights).max(axis=1), 1e-12) / 127
    return QuantisedLayer(
        scale=scale,
        zero=zero,
        weights=np.rint(weights / of_output[:, None]).astype(np.int8),
        scales=(of_output * scale).astype(np.float32),
        biases=biases,
    )


def _integer_nodes(
    node: onnx.NodeProto, layer: QuantisedLayer, graph: onnx.GraphProto
) -> list[onnx.NodeProto]:
    """The operators that stand for one linear layer; their constants go into the graph."""
    out = node.output[0]

    def constant(name: str, values: NDArray[np.generic]) -> str:
        graph.initializer.append(numpy_helper.from_array(values, f"{out}.{name}"))
        return f"{out}.{name}"

    scale = constant("input_scale", np.asarray(layer.scale))
    zero = constant("input_zero", np.asarray(layer.zero, dtype=np.uint8))
    unsigned = (layer.weights.T.astype(np.int16) + _WEIGHT_ZERO).astype(np.uint8)
    weights = constant("weights", np.ascontiguousarray(unsigned))
    weight_zero = constant("weights_zero", np.asarray(_WEIGHT_ZERO, dtype=np.uint8))
    scales, biases = constant("scales", layer.scales), constant("biases", layer.biases)
    q, total, real, scaled = (f"{out}.{name}" for name in ("q", "sum", "real", "scaled"))
    return [
        helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [q]),
        helper.make_node("MatMulInteger", [q, weights, zero, weight_zero], [total]),
        helper.make_node("Cast", [total], [real], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [real, scales], [scaled]),
        helper.make_node("Add", [scaled, biases], [out]),
    ]
