"""What a run writes about itself beside its bundles: tables, counts, settings, versions."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from myodistill import __version__
from myodistill.config import Settings, digest
from myodistill.datasets.dataset import Dataset
from myodistill.errors import SettingsError
from myodistill.evaluation import results
from myodistill.evaluation.protocol import require_one_protocol
from myodistill.evaluation.results import METHOD
from myodistill.files import write_text
from myodistill.models.classical import CLASSICAL
from myodistill.models.complexity import complexity
from myodistill.splits import Split
from myodistill.training.contents import Known, facts_digest
from myodistill.training.work import Row

_ROW = [*METHOD, "fold", "subject", "k", "seed"]


class Record:
    """The files of a run folder.

    Args:
        settings: Of the run.
        dataset: That it is on.
        known: Digests of the recordings of everybody who takes part.
        add: Keep what an earlier run left there and add to it; else begin anew.
    """

    def __init__(self, settings: Settings, dataset: Dataset, known: Known, *, add: bool) -> None:
        self._settings = settings
        facts = facts_digest(dataset.facts)
        self._recordings = {subject: digest(facts, of.whole) for subject, of in known}
        self._dataset = dataset
        needed = ("results.parquet", "settings.json", "confusion.json", "models.json")
        self._add = add and all((settings.out / name).is_file() for name in needed)

    def check(self) -> None:
        """Refuse what cannot be added to what is there.

        Raises:
            SettingsError: Rows would be added to those of another dataset, or of other recordings.
        """
        there = self._earlier("settings.json").get("dataset")
        if there not in (None, self._settings.dataset):
            raise SettingsError(
                f"out: expected a run on {self._settings.dataset} in {self._settings.out}, there "
                f"is one on {there}; choose another folder with --out"
            )
        before = self._earlier("recordings.json")
        for subject, found in self._recordings.items():
            if before.get(subject, found) != found:
                raise SettingsError(
                    f"out: expected the recordings that the run in {self._settings.out} is on, "
                    f"those of {subject:.40} have changed; do that run again first"
                )

    def finish(self, rows: Sequence[Row], splits: Sequence[Split]) -> pd.DataFrame:
        """Write what was scored and what describes it; return the results table.

        Where nothing was scored the table is empty, and what describes earlier scores stays.
        """
        scored = [row["result"] | {"scores_sha256": row["scores_sha256"]} for row in rows]
        table = results.ordered(pd.DataFrame(scored)) if rows else results.table([])
        out = self._settings.out
        if not rows and (out / "results.parquet").is_file():
            return table
        if rows:
            table = self._finish_tables(table, rows)
        for split in splits:
            write_text(out / "splits" / f"fold-{split.fold}.json", split.to_json())
        if not self._add:
            ours = {f"fold-{split.fold}.json" for split in splits}
            for path in (out / "splits").glob("fold-*.json"):
                if path.name not in ours:
                    path.unlink()
        environment = self._environment()
        if before := self._earlier("environment.json").get("command"):
            environment["command"] = f"{before}\n{environment['command']}"
        self._write("recordings.json", self._earlier("recordings.json") | self._recordings)
        self._write("environment.json", environment)
        self._write("settings.json", self._described())
        return table

    def _finish_tables(self, table: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
        out = self._settings.out
        parts = {name: _parts(rows, name) for name in ("events", "sessions")}
        if self._add:
            table = results.ordered(_over(results.read(out / "results.parquet"), table))
            require_one_protocol(table)
            for name, part in parts.items():
                if (out / f"{name}.parquet").is_file():
                    parts[name] = _over(pd.read_parquet(out / f"{name}.parquet"), part)
        results.write(table, out / "results.parquet")
        for name, part in parts.items():
            results.write(part, out / f"{name}.parquet")
        # Counts are of the first method of a stage, which an earlier run has scored.
        counts, counted = self._confusion(rows), self._earlier("confusion.json")
        methods = counts["methods"] | counted.get("methods", {})
        self._write("confusion.json", counts | counted | {"methods": methods})
        self._write("models.json", self._earlier("models.json") | self._models())
        return table

    def _described(self) -> dict[str, Any]:
        """Return the settings; where rows are added, those of the run that they are added to."""
        settings: dict[str, Any] = json.loads(self._settings.model_dump_json())
        if not (earlier := self._earlier("settings.json")):
            return settings
        names = [*earlier.get("baseline", ()), *settings["baseline"]]
        return earlier | {"baseline": list(dict.fromkeys(names))}

    def _earlier(self, name: str) -> dict[str, Any]:
        path = self._settings.out / name
        if not self._add or not path.is_file():
            return {}
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_text(self._settings.out / name, json.dumps(content, indent=1))

    def _confusion(self, rows: Iterable[Row]) -> dict[str, Any]:
        """Return the counts of each stage and K, summed over subjects and seeds.

        Of several methods of a stage the first, whose name stands under ``methods``: of the
        teachers the whole group.
        """
        counts: dict[str, dict[str, Any]] = {}
        first: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            stage, k = row["result"]["stage"], str(row["result"]["k"])
            method = [row["result"][name] for name in METHOD]
            if first.setdefault((stage, k), method) != method:
                continue
            by_k = counts.setdefault(stage, {})
            by_k[k] = by_k.get(k, 0) + np.array(row["confusion"])
        content: dict[str, Any] = {
            stage: {k: table.tolist() for k, table in by_k.items()}
            for stage, by_k in counts.items()
        }
        methods: dict[str, dict[str, str]] = {}
        for (stage, k), (_, model, loss) in first.items():
            methods.setdefault(stage, {})[k] = results.named(model, loss)
        return content | {"methods": methods, "gestures": list(self._dataset.facts.gestures)}

    def _models(self) -> dict[str, Any]:
        """Return the operations that each network spends on one window."""
        settings, spec = self._settings, self._dataset.facts.spec()
        beside = [name for name in settings.baseline if name not in CLASSICAL]
        names = dict.fromkeys((*settings.teacher_model, *settings.student_model, *beside))
        flops = {name: complexity(name, spec).flops for name in names}
        if len(settings.teacher_model) > 1:
            flops["+".join(settings.teacher_model)] = sum(flops[m] for m in settings.teacher_model)
        return {name: {"flops": count} for name, count in flops.items()}

    def _environment(self) -> dict[str, Any]:
        packages = ("torch", "numpy", "scipy", "scikit-learn", "pandas")
        return {
            "versions": {
                "myodistill": __version__,
                "python": platform.python_version(),
                **{package: version(package) for package in packages},
            },
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {self._settings.device}",
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        }


def _parts(rows: Iterable[Row], what: str) -> pd.DataFrame:
    """Return what every score has of a kind, with the columns that say whose it is."""
    return pd.DataFrame(
        [
            {**{name: row["result"][name] for name in _ROW}, **part}
            for row in rows
            for part in row[what]
        ]
    )


def _over(earlier: pd.DataFrame, later: pd.DataFrame) -> pd.DataFrame:
    """Put rows over earlier ones of the same method, subject, K and seed."""
    again = pd.MultiIndex.from_frame(earlier[_ROW]).isin(pd.MultiIndex.from_frame(later[_ROW]))
    return pd.concat([earlier[~again], later], ignore_index=True)
