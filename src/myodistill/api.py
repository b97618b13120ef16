"""The public functions that need every layer: open a dataset, run an experiment, export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from myodistill.bundle import Bundle
from myodistill.config import Settings, read_settings
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording, require_same_signal
from myodistill.datasets.registry import DATASETS, is_dataset, open_dataset
from myodistill.decision_rule import DecisionRule
from myodistill.deploy.export import export as write
from myodistill.deploy.targets import require_target
from myodistill.errors import BundleError, SettingsError, Wanted, shown
from myodistill.readers import read_yaml
from myodistill.reporting.run import Run, read_run
from myodistill.signals.preprocessing import filtered
from myodistill.studies.experiment import run_experiment


def load_dataset(name: str | Path) -> Dataset:
    """Open a dataset: who is in it, and each person's raw recordings.

    Args:
        name: A name that ``myodistill data list`` knows; a ``.yaml`` file that describes your own
            recordings; an EMG-BIDS folder; or a prepared store. Known datasets are looked for in
            the folder ``MYODISTILL_DATA``.

    Returns:
        The dataset: ``facts`` (electrodes, rate in Hz, gestures, unit, protocol), ``subjects()``
        and ``recordings(subject)``, whose signals are ``(time, channel)`` in ``facts.unit``.

    Raises:
        DataError: The name is unknown, the files are not found, or a description is wrong.

    Example:
        >>> dataset = load_dataset("synthetic")
        >>> dataset.facts.sampling_rate
        1000.0
        >>> dataset.recordings("Person1")[0].signal.shape
        (41000, 8)
    """
    return open_dataset(str(name))


def run(settings: Settings | Mapping[str, Any] | Path | str | None = None, **overrides: Any) -> Run:
    """Run a whole experiment: pre-train, calibrate, distill and score, person by person.

    Finished work in ``out`` that is still valid is not repeated; a killed run resumes.

    Args:
        settings: Settings, a mapping of some, or a YAML file of some, as for ``myodistill run
            --config``; or a dataset: its name, its folder, or the ``.yaml`` file that describes it
            (which is told from settings by its key ``files``).
        overrides: Options that override these, named as in YAML. Those of a stage are a mapping,
            which leaves the stage's other options as they are: ``distill={"num_epochs": 5}``.

    Returns:
        What the run left in its folder: ``table`` (one row per subject, method and K), ``report()``
        (writes an HTML file) and ``bundles``.

    Raises:
        MyoDistillError: A setting is wrong, data is missing, damaged or copied, training diverged,
            or the folder is not writable or in use.

    Example:
        >>> result = run("synthetic", out="runs/first", k=[1], distill={"num_epochs": 5})
        >>> result.table.groupby("stage").accuracy.mean()
        >>> result.report()
        PosixPath('runs/first/report.html')
    """
    values = _values(settings)
    for name, value in overrides.items():
        section = values.get(name)
        if isinstance(section, Mapping) and isinstance(value, Mapping):
            value = {**section, **value}
        values[name] = value
    made = Settings.load(values)
    run_experiment(made)
    return read_run(made.out)


def _values(settings: Settings | Mapping[str, Any] | Path | str | None) -> dict[str, Any]:
    """Return settings as they are written in YAML."""
    if settings is None:
        return {}
    if isinstance(settings, Settings):
        return settings.model_dump()
    if isinstance(settings, Mapping):
        return dict(settings)
    if not isinstance(settings, str | Path):
        raise SettingsError(
            f"settings: expected settings, a mapping, a file or a dataset, got {shown(settings)}"
        )
    name = str(settings)
    if name.endswith((".yaml", ".yml")):
        wanted = Wanted("settings, or a description of recordings", SettingsError)
        values = read_yaml(Path(name).expanduser(), wanted, integer_keys=True)
        return {"dataset": name} if "files" in values else values
    if name in DATASETS or is_dataset(name) or not Path(name).is_file():
        return {"dataset": name}
    return read_settings(Path(name))


def export(
    bundle: Bundle | Path | str,
    target: str,
    out: Path | str,
    recordings: Sequence[Recording] = (),
    *,
    step: int | None = None,
    rule: DecisionRule | None = None,
) -> Path:
    """Write a person's bundle for a device.

    Args:
        bundle: The bundle, or its folder.
        target: ``"onnx"``, ``"int8"``, ``"c"``, ``"c-int8"`` or ``"executorch"``.
        out: The file for ``"onnx"`` and ``"int8"``, the folder for the others.
        recordings: The person's raw calibration recordings, none of which is scored; every target
            except ``"c"`` needs them, for 8-bit ranges or to compare the exported form with the
            network.
        step: Samples from one decision to the next; the bundle's own by default.
        rule: How predictions become decisions; the bundle's own by default.

    Returns:
        ``out``.

    Raises:
        BundleError: The folder holds no bundle, or the bundle is not calibrated for a person.
        DataError: Recordings are needed and missing, or were recorded otherwise.
        ModelError: The target cannot run the model.
        OutputError: It cannot be written.
        SettingsError: The target is unknown.
        ToolError: The exporter is not installed: ``pip install 'myodistill[export]'``.

    Example:
        >>> export(bundle, "c", "firmware/decoder")
        PosixPath('firmware/decoder')
    """
    require_target(target)
    made = bundle if isinstance(bundle, Bundle) else Bundle.load(Path(bundle))
    if made.preprocessing is None:
        raise BundleError(f"{made.model}: expected a person's pre-processing, it has none yet")
    windows = None
    if recordings:
        require_same_signal(recordings, made.spec, made.unit, what=made.model)
        sections = made.preprocessing.sections()
        windows = filtered(recordings, sections, samples=made.spec.samples, step=made.step)
    write(made, target, Path(out), windows=windows, step=step, rule=rule)
    return Path(out)
