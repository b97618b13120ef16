"""A student as C99: the whole decoder in a few files, without allocation or dependencies.

``md.h`` and ``md.c`` are written by hand, once for every log-power student; this module writes the
sizes, the tables and the decision rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myodistill.deploy.bundle import Bundle
from myodistill.deploy.int8 import Quantised
from myodistill.deploy.lowering import LINEAR, Lowered, lower
from myodistill.deploy.onnx import folded, unit
from myodistill.errors import ModelError, SettingsError
from myodistill.files import new_folder, write_text
from myodistill.realtime.decoder import LIMIT
from myodistill.realtime.rule import Rule

_BLOCK = 32
"""Most samples that are filtered into a band at a time; a multiple of four."""


@dataclass(frozen=True)
class Source:
    """The C program of one student.

    Attributes:
        files: Content by name.
        ram: Bytes of the decoder's state.
        tables: Bytes of its constants.
        weights: Bytes of the linear layers and projections alone.
    """

    files: dict[str, str]
    ram: int
    tables: int
    weights: int

    def write(self, folder: Path) -> None:
        """Write the files into a folder of their own; an older one is replaced as a whole.

        Raises:
            OutputError: It cannot be written.
        """
        with new_folder(folder) as part:
            for name, content in self.files.items():
                write_text(part / name, content)


def to_c(
    bundle: Bundle, *, step: int, rule: Rule | None = None, quantised: Quantised | None = None
) -> Source:
    """Lower a bundle to C.

    Args:
        bundle: Of a log-power student that has met its person.
        step: Samples from one decision to the next.
        rule: How answers become decisions.
        quantised: The same bundle in 8 bits, for linear layers in 8 bits; else all is in float.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        ModelError: C cannot run the model.
        SettingsError: ``step`` is less than 1.
    """
    if step < 1:
        raise SettingsError(f"step: expected at least 1 sample, got {step}")
    rule = rule or Rule()
    lowered = lower(bundle, folded(bundle.network))
    gain = lowered.sections[:, :3].sum(axis=1) / lowered.sections[:, 3:].sum(axis=1)
    if abs(np.prod(gain)) > 1e-9 or not np.allclose(lowered.taps, lowered.taps[:, ::-1]):
        raise ModelError(
            f"{bundle.model}: expected a filter without a constant part and symmetric band "
            f"filters, got others; plain C cannot run them"
        )
    if quantised is not None and len(quantised.layers) != len(LINEAR):
        raise ModelError(
            f"{bundle.model}: expected {len(LINEAR)} layers in 8 bits, got {len(quantised.layers)}"
        )
    tables, scalars = _tables(bundle, lowered, quantised)
    sizes = _sizes(bundle, lowered, step, rule, int8=quantised is not None)
    ram = _ram(sizes)
    table_bytes = sum(values.nbytes for values in tables.values())
    heavy = ("projections", "weights_0", "weights_1")
    defines = {
        "RAM_BYTES": str(ram),
        "TABLE_BYTES": str(table_bytes),
        "RATE_HZ": _number(bundle.spec.sampling_rate),
        "UNIT": _quoted(unit(bundle)),
        "THRESHOLD": _number(rule.threshold),
        "LIMIT": _number(LIMIT),
        "FLOOR": _number(lowered.floor),
        **{name: str(value) for name, value in sizes.items()},
        **scalars,
    }
    header = _static("md.h").replace("@model@", _about(bundle))
    header = header.replace(
        "@defines@", "".join(f"#define MD_{name} {value}\n" for name, value in defines.items())
    )
    files = {"md.h": header, "md_model.h": _model(bundle, tables)}
    files |= {name: _static(name) for name in ("md.c", "md_host.c", "md_cortex.c", "md_cortex.ld")}
    return Source(files, ram, table_bytes, sum(tables[name].nbytes for name in heavy))


def _sizes(
    bundle: Bundle, lowered: Lowered, step: int, rule: Rule, *, int8: bool
) -> dict[str, int]:
    bands, projections, inputs = lowered.projections.shape
    samples = bundle.spec.samples
    blocks = -(-samples // _BLOCK)
    even = -(-samples // blocks)  # as long as each other, so that the last does little twice
    return {
        "CHANNELS": bundle.spec.channels,
        "INPUTS": inputs,
        "SAMPLES": samples,
        "STEP": step,
        "CLASSES": bundle.spec.classes,
        "SECTIONS": len(lowered.sections),
        "BANDS": bands,
        "TAPS": lowered.taps.shape[1],
        "PROJECTIONS": projections,
        "HIDDEN": len(lowered.biases[0]),
        "BLOCK": min(samples // 4 * 4, -(-even // 4) * 4),
        "MAPPED": int(lowered.map is not None),
        "INT8": int(int8),
        "SMOOTHING": rule.smoothing,
        "VOTES": rule.votes,
        "HOLD": rule.hold,
    }


def _ram(size: dict[str, int]) -> int:
    """Bytes of ``md_decoder``; ``md.c`` does not compile if they are wrong."""
    inputs, channels = size["INPUTS"], size["CHANNELS"]
    features = size["BANDS"] * size["PROJECTIONS"]
    pad = size["TAPS"] // 2
    words = size["CLASSES"] * (1 + size["SMOOTHING"]) + 11 + size["VOTES"]
    words += channels * (2 + 2 * size["SECTIONS"])
    words += inputs * (size["SAMPLES"] + 2 * pad + size["BLOCK"] + inputs)
    words += features + size["HIDDEN"]
    widest = max(features, size["HIDDEN"])
    return 4 * words + (-(-widest // 4) * 4 if size["INT8"] else 0)


def _tables(
    bundle: Bundle, lowered: Lowered, quantised: Quantised | None
) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """The constant tables by name, and the scalars among the constants."""
    half = lowered.taps.shape[1] // 2 + 1
    tables: dict[str, NDArray[np.generic]] = {
        "sections": np.delete(lowered.sections, 3, axis=1).astype(np.float32),
        "taps": lowered.taps[:, :half],
        "projections": lowered.projections,
    }
    if lowered.map is not None:
        tables["map"] = lowered.map
    if quantised is None:
        for place in range(len(LINEAR)):
            tables[f"weights_{place}"] = lowered.weights[place]
            tables[f"biases_{place}"] = lowered.biases[place]
        return tables, {}
    scalars = {}
    for place, layer in enumerate(quantised.layers):
        offsets = layer.zero * layer.weights.astype(np.int32).sum(axis=1)
        tables[f"weights_{place}"] = layer.weights
        tables[f"offsets_{place}"] = offsets.astype(np.int32)
        tables[f"scales_{place}"] = layer.scales
        tables[f"biases_{place}"] = layer.biases
        scalars[f"SCALE_{place}"] = _number(layer.scale)
        scalars[f"ZERO_{place}"] = str(layer.zero)
    return tables, scalars


_TYPES = {"float32": "float", "int8": "int8_t", "int32": "int32_t"}


def _model(bundle: Bundle, tables: dict[str, NDArray[np.generic]]) -> str:
    names = ", ".join(_quoted(gesture) for gesture in bundle.spec.gestures)
    parts = ["/* The tables of md.c. Written by MyoDistill. */"]
    parts.append(f"const char *const md_gestures[MD_CLASSES] = {{{names}}};")
    for name, values in tables.items():
        shape = "".join(f"[{n}]" for n in values.shape)
        kind = _TYPES[values.dtype.name]
        parts.append(f"static const {kind} md_{name}{shape} = {_nested(values)};")
    return "\n".join(parts) + "\n"


def _nested(values: NDArray[np.generic]) -> str:
    if values.ndim > 1:
        return "{" + ",\n".join(_nested(row) for row in values) + "}"
    show = _number if values.dtype.kind == "f" else str
    row, lines = [show(value) for value in values.tolist()], []
    for begin in range(0, len(row), 8):
        lines.append(", ".join(row[begin : begin + 8]))
    return "{" + ",\n".join(lines) + "}"


def _number(value: float | np.floating) -> str:
    """A float literal that reads back as the same float32."""
    text = f"{np.float32(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _quoted(text: str) -> str:
    """A string literal, in UTF-8 by escapes so that any compiler reads the same."""
    octal = (f"\\{byte:03o}" for byte in text.encode())
    letters: Sequence[str] = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else escape
        for byte, escape in zip(text.encode(), octal, strict=True)
    ]
    return '"' + "".join(letters) + '"'


def _about(bundle: Bundle) -> str:
    """Lines of a comment: which student this is."""
    facts = [f"Model: {bundle.model}", f"gestures: {', '.join(bundle.spec.gestures)}"]
    facts += [
        f"{key}: {bundle.origin[key]}"
        for key in ("dataset", "licence", "split", "subject")
        if bundle.origin.get(key) is not None
    ]
    return "\n * ".join(" ".join(fact.split()).replace("*/", "* /") for fact in facts)


def _static(name: str) -> str:
    return resources.files("myodistill.deploy").joinpath("c", name).read_text(encoding="utf-8")
