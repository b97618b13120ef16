"""The files of a run beside its bundles: tables, confusion counts, settings, versions."""

from __future__ import annotations

import json
import logging
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
from myodistill.distillation.digests import KnownDigests, facts_digest
from myodistill.errors import ModelError, SettingsError, Wanted
from myodistill.evaluation import results
from myodistill.evaluation.protocol import require_one_protocol
from myodistill.evaluation.results import METHOD, WHOSE
from myodistill.files import write_text
from myodistill.models.classical import CLASSICAL
from myodistill.models.complexity import complexity
from myodistill.readers import read_json
from myodistill.reporting.run import read_run
from myodistill.splits import Split
from myodistill.studies.runner import Row

_log = logging.getLogger(__name__)
_ROW = [*METHOD, "fold", "subject", "k", "seed"]
_WHOSE = {**WHOSE, "fold": "integer"}
_WANTED = Wanted("what an earlier run left", advice="remove the folder and run again")


class RunWriter:
    """The files of a run folder.

    Args:
        settings: Of the run.
        dataset: Of the run.
        known: Digests of the recordings of all subjects that take part.
        add: Add to the results of an earlier run in the folder; else replace them.
    """

    def __init__(
        self, settings: Settings, dataset: Dataset, known: KnownDigests, *, add: bool
    ) -> None:
        self._settings = settings
        facts = facts_digest(dataset.facts)
        self._recordings = {subject: digest(facts, of.whole) for subject, of in known}
        self._dataset = dataset
        needed = ("results.parquet", "settings.json", "confusion.json", "models.json")
        self._add = add and all((settings.out / name).is_file() for name in needed)

    def check(self) -> None:
        """Refuse to add to a run that does not match.

        Raises:
            DataError: What the earlier run left is damaged.
            SettingsError: The earlier run is on another dataset or on other recordings.
        """
        if self._add:
            read_run(self._settings.out)  # what is damaged is refused before any work
            Settings.load(self._earlier("settings.json"))
        earlier = self._earlier("settings.json").get("dataset")
        if earlier not in (None, self._settings.dataset):
            raise SettingsError(
                f"out: expected a run on {self._settings.dataset} in {self._settings.out}, there "
                f"is one on {earlier}; choose another folder with --out"
            )
        before = self._earlier("recordings.json")
        for subject, current in self._recordings.items():
            if before.get(subject, current) != current:
                raise SettingsError(
                    f"out: expected the recordings that the run in {self._settings.out} is on, "
                    f"those of {subject:.40} have changed; do that run again first"
                )

    def finish(self, rows: Sequence[Row], splits: Sequence[Split]) -> pd.DataFrame:
        """Write the scores and what describes them; return the results table.

        Without scores the table is empty, and the files of an earlier run stay as they are.
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
        self._write("facts.json", self._dataset.facts.to_dict())
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
                    earlier = results.read_rows(out / f"{name}.parquet", _WANTED, _WHOSE)
                    parts[name] = _over(earlier, part)
        results.write(table, out / "results.parquet")
        for name, part in parts.items():
            results.write(part, out / f"{name}.parquet")
        self._write("confusion.json", self._confusion(rows))
        self._write("models.json", self._earlier("models.json") | self._models())
        return table

    def _described(self) -> dict[str, Any]:
        """Return the settings, or those of the earlier run if rows are added to it."""
        settings: dict[str, Any] = json.loads(self._settings.model_dump_json())
        if not (earlier := self._earlier("settings.json")):
            return settings
        names = [*earlier.get("baseline", ()), *settings["baseline"]]
        return earlier | {"baseline": list(dict.fromkeys(names))}

    def _earlier(self, name: str) -> dict[str, Any]:
        path = self._settings.out / name
        if not self._add or not path.is_file():
            return {}
        return read_json(path, _WANTED)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_text(self._settings.out / name, json.dumps(content, indent=1))

    def _confusion(self, rows: Iterable[Row]) -> dict[str, Any]:
        """Return the counts of each method and K, summed over subjects and seeds."""
        counts: dict[tuple[Any, ...], Any] = {
            tuple(one[name] for name in (*METHOD, "k")): one["windows"]
            for one in self._earlier("confusion.json").get("counts", ())
        }
        fresh: dict[tuple[Any, ...], Any] = {}
        for row in rows:
            key = tuple(row["result"][name] for name in (*METHOD, "k"))
            fresh[key] = fresh.get(key, 0) + np.array(row["confusion"])
        counts |= {key: table.tolist() for key, table in fresh.items()}
        return {
            "gestures": list(self._dataset.facts.gestures),
            "counts": [
                dict(zip((*METHOD, "k"), key, strict=True)) | {"windows": table}
                for key, table in counts.items()
            ],
        }

    def _models(self) -> dict[str, Any]:
        """Return the operations of each network for one window."""
        settings, spec = self._settings, self._dataset.facts.spec()
        beside = [name for name in settings.baseline if name not in CLASSICAL]
        names = dict.fromkeys((*settings.teacher_model, *settings.student_model, *beside))
        flops = {}
        for name in names:
            try:
                flops[name] = complexity(name, spec).flops
            except ModelError as error:  # no result depends on the count
                _log.warning("operations of a window are not counted: %s", error)
        if len(settings.teacher_model) > 1 and set(settings.teacher_model) <= set(flops):
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
    """Return one part of every score, with the columns that identify it."""
    return pd.DataFrame(
        [
            {**{name: row["result"][name] for name in _ROW}, **part}
            for row in rows
            for part in row[what]
        ]
    )


def _over(earlier: pd.DataFrame, later: pd.DataFrame) -> pd.DataFrame:
    """Replace earlier rows of the same method, subject, K and seed."""
    again = pd.MultiIndex.from_frame(earlier[_ROW]).isin(pd.MultiIndex.from_frame(later[_ROW]))
    return pd.concat([earlier[~again], later], ignore_index=True)
