"""The network of a student in C by emx-onnx-cgen, for students that ``md.c`` does not know."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from myodistill.bundle import Bundle
from myodistill.deploy.onnx import to_onnx
from myodistill.deploy.programs import run, workshop
from myodistill.errors import ModelError, ToolError

_GENERATOR = "emx_onnx_cgen"
_TEMPORARY = re.compile(r"^    (?=\w+ tmp\d+_\w+\[)", re.MULTILINE)


@dataclass(frozen=True)
class NetworkCode:
    """``md_network`` in C: windows ``[1][channel][time]`` to logits ``[1][gesture]``.

    Attributes:
        text: Of the file.
        weights: Bytes of its constants.
    """

    text: str
    weights: int


def network_code(bundle: Bundle) -> NetworkCode:
    """Generate a student's network in float.

    Intermediate results are static, so that the linker shows it and the stack stays small.

    Raises:
        ModelError: The generator does not know an operator, or ONNX does not.
        ToolError: The generator is not installed.
    """
    if find_spec(_GENERATOR) is None:
        raise ToolError(
            f"emx-onnx-cgen: expected it to be installed for the network of {bundle.model}, it is "
            f"not; pip install emx-onnx-cgen, or distill into a log-power student"
        )
    model = to_onnx(bundle, single=True)
    for (
        node
    ) in model.graph.node:  # forward is the default, and the generator rejects it when stated
        kept = [a for a in node.attribute if (a.name, a.s) != ("direction", b"forward")]
        del node.attribute[:]
        node.attribute.extend(kept)
    with workshop() as folder:
        (folder / "network.onnx").write_bytes(model.SerializeToString())
        options = ["--large-weight-threshold", "0", "--large-temp-threshold", "0"]
        command = [sys.executable, "-m", _GENERATOR, "compile", "network.onnx", "network.c"]
        try:
            run([*command, "--model-name", "md_network", *options], folder=folder)
        except ToolError as error:
            raise ModelError(
                f"{bundle.model}: expected a network that emx-onnx-cgen can generate, got: "
                f"{str(error)[:200]}; distill into a log-power student"
            ) from error
        text = (folder / "network.c").read_text(encoding="utf-8")
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    return NetworkCode(_TEMPORARY.sub("    static ", text), weights)
