"""A student as C99: the whole decoder in a few files, without allocation or dependencies.

``md.h`` and ``md.c`` are written by hand, once for all students; this module writes the sizes, the
tables and the decision rule. The network of a student that is not on band covariances is generated
by emx-onnx-cgen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myodistill.bundle import Bundle
from myodistill.decision_rule import DecisionRule, require_step
from myodistill.deploy.generated import network_code
from myodistill.deploy.lowering import Lowered, can_lower, lower
from myodistill.deploy.onnx import deployed, metadata
from myodistill.deploy.quantize import Quantised
from myodistill.errors import ModelError
from myodistill.files import new_folder, write_text
from myodistill.models.covariance import SHRINKAGE
from myodistill.realtime.adaptation import (
    AHEAD,
    HEAD_START,
    LONGEST,
    NEWEST,
    NOISE,
    UNFAMILIAR,
    USUAL,
)
from myodistill.realtime.windows import LIMIT
from myodistill.signals.preprocessing import Preprocessing

_STATIC = ("md.c", "md_host.c", "md_library.c", "md_wide.h", "md_cortex.c", "md_cortex.ld")
_BLOCK = 32
"""Most samples that are filtered into a band at a time; a multiple of four."""


@dataclass(frozen=True)
class CCode:
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
    bundle: Bundle,
    *,
    step: int | None = None,
    rule: DecisionRule | None = None,
    quantised: Quantised | None = None,
) -> CCode:
    """Lower a bundle to C.

    Args:
        bundle: Of a student calibrated for a person.
        step: Samples from one decision to the next; the bundle's own by default.
        rule: How predictions become decisions; the bundle's own by default.
        quantised: The same bundle in 8 bits, for linear layers in 8 bits; else all is in float.

    Raises:
        BundleError: The bundle has no person's pre-processing.
        ModelError: C cannot run the model.
        SettingsError: ``step`` is not a whole number of at least 1.
        ToolError: emx-onnx-cgen is needed and not installed.
    """
    step = require_step(bundle.step if step is None else step)
    metadata(bundle)
    assert bundle.preprocessing is not None
    _require_no_constant(bundle.model, bundle.preprocessing.sections())
    network, rule = deployed(bundle), rule or bundle.rule
    if can_lower(network):
        return _band(bundle, lower(bundle, network), step, rule, quantised)
    if quantised is not None:
        raise ModelError(
            f"{bundle.model}: expected a log-power or log-covariance student for 8-bit C, got "
            f"another"
        )
    return _generated(bundle, bundle.preprocessing, step, rule)


def _band(
    bundle: Bundle, lowered: Lowered, step: int, rule: DecisionRule, quantised: Quantised | None
) -> CCode:
    """A student on band covariances, by the code of ``md.c``."""
    if not np.allclose(lowered.taps, lowered.taps[:, ::-1]):
        raise ModelError(f"{bundle.model}: expected symmetric band filters, got others")
    outputs = [len(biases) for biases in lowered.biases]
    if quantised is not None and len(quantised.layers) != len(outputs):
        raise ModelError(
            f"{bundle.model}: expected {len(outputs)} layers in 8 bits, got {len(quantised.layers)}"
        )
    tables, layers = _tables(lowered, quantised)
    bands, projections, inputs = lowered.projections.shape
    samples = bundle.spec.samples
    even = -(-samples // -(-samples // _BLOCK))  # blocks as long as each other
    block = min(samples // 4 * 4, -(-even // 4) * 4)
    sizes = _sizes(bundle, len(lowered.sections), step, rule) | {
        "INPUTS": inputs,
        "BANDS": bands,
        "TAPS": lowered.taps.shape[1],
        "PROJECTIONS": projections,
        "FEATURES": max([lowered.weights[0].shape[1], *outputs[1:-1:2]]),
        "HIDDEN": max([1, *outputs[:-1:2]]),
        "LAYERS": len(outputs),
        "BLOCK": block,
        "ROW": max(block, inputs) if lowered.logarithm else block,
        "MAPPED": int(lowered.map is not None),
        "LOGARITHM": int(lowered.logarithm),
        "INT8": int(quantised is not None),
        "NETWORK": 0,
    }
    scalars = {"SHRINKAGE": _number(SHRINKAGE), "EPSILON": _number(lowered.epsilon)}
    heavy = tables["projections"].nbytes + sum(
        tables[f"weights_{index}"].nbytes for index in range(len(outputs))
    )
    return _source(bundle, sizes, scalars, tables, rule, weights=heavy, layers=layers)


def _generated(
    bundle: Bundle, preprocessing: Preprocessing, step: int, rule: DecisionRule
) -> CCode:
    """Any other student: its network by emx-onnx-cgen, the rest by ``md.c``."""
    network = network_code(bundle)
    sections = preprocessing.sections()
    tables: dict[str, NDArray[np.generic]] = {
        "sections": np.delete(sections, 3, axis=1).astype(np.float32),
        "map": preprocessing.matrix,
    }
    sizes = _sizes(bundle, len(sections), step, rule) | {
        "INPUTS": bundle.spec.channels,
        "MAPPED": 1,
        "INT8": 0,
        "NETWORK": 1,
    }
    made = _source(
        bundle, sizes, {}, tables, rule, weights=network.weights, elsewhere=network.weights
    )
    return replace(made, files=made.files | {"md_network.c": network.text})


def _source(
    bundle: Bundle,
    sizes: dict[str, int],
    scalars: dict[str, str],
    tables: dict[str, NDArray[np.generic]],
    rule: DecisionRule,
    *,
    weights: int,
    elsewhere: int = 0,
    layers: str = "",
) -> CCode:
    learned, constants = _adaptation(bundle)
    sizes, tables = sizes | {"ADAPTS": int(bool(learned))}, tables | learned
    scalars = scalars | constants
    ram = _ram(sizes)
    table_bytes = elsewhere + sum(values.nbytes for values in tables.values())
    defines = {
        "RAM_BYTES": str(ram),
        "TABLE_BYTES": str(table_bytes),
        "RATE_HZ": _number(bundle.spec.sampling_rate),
        "UNIT": _quoted(bundle.unit),
        "THRESHOLD": _number(rule.threshold),
        "LIMIT": _number(LIMIT),
        **{name: str(value) for name, value in sizes.items()},
        **scalars,
    }
    lines = "".join(f"#define MD_{name} {value}\n" for name, value in defines.items())
    parts = {"@model@": _about(bundle), "@defines@": lines}
    header = re.sub("|".join(parts), lambda match: parts[match[0]], _static("md.h"))
    files = {"md.h": header, "md_model.h": _model(bundle, tables) + layers}
    files |= {name: _static(name) for name in _STATIC}
    return CCode(files, ram, table_bytes, weights)


def _adaptation(bundle: Bundle) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """The tables and constants by which the decoder can follow its wearer; none if it cannot."""
    known = bundle.adaptation
    if known is None:
        return {}, {}
    tables: dict[str, NDArray[np.generic]] = {
        "whitening": known.whitening.astype(np.float32),
        "means": known.whitened.astype(np.float32),
    }
    numbers = {"GAIN": known.gain, "DRIFT": known.drift, "SURE": known.sure}
    numbers |= {"NOISE": NOISE, "AHEAD": AHEAD, "NEWEST": NEWEST, "USUAL": USUAL}
    numbers["UNFAMILIAR"] = float(np.log(UNFAMILIAR))
    constants = {name: _number(value) for name, value in numbers.items()}
    constants |= {"HEAD_START": _number(HEAD_START), "LONGEST": str(LONGEST)}
    return tables, constants | {"ADAPTATION": f"0x{known.fingerprint[:8]}u"}


def _require_no_constant(model: str, sections: NDArray[np.float64]) -> None:
    gain = np.prod(sections[:, :3].sum(axis=1) / sections[:, 3:].sum(axis=1))
    if abs(gain) > 1e-9:
        raise ModelError(f"{model}: expected a filter that passes no constant, got gain {gain:g}")


def _sizes(bundle: Bundle, sections: int, step: int, rule: DecisionRule) -> dict[str, int]:
    return {
        "CHANNELS": bundle.spec.channels,
        "SAMPLES": bundle.spec.samples,
        "STEP": step,
        "CLASSES": bundle.spec.classes,
        "SECTIONS": sections,
        "SMOOTHING": rule.smoothing,
        "VOTES": rule.votes,
        "HOLD": rule.hold,
    }


def _ram(size: dict[str, int]) -> int:
    """Bytes of ``md_decoder``; ``md.c`` does not compile if they are wrong."""
    inputs, channels = size["INPUTS"], size["CHANNELS"]
    words = size["CLASSES"] * (1 + size["SMOOTHING"]) + 11 + size["VOTES"]
    if size["ADAPTS"]:
        words += 7 + size["CLASSES"] * (size["CLASSES"] + 1)
    words += channels * (2 + 2 * size["SECTIONS"]) + inputs * size["SAMPLES"]
    if size["NETWORK"]:
        return 4 * words
    words += inputs * (2 * (size["TAPS"] // 2) + size["ROW"] + inputs)
    words += size["FEATURES"] + size["HIDDEN"]
    widest = max(size["FEATURES"], size["HIDDEN"])
    return 4 * words + (-(-widest // 4) * 4 if size["INT8"] else 0)


def _tables(
    lowered: Lowered, quantised: Quantised | None
) -> tuple[dict[str, NDArray[np.generic]], str]:
    """The constant tables by name, and the table of layers that points to them."""
    half = lowered.taps.shape[1] // 2 + 1
    tables: dict[str, NDArray[np.generic]] = {
        "sections": np.delete(lowered.sections, 3, axis=1).astype(np.float32),
        "taps": lowered.taps[:, :half],
        "projections": lowered.projections,
    }
    if lowered.map is not None:
        tables["map"] = lowered.map
    layers = []
    for i, weights in enumerate(lowered.weights):
        outputs, inputs = weights.shape
        parts = [str(inputs), str(outputs)]
        if quantised is None:
            tables |= {f"weights_{i}": weights, f"biases_{i}": lowered.biases[i]}
            parts += [f"md_weights_{i}[0]", f"md_biases_{i}"]
        else:
            layer = quantised.layers[i]
            offsets = layer.zero * layer.weights.astype(np.int32).sum(axis=1)
            tables |= {
                f"weights_{i}": layer.weights,
                f"offsets_{i}": offsets.astype(np.int32),
                f"scales_{i}": layer.scales,
                f"biases_{i}": layer.biases,
            }
            parts += [_number(layer.scale), str(layer.zero), f"md_weights_{i}[0]"]
            parts += [f"md_{name}_{i}" for name in ("offsets", "scales", "biases")]
        layers.append(f"{{{', '.join(parts)}}}")
    return tables, f"static const md_layer md_layers[MD_LAYERS] = {{{', '.join(layers)}}};\n"


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
    """Comment lines that say which student this is; no name can end or extend the comment."""
    facts = [f"Model: {bundle.model}", f"gestures: {', '.join(bundle.spec.gestures)}"]
    facts += [
        f"{key}: {bundle.origin[key]}"
        for key in ("dataset", "licence", "split", "subject")
        if bundle.origin.get(key) is not None
    ]
    lines = (_harmless(" ".join(fact.split())) for fact in facts)
    return "\n * ".join(lines)


def _harmless(text: str) -> str:
    """Text for a comment: nothing invisible, no trigraph, no end and no beginning of a comment."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return re.sub(r"(?<=\?)(?=\?)|(?<=\*)(?=/)|(?<=/)(?=\*)", " ", shown)


def _static(name: str) -> str:
    return resources.files("myodistill.deploy").joinpath("c", name).read_text(encoding="utf-8")
