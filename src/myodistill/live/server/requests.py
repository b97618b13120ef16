"""What a page may ask for: JSON, checked before anything sees it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from myodistill.errors import DataError, one_line, shown

LONGEST = 4096
"""Bytes of the longest message of a page."""

ACTIONS = ("start", "pause", "go-on", "redo", "finish", "cancel")
"""Of a guided calibration."""


@dataclass(frozen=True)
class Request:
    """A message that is well formed; whether it can be done now is another question.

    Attributes:
        kind: ``"threshold"``, ``"adapt"``, ``"adapt-reset"``, ``"record"`` or ``"guide"``.
        values: What belongs to it, by the names of the protocol.
    """

    kind: str
    values: dict[str, Any] = field(default_factory=dict)


def parse_request(text: str) -> Request:
    """Read one message.

    Raises:
        DataError: It is none of the protocol's; the connection should be closed.
    """
    if len(text) > LONGEST or len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        raise DataError(f"message: expected at most {LONGEST} bytes, got more")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"message: expected JSON, got: {one_line(str(error), 80)}") from None
    if not isinstance(message, dict):
        raise DataError(f"message: expected an object, got {shown(message)}")
    kind = message.pop("type", None)
    read = _KINDS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise DataError(f"message: expected one of {', '.join(_KINDS)}, got {shown(kind)}")
    values = read(message)
    if message:
        raise DataError(f"{kind}: expected nothing else, got {shown(next(iter(message)))}")
    return Request(str(kind), values)


def _threshold(message: dict[str, Any]) -> dict[str, Any]:
    return {"value": _number(message, "value", 0, 1)}


def _adapt(message: dict[str, Any]) -> dict[str, Any]:
    return {"on": _truth(message)}


def _adapt_reset(message: dict[str, Any]) -> dict[str, Any]:
    return {}


def _record(message: dict[str, Any]) -> dict[str, Any]:
    on = _truth(message)
    gesture = message.pop("gesture", None)
    if not (isinstance(gesture, str) if on else gesture is None):
        raise DataError(f"record: expected a gesture exactly where it is on, got {shown(gesture)}")
    return {"on": on, "gesture": gesture}


def _guide(message: dict[str, Any]) -> dict[str, Any]:
    action = message.pop("action", None)
    if not isinstance(action, str) or action not in ACTIONS:
        raise DataError(f"guide: expected one of {', '.join(ACTIONS)}, got {shown(action)}")
    values: dict[str, Any] = {"action": action}
    if "repetitions" in message:
        values["repetitions"] = _whole(message, "repetitions", 1, 20)
    if "seconds" in message:
        values["seconds"] = _number(message, "seconds", 1, 30)
    if "step" in message:
        values["step"] = _whole(message, "step", 0, 10_000)
    return values


_KINDS = {
    "threshold": _threshold,
    "adapt": _adapt,
    "adapt-reset": _adapt_reset,
    "record": _record,
    "guide": _guide,
}


def _truth(message: dict[str, Any]) -> bool:
    on = message.pop("on", None)
    if not isinstance(on, bool):
        raise DataError(f"on: expected true or false, got {shown(on)}")
    return on


def _number(message: dict[str, Any], name: str, least: float, most: float) -> float:
    value = message.pop(name, None)
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not least <= value <= most or not math.isfinite(value):
        raise DataError(f"{name}: expected a number from {least} to {most}, got {shown(value)}")
    return float(value)


def _whole(message: dict[str, Any], name: str, least: int, most: int) -> int:
    value = message.pop(name, None)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DataError(
            f"{name}: expected a whole number from {least} to {most}, got {shown(value)}"
        )
    return value
