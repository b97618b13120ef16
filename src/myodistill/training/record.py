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
from myodistill.config import Settings
from myodistill.datasets.dataset import Dataset
from myodistill.errors import SettingsError, Wanted, shown
from myodistill.evaluation import results
from myodistill.evaluation.protocol import require_one_protocol
from myodistill.evaluation.results import METHOD, WHOSE, Result
from myodistill.files import write_text
from myodistill.models.classical import CLASSICAL
from myodistill.models.complexity import complexity
from myodistill.readers import read_json
from myodistill.splits import Split
from myodistill.training.work import Row

_ROW = [*METHOD, "fold", "subject", "k", "seed"]
_WHOSE = {**WHOSE, "fold": "integer"}
_WANTED = Wanted("what an earlier run left", advice="remove the folder and run again")


class Record:
    """The files of a run folder.

    Args:
        settings: Of the run.
        dataset: That it is on.
        add: Keep what an earlier run left there and add to it; else begin anew.
    """

    def __init__(self, settings: Settings, dataset: Dataset, *, add: bool) -> None:
        self._settings = settings
        self._dataset = dataset
        needed = ("results.parquet", "settings.json", "confusion.json", "models.json")
        self._add = add and all((settings.out / name).is_file() for name in needed)

    def begin(self, splits: Sequence[Split]) -> None:
        """Write what is known before any work is done.

        Raises:
            SettingsError: Rows would be added to those of another dataset.
        """
        out, settings = self._settings.out, json.loads(self._settings.model_dump_json())
        if self._add:
            earlier = self._earlier("settings.json")
            if earlier.get("dataset") != settings["dataset"]:
                raise SettingsError(
                    f"out: expected a run on {settings['dataset']} in {out}, there is one on "
                    f"{shown(earlier.get('dataset'))}; choose another folder with --out"
                )
            names = [*earlier.get("baseline", ()), *settings["baseline"]]
            settings = earlier | {"baseline": list(dict.fromkeys(names))}
        write_text(out / "settings.json", json.dumps(settings, indent=1))
        for split in splits:
            write_text(out / "splits" / f"fold-{split.fold}.json", split.to_json())

    def finish(self, rows: Sequence[Row]) -> pd.DataFrame:
        """Write what was scored and return the results table; empty where nothing was."""
        table = results.table([Result(**row["result"]) for row in rows])
        if not rows:
            return table
        out = self._settings.out
        parts = {name: _parts(rows, name) for name in ("events", "sessions")}
        if self._add:
            table = results.ordered(_over(results.read(out / "results.parquet"), table))
            require_one_protocol(table)
            for name, part in parts.items():
                if (out / f"{name}.parquet").is_file():
                    earlier = results.read_rows(out / f"{name}.parquet", _WANTED, _WHOSE)
                    parts[name] = _over(earlier, part)
        results.write(table, out / "results.parquet")
        for name, part in parts.items():
            results.write(part, out / f"{name}.parquet")
        # Counts are of the first method of a stage, which an earlier run has scored.
        counts, counted = self._confusion(rows), self._earlier("confusion.json")
        methods = counts["methods"] | counted.get("methods", {})
        self._write("confusion.json", counts | counted | {"methods": methods})
        self._write("models.json", self._earlier("models.json") | self._models())
        environment = self._environment()
        if before := self._earlier("environment.json").get("command"):
            environment["command"] = f"{before}\n{environment['command']}"
        self._write("environment.json", environment)
        return table

    def _earlier(self, name: str) -> dict[str, Any]:
        path = self._settings.out / name
        if not self._add or not path.is_file():
            return {}
        return read_json(path, _WANTED)

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
