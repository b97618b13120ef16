"""The parity table: what was measured of each deployed form, on screen and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from myodistill.errors import DataError
from myodistill.files import write_text

CHIP = "nRF52840 (Cortex-M4F, 64 MHz, 3 V)"
MICROJOULES = 52e-6 * 3.0
"""Of one cycle there: 52 µA/MHz is 52e-6 µC a cycle, at 3 V."""
ENERGY_SOURCE = (
    "nRF52840 Product Specification v1.1, key features: 52 µA/MHz running CoreMark from flash "
    "(DC/DC); at 3 V and an instruction a cycle, so a lower bound; nothing was measured on a chip"
)


@dataclass(frozen=True)
class DeployedForm:
    """One deployed form of a student.

    Attributes:
        name: Which.
        reference: The form that it is compared with.
        reason: Why this student or this machine has no such form; then the rest is missing.
        accuracy: Share of labelled windows that the network classifies correctly, before the rule;
            missing where not all recordings were decoded.
        windows: How many those are.
        decisions: Decisions compared, labelled or not.
        difference: Largest difference of a logit from the reference's.
        equal: Share of decisions, after the rule, that are the reference's.
        weights: Bytes of the weights: all of PyTorch's state, all constants of the ONNX file,
            projections and linear layers of C.
        flash: Bytes of the linked program, start-up and C library included.
        ram: Bytes of its variables.
        stack: Most bytes of stack used.
        median: Seconds from ``push`` of a step to its decision, median.
        p99: The 99th percentile of these.
        instructions: Median from a window's last sample to its decision, in QEMU: a proxy, not
            cycles.
        microjoules: Of a decision on :data:`CHIP`, estimated (:data:`ENERGY_SOURCE`).
    """

    name: str
    reference: str | None
    reason: str | None = None
    accuracy: float | None = None
    windows: int = 0
    decisions: int = 0
    difference: float | None = None
    equal: float | None = None
    weights: int | None = None
    flash: int | None = None
    ram: int | None = None
    stack: int | None = None
    median: float | None = None
    p99: float | None = None
    instructions: float | None = None
    microjoules: float | None = None


@dataclass(frozen=True)
class ParityTable:
    """The deployed forms of one student, and the circumstances of their measurement.

    Attributes:
        model: Name in the catalogue.
        origin: Of the bundle.
        forms: From PyTorch down to the microcontroller.
        operators: Name, kind and number type of every operator of the 8-bit form.
        load: Load average of this machine meanwhile: other processes lengthen the delays.
        cautions: What its user has to know, one sentence each.
    """

    model: str
    origin: dict[str, Any]
    forms: tuple[DeployedForm, ...]
    operators: tuple[tuple[str, str, str], ...]
    load: float
    cautions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**asdict(self), "chip": CHIP, "energy_source": ENERGY_SOURCE}

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            OutputError: It cannot be written.
        """
        write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False))

    @classmethod
    def read(cls, path: Path) -> ParityTable:
        """Read what :meth:`write` wrote.

        Raises:
            DataError: It cannot be read, or is no parity table.
        """
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".strip(" :")
        except OSError as error:
            reason = str(error.strerror)
        raise DataError(
            f"{path}: expected the parity table of a student, got: {reason[:120]}; "
            f"run 'myodistill deploy-report' again"
        )

    def rows(self) -> list[tuple[str, list[str]]]:
        """Name and cells, as in :data:`COLUMNS`, of every form that exists."""
        return [
            (form.name, [_show(form, *column) for column in COLUMNS])
            for form in self.forms
            if not form.reason
        ]

    def table(self) -> Table:
        """Lay it out for a terminal of 80 columns: a column for each form."""
        shown = Table(title=f"{self.model}: the same student in every form", box=None)
        shown.pad_edge, shown.padding = False, (0, 1, 0, 0)
        shown.caption, shown.caption_justify = "\n".join(self.notes()), "left"
        shown.add_column("", no_wrap=True)
        rows = self.rows()
        for name, _ in rows:
            head, _, device = name.partition(", ")
            shown.add_column("\n".join(filter(None, (*head.split(), device))), justify="right")
        for index, (heading, *_) in enumerate(COLUMNS):
            shown.add_row(heading, *(cells[index] for _, cells in rows))
        return shown

    def notes(self) -> list[str]:
        """What a reader has to know besides the numbers, one sentence each."""
        notes = [*self.cautions]
        notes += [f"{form.name}: none, {form.reason}" for form in self.forms if form.reason]
        single = sorted({kind for _, kind, number in self.operators if number == "float32"})
        if single:
            notes.append(f"in 8 bits are the linear layers; in float stay {', '.join(single)}")
        counts = {form.name: form.instructions for form in self.forms}
        eight, floats = counts.get("C int8, Cortex-M4F"), counts.get("C float, Cortex-M4F")
        if eight and floats and eight >= floats:
            notes.append("by instructions, 8 bits save memory on the Cortex-M4F, not time")
        if eight or floats:
            notes.append("instructions are QEMU's count of a decision: a proxy, not cycles")
            notes.append(f"µJ of a decision on an {CHIP}, estimated: {ENERGY_SOURCE}")
        notes.append(f"delays with {self.load:.1f} processes on this machine")
        return notes


COLUMNS: tuple[tuple[str, str, float, str], ...] = (
    ("accuracy %", "accuracy", 100, ".2f"),
    ("logit diff.", "difference", 1, ".1e"),
    ("equal %", "equal", 100, ".2f"),
    ("weights kB", "weights", 1e-3, ".1f"),
    ("flash kB", "flash", 1e-3, ".1f"),
    ("RAM kB", "ram", 1e-3, ".1f"),
    ("stack kB", "stack", 1e-3, ".1f"),
    ("median ms", "median", 1e3, ".3f"),
    ("p99 ms", "p99", 1e3, ".3f"),
    ("10⁶ instr.", "instructions", 1e-6, ".2f"),
    ("µJ", "microjoules", 1, ".0f"),
)
"""Heading, attribute of :class:`DeployedForm`, factor and format of what is shown."""


def _show(form: DeployedForm, _: str, key: str, factor: float, digits: str) -> str:
    value = getattr(form, key)
    return "–" if value is None else format(value * factor, digits)
