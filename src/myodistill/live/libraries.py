"""Libraries that only some sources and sinks need, and what those sources check alike."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import DataError, ToolError


def library(name: str, extra: str = "live") -> Any:
    """Import a library of an extra.

    Raises:
        ToolError: It is not installed.
    """
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError):  # as when its shared library is missing
        raise ToolError(
            f"{name}: expected it to be installed, it is not; pip install 'myodistill[{extra}]'"
        ) from None


def require_fitting(source: str, channels: int, rate: float, spec: SignalSpec) -> None:
    """Refuse a stream that says of itself that it is another one.

    Args:
        source: Its name, for messages.
        channels: How many it has.
        rate: Samples a second as it says; 0 if it does not.
        spec: The signal that is decoded.

    Raises:
        DataError: It has other channels, or its rate is more than 2 % off.
    """
    if channels != spec.channels:
        raise DataError(
            f"{source}: expected {spec.channels} channels, got {channels}; choose the stream that "
            f"the bundle was made for"
        )
    if rate and abs(rate / spec.sampling_rate - 1) > 0.02:
        raise DataError(
            f"{source}: expected {spec.sampling_rate:g} samples a second, the stream says "
            f"{rate:g}; set the device to the rate of the bundle"
        )
