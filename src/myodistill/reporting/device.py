"""The parity tables of a run, as the report shows them."""

from __future__ import annotations

from typing import Any

from myodistill.deploy.parity_table import COLUMNS, ParityTable
from myodistill.evaluation.results import STAGES
from myodistill.reporting.run import Run

HEADINGS = [heading for heading, *_ in COLUMNS]


def parity_tables(run: Run) -> list[dict[str, Any]]:
    """Return what the report says of each student whose deployed forms were measured."""
    return [
        {
            "title": _title(parity_table),
            "rows": parity_table.rows(),
            "notes": parity_table.notes(),
            "operators": parity_table.operators,
        }
        for parity_table in run.parity_tables
    ]


def _title(parity_table: ParityTable) -> str:
    origin = parity_table.origin
    stage = str(origin.get("stage"))
    seed = f", seed {origin['seed']}" if origin.get("seed") else ""
    return (
        f"{origin.get('subject')}, K = {origin.get('k')}{seed}: {STAGES.get(stage, stage)}, "
        f"{parity_table.model}"
    )
