"""What every exported form of a student tells of itself: the same metadata, read one way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from myodistill.adaptation import Adaptation
from myodistill.datasets.recording import Electrodes, SignalSpec
from myodistill.decision_rule import DecisionRule, require_step
from myodistill.errors import BundleError, MyoDistillError, shown
from myodistill.signals.preprocessing import Preprocessing

FORMAT = 2


def read_metadata(stored: Mapping[str, str], where: Path | str) -> dict[str, Any]:
    """Return the fields of an exported student, by the names of its attributes.

    Raises:
        BundleError: They are incomplete, damaged or of another version.
    """
    if stored.get("format") != str(FORMAT):
        raise BundleError(
            f"{where}: expected an exported student of format {FORMAT}, got "
            f"{shown(stored.get('format'))}; update myodistill or export the bundle again"
        )
    try:
        return {
            "spec": _signal(stored),
            "preprocessing": _preprocessing(stored),
            "origin": json.loads(stored["origin"]),
            "unit": stored["unit"],
            "step": require_step(int(stored["step"])),
            "rule": DecisionRule(**json.loads(stored["rule"])),
            "adaptation": _adaptation(stored),
        }
    except (
        LookupError,
        TypeError,
        ArithmeticError,
        ValueError,
        MyoDistillError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())[:120]
        raise BundleError(
            f"{where}: expected complete metadata, got: {reason}; export the bundle again"
        ) from error


def _signal(stored: Mapping[str, str]) -> SignalSpec:
    electrodes = json.loads(stored["electrodes"])
    electrodes["order"] = tuple(electrodes["order"])
    return SignalSpec(
        Electrodes(**electrodes),
        int(stored["samples"]),
        float(stored["sampling_rate"]),
        tuple(json.loads(stored["labels"])),
    )


def _preprocessing(stored: Mapping[str, str]) -> Preprocessing:
    """With the sections as they were designed, which takes no SciPy then."""
    known = Preprocessing.from_dict(json.loads(stored["preprocessing"]))
    if "sections" not in stored:  # by an older export
        return known
    sections = np.array(json.loads(stored["sections"]), np.float64)
    if sections.ndim != 2 or sections.shape[1] != 6 or not np.isfinite(sections).all():
        raise ValueError("no sections of a filter")
    return replace(known, designed=sections)


def _adaptation(stored: Mapping[str, str]) -> Adaptation | None:
    if "adaptation" not in stored:  # by an older export, or without a population
        return None
    adaptation = Adaptation.from_dict(json.loads(stored["adaptation"]))
    if len(adaptation.means) != len(json.loads(stored["labels"])):
        raise ValueError("adaptation to other gestures")
    return adaptation
