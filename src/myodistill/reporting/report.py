"""One HTML file that says what a run was, what came out, and how far it can be trusted."""

from __future__ import annotations

import base64
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from myodistill import __version__
from myodistill.datasets.trees import natural
from myodistill.errors import DataError
from myodistill.evaluation import adaptation_results
from myodistill.evaluation.event_metrics import EVENT_COLUMNS, not_counted
from myodistill.evaluation.power import power_note
from myodistill.evaluation.protocol import (
    METRICS,
    overview,
    require_one_protocol,
    usual_k,
)
from myodistill.evaluation.results import METHOD, STAGES
from myodistill.files import write_text
from myodistill.reporting import device
from myodistill.reporting.figures import FIGURES
from myodistill.reporting.figures.adaptation import accuracy_in_use
from myodistill.reporting.figures.canvas import Picture
from myodistill.reporting.headline import GLOSSARY, headline, lead, leading, title
from myodistill.reporting.limits import chance_notes, limits, warnings
from myodistill.reporting.rendering import environment, template
from myodistill.reporting.run import Run, read_run
from myodistill.reporting.tables import (
    all_pairs,
    compared,
    event_rows,
    key_pairs,
    score_table,
    session_table,
)

_MADE_WITH = ("numpy", "scipy", "pandas", "scikit-posthocs", "matplotlib")
_RASTER = ("rms-map",)  # squares would be blurred or huge as vectors
_CONTENTS = {
    "short": "In short",
    "results": "Results",
    "in-use": "In use",
    "tests": "Statistics",
    "figures": "Figures",
    "data": "Data",
    "splits": "Splits",
    "models": "Models",
    "device": "On a device",
    "repeat": "Repeat it",
    "limits": "Limits",
}


def report(run_folder: Path, *, out: Path | None = None) -> Path:
    """Write the report of a run as one HTML file that needs no network.

    Args:
        run_folder: Must hold ``results.parquet``; what else is absent is named in the report.
        out: File to write; ``report.html`` in the run folder if not given.

    Returns:
        The file.

    Raises:
        DataError: The results are missing, empty, or of more than one protocol.
        OutputError: The file cannot be written.
    """
    run = read_run(run_folder)
    for metric in METRICS:
        require_one_protocol(run.results, metric)
    path = out or run_folder / "report.html"
    write_text(path, environment().from_string(template("report.html.j2")).render(_context(run)))
    return path


def _context(run: Run) -> dict[str, Any]:
    frame = run.results
    ks = sorted(int(k) for k in frame["k"].unique())
    people = int(frame["subject"].nunique())
    means = overview(frame)
    tests, no_tests = compared(frame, ks)
    headlines = [line for k in ks if (line := headline(means, k, tests.get(k)))]
    pictures, no_pictures = _pictures(run, usual_k(frame))
    folder = run.settings.get("out", run.folder.name)  # not where it lies on this machine
    written = datetime.fromtimestamp((run.folder / "results.parquet").stat().st_mtime, UTC)
    return {
        "css": Markup(template("report.css")),
        "js": Markup(template("report.js")),
        "title": title(run),
        "lead": lead(run, people, ks),
        "contents": _CONTENTS,
        "glossary": [(STAGES[s], GLOSSARY[s]) for s in STAGES if (frame["stage"] == s).any()],
        "warnings": warnings(run),
        "at_chance": chance_notes(run),
        "headlines": headlines,
        "metric": METRICS["accuracy"],
        "people": people,
        "ks": ks,
        "interval_words": " with 95 % bootstrap interval" if people > 1 else "",
        "tables": {metric: score_table(overview(frame, metric), ks) for metric in METRICS},
        "errors": score_table(overview(frame, "calibration_error"), ks, lowest=True),
        **_sessions(run, ks),
        "felt": [(k, event_rows(run.events, k)) for k in ks] if run.events is not None else [],
        "felt_k": usual_k(frame),
        "felt_leading": _felt_leading(run, means),
        "felt_heads": list(EVENT_COLUMNS.values()),
        "not_counted": not_counted(run.events) if run.events is not None else [],
        **_adapting(run),
        "key_pairs": key_pairs(tests, means),
        "all_pairs": all_pairs(tests),
        "no_tests": no_tests,
        "power": [f"K={k}: {power_note(tests[k])}" for k in tests],
        "pictures": pictures,
        "no_pictures": no_pictures,
        "data": _data(run),
        "splits": run.splits,
        "models": _models(run),
        "parity_tables": device.parity_tables(run),
        "parity_columns": device.HEADINGS,
        "command": str(run.environment.get("command") or ""),
        "commands": "\n".join(
            [f"myodistill report {folder}"]
            + [f"myodistill figure {name} {folder}" for name in FIGURES]
        ),
        "settings": list(_flat(run.settings)),
        "environment": [
            item for item in _flat(run.environment) if not item[0].startswith("command")
        ],
        "made_with": ", ".join(
            [f"Python {platform.python_version()}", f"MyoDistill {__version__}"]
            + [f"{name} {version(name)}" for name in _MADE_WITH]
        ),
        "limits": limits(run, headlines),
        "absent": run.absent,
        "written": f"{written.day} {written:%B %Y}",
    }


def _sessions(run: Run, ks: list[int]) -> dict[str, Any]:
    """Return the test sessions in order and one table per K; nothing for a single session."""
    if run.sessions is None or run.sessions["session"].nunique() < 2:
        return {"sessions": []}
    return {
        "sessions": sorted(run.sessions["session"].unique()),
        "by_session": [(k, session_table(run.sessions, k)) for k in ks],
    }


def _adapting(run: Run) -> dict[str, Any]:
    """Return what ``myodistill evaluate adaptation`` found, if it was asked for."""
    path = run.folder / adaptation_results.FILE
    if not path.is_file():
        return {"adapting": {}}
    frame = adaptation_results.read(path)
    return {
        "adapting": adaptation_results.tables(frame),
        "adapting_heads": adaptation_results.HEADINGS,
        "adapting_picture": _embedded(accuracy_in_use(frame), "accuracy-in-use"),
    }


def _felt_leading(run: Run, means: pd.DataFrame) -> list[dict[str, Any]]:
    """Event metrics of the best student and its rivals at the first K with labels."""
    if run.events is None:
        return []
    k = usual_k(run.results)
    chosen = [
        run.events[(run.events[METHOD] == list(method)).all(axis=1)] for method in leading(means, k)
    ]
    return event_rows(pd.concat(chosen), k)


def _pictures(run: Run, first_k: int) -> tuple[list[list[dict[str, str]]], list[tuple[str, str]]]:
    drawn, reasons = [], []
    for name, draw in FIGURES.items():
        try:
            pictures = _each(run, name, draw)
        except DataError as error:
            reasons.append((name.replace("-", " "), f"{error}."))
            continue
        pictures.sort(key=lambda picture: not picture.name.endswith(f"-k{first_k}"))
        drawn.append([_embedded(picture, name) for picture in pictures])
    return drawn, reasons


def _each(run: Run, name: str, draw: Callable[[Run], list[Picture]]) -> list[Picture]:
    """Draw a figure for every K at which it can be drawn, if it can be drawn at any."""
    if name not in ("hypothesis-heatmap", "critical-difference"):
        return draw(run)
    pictures: list[Picture] = []
    reason: DataError | None = None
    for _, part in run.results.groupby("k"):
        try:
            pictures += draw(Run(run.folder, part))
        except DataError as error:
            reason = error
    if reason is not None and not pictures:
        raise reason
    return pictures


def _embedded(picture: Picture, name: str) -> dict[str, str]:
    kind = "png" if name in _RASTER else "svg"
    media = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return {
        "name": picture.name,
        "title": picture.title,
        "note": picture.note,
        "alt": picture.alt,
        "inches": f"{picture.figure.get_figwidth():g}",
        "src": _uri(media, picture.render(kind)),
        "csv": _uri("text/csv", picture.csv().encode()),
    }


def _uri(media: str, content: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def _data(run: Run) -> list[tuple[str, object]]:
    facts, subjects = run.facts, sorted(run.results["subject"].unique(), key=natural)
    scored = (f"Scored subjects ({len(subjects)})", ", ".join(subjects))
    if facts is None:
        name = str(run.results["dataset"].iloc[0])
        missing = "not recorded: this dataset is not in the catalogue"
        return [("Dataset", name), scored, ("Licence", missing), ("Citation", missing)]
    layout = facts.electrodes
    window = f"{facts.samples} samples = {1000 * facts.samples / facts.sampling_rate:.0f} ms"
    step = f"{facts.step} samples = {1000 * facts.step / facts.sampling_rate:.0f} ms"
    return [
        ("Dataset", facts.title),
        scored,
        ("Electrodes", f"{layout.channels}, {layout.layout} of {layout.rows}×{layout.columns}"),
        ("Sampling rate", f"{facts.sampling_rate:g} Hz"),
        ("Windows", f"{window}, a new one every {step}, by the protocol of the dataset"),
        (
            f"Gestures ({len(facts.gestures)})",
            ", ".join(f"{label} {name}" for label, name in enumerate(facts.gestures)),
        ),
        ("Licence", facts.licence),
        ("Citation", facts.citation),
        ("Home", facts.home),
    ]


def _models(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "name": str(model),
            "stages": "; ".join(STAGES[stage] for stage in STAGES if stage in set(group["stage"])),
            "parameters": int(group["parameters"].max()),
            "flops": run.flops.get(str(model), 0),
            "seconds": "" if group["seconds"].isna().any() else float(group["seconds"].median()),
        }
        for model, group in run.results.groupby("model", sort=False)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            listed = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{prefix}{name}", listed
