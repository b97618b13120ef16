"""What was measured on each rung of the parity ladder, as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from myodistill.files import write_text

CHIP = "nRF52840 (Cortex-M4F, 64 MHz, 3 V)"
ENERGY_SOURCE = (
    "nRF52840 Product Specification v1.1, key features: 52 µA/MHz running CoreMark from flash; "
    "taken with 3 V and an instruction a cycle, so a lower bound; nothing was measured on a chip"
)


@dataclass(frozen=True)
class Rung:
    """One form of the student.

    Attributes:
        name: Which.
        reference: The rung that it is compared with.
        reason: Why there is no such rung for this student or on this machine; then the rest is
            missing.
        accuracy: Share of labelled windows that the network answers rightly, before the rule;
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
        median: Seconds from ``push`` to decision.
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
class Ladder:
    """The rungs of one student and what was measured around them.

    Attributes:
        model: Name in the catalogue.
        origin: Of the bundle.
        rungs: From PyTorch down.
        operators: Name, kind and number type of every operator of the 8-bit form.
        load: Average number of processes that ran on this machine meanwhile: delays are longer
            beside others.
    """

    model: str
    origin: dict[str, Any]
    rungs: tuple[Rung, ...]
    operators: tuple[tuple[str, str, str], ...]
    load: float

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**asdict(self), "chip": CHIP, "energy_source": ENERGY_SOURCE}

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            OutputError: It cannot be written.
        """
        write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False))

    def table(self) -> Table:
        """Lay it out for a terminal."""
        shown = Table(title=f"{self.model}: the same student in every form", caption=self._notes())
        shown.add_column("form", no_wrap=True)
        for name in ("accuracy %", "logit diff.", "equal %", "weights kB", "flash kB", "RAM kB",
                     "median ms", "p99 ms", "10⁶ instr."):  # fmt: skip
            shown.add_column(name, justify="right")
        for rung in self.rungs:
            if rung.reason:
                continue
            cells = (
                _show(rung.accuracy, "{:.2f}", 100),
                _show(rung.difference, "{:.1e}"),
                _show(rung.equal, "{:.2f}", 100),
                _show(rung.weights, "{:.1f}", 1e-3),
                _show(rung.flash, "{:.1f}", 1e-3),
                _show(rung.ram, "{:.1f}", 1e-3),
                _show(rung.median, "{:.3f}", 1e3),
                _show(rung.p99, "{:.3f}", 1e3),
                _show(rung.instructions, "{:.2f}", 1e-6),
            )
            shown.add_row(rung.name, *cells)
        return shown

    def _notes(self) -> str:
        notes = [f"{rung.name}: none, {rung.reason}" for rung in self.rungs if rung.reason]
        single = sorted({kind for _, kind, number in self.operators if number == "float32"})
        if single:
            notes.append(f"in 8 bits are the linear layers; in float stay {', '.join(single)}")
        counts = {rung.name: rung.instructions for rung in self.rungs}
        eight, floats = counts.get("C int8, Cortex-M4F"), counts.get("C float, Cortex-M4F")
        if eight and floats and eight >= floats:
            notes.append("by instructions, 8 bits save memory on the Cortex-M4F, not time")
        notes.append(f"delays with {self.load:.1f} processes on this machine; see the JSON")
        return "\n".join(notes)


def _show(value: float | None, form: str, factor: float = 1.0) -> str:
    return "–" if value is None else form.format(value * factor)
