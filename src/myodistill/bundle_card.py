"""``bundle.json``: read within limits, sealed by a hash, and checked field by field.

The hash reveals damage and careless edits; it is not a signature. A wrong field raises a
``ValueError``, which :meth:`~myodistill.bundle.Bundle.load` turns into its one line.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from myodistill.datasets.recording import Electrodes, Repetition, SignalSpec
from myodistill.errors import BundleError, Wanted
from myodistill.readers import read_json

FORMAT = 2
CARD, WEIGHTS = "bundle.json", "weights.safetensors"
_LONGEST_NAME = 200
_MOST_NUMBERS = 10**8
"""In one window: beyond this no network could read it."""

_TEXTS = ("dataset", "licence", "opened", "identity", "plugin")
_NAMES = ("split", "subject", "stage", "loss", "key", "population", "session", "recentred")
_COUNTS = ("fold", "k", "seed")
_MAY_BE_NONE = ("subject", "k")


def read_card(folder: Path) -> dict[str, Any]:
    """Read ``bundle.json`` as it was written.

    Raises:
        BundleError: It is missing, too long, not JSON, of another format, or altered.
    """
    wanted = Wanted(f"a bundle ({CARD} and {WEIGHTS})", BundleError, "run again")
    card = read_json(folder / CARD, wanted)
    version = card.get("format")
    if version != FORMAT:
        raise BundleError(
            f"{folder}: expected bundle format {FORMAT}, got {str(version)[:40]}; run again, or "
            f"update myodistill if the bundle is newer"
        )
    if card.get("card_sha256") != card_hash(card):
        raise BundleError(f"{folder}: expected {CARD} as it was written, it was altered; run again")
    return card


def card_hash(card: dict[str, Any]) -> str:
    """SHA-256 of everything else in ``bundle.json``, however it is laid out."""
    content = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def signal_of(values: dict[str, Any]) -> SignalSpec:
    """Rebuild the description of a signal."""
    signal, electrodes = dict(values), dict(values["electrodes"])
    for name in ("rows", "columns"):
        _count(electrodes[name], name)
    electrodes["order"] = tuple(_count(channel, "order") for channel in electrodes["order"])
    electrodes["spacing_mm"] = _number(electrodes["spacing_mm"], "spacing_mm")
    if electrodes["layout"] not in ("ring", "grid"):
        raise ValueError(f"layout: expected ring or grid, got {_show(electrodes['layout'])}")
    samples = _count(signal["samples"], "samples")
    if electrodes["rows"] * electrodes["columns"] * samples > _MOST_NUMBERS:
        raise ValueError(f"signal: expected at most {_MOST_NUMBERS:.0e} numbers in a window")
    signal["sampling_rate"] = _number(signal["sampling_rate"], "sampling_rate")
    signal["gestures"] = tuple(require_labels(signal["gestures"]))
    signal["electrodes"] = Electrodes(**electrodes)
    return SignalSpec(**signal)


def require_labels(names: Sequence[object]) -> list[str]:
    """Return the names of gestures, if a file for a device can hold them.

    Raises:
        ValueError: One is not text, is too long, or holds a zero byte or half a character.
    """
    labels = []
    for name in names:
        label = text(name, "gesture")
        if not label or "\0" in label or any("\ud800" <= letter <= "\udfff" for letter in label):
            raise ValueError(f"gesture: expected a name of whole characters, got {_show(name)}")
        labels.append(label)
    return labels


def repetitions_of(entries: Sequence[Sequence[object]]) -> frozenset[Repetition]:
    """Rebuild repetitions from ``[subject, session, index]``."""
    return frozenset(
        Repetition(plain(who, "subject"), plain(session, "session"), _count(index, "repetition"))
        for who, session, index in entries
    )


def provenance_of(values: object) -> dict[str, Any]:
    """Return a bundle's origin if every value has the right type."""
    if not isinstance(values, dict):
        raise ValueError(f"origin: expected names and values, got {_show(values)}")
    for name, value in values.items():
        if value is None and name in _MAY_BE_NONE:
            continue
        if name in _NAMES:
            plain(value, name)
        elif name in _TEXTS:
            text(value, name, most=4096)
        elif name in _COUNTS:
            _count(value, name)
        elif name in ("seconds", "temperature"):
            _number(value, name)
        else:
            raise ValueError(f"origin: expected no {_show(name)}")
    if not values.get("temperature", 1) > 0:
        raise ValueError(f"temperature: expected more than 0, got {values['temperature']}")
    return values


def plain(value: object, what: str) -> str:
    """Return a name if it is safe as one part of a path."""
    name = text(value, what)
    if name in (".", "..") or not name.isprintable() or "/" in name or "\\" in name:
        raise ValueError(f"{what}: expected a plain name, got {_show(value)}")
    return name


def reason(error: BaseException) -> str:
    """What went wrong, in one short line."""
    message = error.strerror if isinstance(error, OSError) else str(error)
    return " ".join(str(message).split())[:120] or type(error).__name__


def text(value: object, what: str, *, most: int = _LONGEST_NAME) -> str:
    """Return a text of at most ``most`` characters."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{what}: expected text of at most {most} characters, got {_show(value)}")
    return value


def _count(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{what}: expected a whole number from 0, got {_show(value)}")
    return value


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what}: expected a finite number, got {_show(value)}")
    return float(value)


def _show(value: object) -> str:
    return repr(value)[:60]
