"""The table of every model: counted, and compared with the counts that were printed."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Literal, get_args

from rich.console import Console
from rich.table import Table

from myodistill.datasets.recording import Electrodes, SignalSpec, grid, ring
from myodistill.errors import ModelError, SettingsError, unknown_name
from myodistill.models.complexity import complexity, latency
from myodistill.models.registry import Role, entry, models

Format = Literal["table", "csv", "json", "markdown"]
TOLERANCE = 0.01
REFERENCE = "hyser"


def _spec(electrodes: Electrodes, samples: int, rate: float, gestures: int) -> SignalSpec:
    return SignalSpec(electrodes, samples, rate, tuple(f"gesture {i}" for i in range(gestures)))


GEOMETRIES: dict[str, SignalSpec] = {
    REFERENCE: _spec(grid(16, 16), 1536, 2048, 34),
    "hyser-512": _spec(grid(16, 16), 512, 2048, 11),
    "capgmyo": _spec(grid(8, 16), 150, 1000, 8),
    "flexemg": _spec(grid(16, 4), 200, 1000, 5),
    "3dc": _spec(ring(10), 151, 1000, 11),
    "myo": _spec(ring(8), 52, 200, 7),
    "ninapro-12": _spec(grid(1, 12), 400, 2000, 50),
    "ninapro-16": _spec(Electrodes("ring", 2, 8), 400, 200, 53),
}


@dataclass(frozen=True)
class Row:
    """A model at a geometry.

    Attributes:
        geometry: Key of :data:`GEOMETRIES`.
        model: Name in the catalogue.
        role: Teacher, student or baseline.
        parameters: Counted.
        printed: Printed in its publication, at the reference geometry only, else none.
        deviation: ``parameters / printed - 1``, or none.
        macs: Multiply-accumulates of one window.
        flops: Two per MAC.
        activation_bytes: Most bytes of activations alive at the same time, one window, float32.
        weight_bytes: Weights and buffers in float32.
        median_ms: Delay on this CPU, one thread, where it was asked for.
        p99_ms: Its 99th percentile.
    """

    geometry: str
    model: str
    role: str
    parameters: int
    printed: int | None
    deviation: float | None
    macs: int
    flops: int
    activation_bytes: int
    weight_bytes: int
    median_ms: float | None = None
    p99_ms: float | None = None


def geometry_spec(geometry: str) -> SignalSpec:
    """Return the signal of a geometry.

    Raises:
        SettingsError: The geometry is unknown; the message suggests the nearest.
    """
    if geometry not in GEOMETRIES:
        raise SettingsError(unknown_name("geometry", geometry, GEOMETRIES))
    return GEOMETRIES[geometry]


def rows(geometry: str = REFERENCE, pattern: str = "*", *, timed: bool = False) -> list[Row]:
    """Count the models of the catalogue: teachers, students, baselines.

    Args:
        geometry: Key of :data:`GEOMETRIES`.
        pattern: Wildcard over names.
        timed: Whether to measure the delay on this CPU too, which builds every model.

    Raises:
        SettingsError: The geometry is unknown.
        ModelError: No model matches the pattern.
    """
    spec, names = geometry_spec(geometry), models(pattern)
    if not names:
        raise ModelError(unknown_name("model", pattern, models()))
    names.sort(key=lambda name: get_args(Role).index(entry(name).role))
    return [_row(geometry, name, spec, timed=timed) for name in names]


def _row(geometry: str, name: str, spec: SignalSpec, *, timed: bool) -> Row:
    registered, counted = entry(name), complexity(name, spec)
    printed = registered.printed if geometry == REFERENCE and registered.printed else None
    delay = latency(name, spec) if timed else None
    return Row(
        geometry=geometry,
        model=name,
        role=registered.role,
        parameters=counted.parameters,
        printed=printed,
        deviation=counted.parameters / printed - 1 if printed else None,
        macs=counted.macs,
        flops=counted.flops,
        activation_bytes=counted.activation_bytes,
        weight_bytes=counted.weight_bytes,
        median_ms=delay.median_ms if delay else None,
        p99_ms=delay.p99_ms if delay else None,
    )


def off(table: Sequence[Row]) -> list[Row]:
    """Return the rows that are more than 1 % off the printed count."""
    return [row for row in table if row.deviation is not None and abs(row.deviation) > TOLERANCE]


def render(table: Sequence[Row], form: Format = "table") -> str:
    """Write rows as text; ``markdown`` is a whole page, as in ``docs/models.md``.

    Raises:
        SettingsError: There is no such format.
    """
    if form == "markdown":
        return _page(table)
    heads, cells = _cells(table)
    words = 2
    if form == "table":
        timed = "median ms" in heads
        kept = [n for n, head in enumerate(heads) if head not in (_WIDE_TIMED if timed else _WIDE)]
        words -= timed
        heads = [_SHORT.get(heads[n], heads[n].replace(" ", "\n")) for n in kept]
        cells = [[line[n] for n in kept] for line in cells]
    return lay_out(
        form,
        title=f"{table[0].geometry}: {geometry_spec(table[0].geometry).summary()}",
        heads=heads,
        cells=cells,
        numbers=range(words, len(heads)),
        records=[asdict(row) for row in table],
    )


_WIDE = ("printed", "MMAC")
"""What a terminal of 80 columns has no room for."""
_WIDE_TIMED = (*_WIDE, "role", "deviation")
_SHORT = {"activations kB": "activ.\nkB", "deviation": "off by"}


def lay_out(
    form: Format,
    *,
    title: str,
    heads: Sequence[str],
    cells: Sequence[Sequence[str]],
    numbers: Collection[int],
    records: Sequence[dict[str, object]],
    notes: Sequence[str] = (),
) -> str:
    """Write a table as text.

    Args:
        form: For people (``table``, ``markdown``) or for programs (``csv``, ``json``).
        title: Above a ``table``.
        heads: Headings for people.
        cells: Lines for people.
        numbers: The columns that hold numbers.
        records: Lines for programs.
        notes: Lines below a ``table``.

    Raises:
        SettingsError: There is no such format.
    """
    if form == "table":
        return "\n".join((_rich(title, heads, cells, numbers), *notes, *("",) * bool(notes)))
    if form == "csv":
        return _csv(records)
    if form == "json":
        return json.dumps(records, indent=2) + "\n"
    if form == "markdown":
        return _markdown(heads, cells, numbers)
    raise SettingsError(unknown_name("format", form, get_args(Format)))


def _cells(table: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines for people; the first two columns are words, the others numbers."""
    heads = ["model", "role", "parameters", "printed", "deviation", "MMAC", "MFLOP"]
    heads += ["activations kB", "weights kB"]
    timed = any(row.median_ms is not None for row in table)
    heads += ["median ms", "p99 ms"] if timed else []
    cells = []
    for row in table:
        line = [row.model, row.role, f"{row.parameters:,}"]
        line.append("–" if row.printed is None else f"{row.printed / 1e6:.1f} M")
        line.append("–" if row.deviation is None else f"{row.deviation:+.2%}")
        line += [f"{row.macs / 1e6:,.2f}", f"{row.flops / 1e6:,.2f}"]
        line += [f"{row.activation_bytes / 1e3:,.1f}", f"{row.weight_bytes / 1e3:,.1f}"]
        line += [f"{ms:.3f}" for ms in (row.median_ms, row.p99_ms) if ms is not None]
        cells.append(line)
    return heads, cells


def _rich(
    title: str, heads: Sequence[str], cells: Sequence[Sequence[str]], numbers: Collection[int]
) -> str:
    shown = Table(title=title, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column, head in enumerate(heads):
        shown.add_column(head, justify="right" if column in numbers else "left", no_wrap=True)
    for line in cells:
        shown.add_row(*line)
    out = io.StringIO()
    Console(file=out, width=140).print(shown)
    return out.getvalue()


def _csv(records: Sequence[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def _markdown(
    heads: Sequence[str], cells: Sequence[Sequence[str]], numbers: Collection[int]
) -> str:
    rule = ["---:" if column in numbers else "---" for column in range(len(heads))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, rule, *cells))


def _page(table: Sequence[Row]) -> str:
    """The table, what a row means, and every family in the words of its own file."""
    geometry = table[0].geometry
    heads, cells = _cells(table)
    flag = "" if geometry == REFERENCE else f" --geometry {geometry}"
    page = f"""# The models

Written by `myodistill models{flag} --format markdown`; a test fails when it is stale.

Geometry `{geometry}`: {geometry_spec(geometry).summary()}. One MAC is two FLOPs; only convolutions,
linear and recurrent layers are counted, for one window. Activations are the most bytes alive at the
same time, weights include the buffers of normalisation, both in float32 and 1 kB = 1000 bytes. The
deviation is from the count printed with the published method, whose code is not public: these are
reconstructions, and the command exits with code 1 when one is off by more than {TOLERANCE:.0%}.

{_markdown(heads, cells, range(2, len(heads)))}"""
    families = dict.fromkeys(entry(row.model).build.__module__ for row in table)
    families["myodistill.models.representations"] = None
    for module in families:
        title, _, body = (sys.modules[module].__doc__ or module).strip().partition("\n")
        page += f"\n## {title.rstrip('.')}\n{body.replace('``', '`')}\n"
    timing = resources.files("myodistill.models").joinpath("training_step.md")
    if geometry == REFERENCE and timing.is_file():
        page += f"\n{timing.read_text(encoding='utf-8')}"
    return page
