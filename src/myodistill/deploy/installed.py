"""Checks for packages that only exports need."""

from __future__ import annotations

from importlib.util import find_spec

from myodistill.errors import ToolError

EXPORT = ("onnx", "onnxscript", "onnxruntime")


def require(*modules: str, extra: str = "export") -> None:
    """Refuse to continue without some modules of one of the package's extras.

    Raises:
        ToolError: One is not installed.
    """
    for module in modules:
        if find_spec(module) is None:
            raise ToolError(
                f"{module}: expected it to be installed, it is not; "
                f"pip install 'myodistill[{extra}]'"
            )
