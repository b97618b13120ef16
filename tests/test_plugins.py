"""Plug-ins: one file adds to every registry, in every process, and a failed one adds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from myodistill import plugins
from myodistill.config import Augmentation, Settings
from myodistill.datasets.recording import ring
from myodistill.datasets.registry import DATASETS
from myodistill.deploy.targets import EXPORTERS
from myodistill.errors import ModelError, PluginError, SettingsError
from myodistill.models.registry import MODELS, build, register_model
from myodistill.plugins import Registry, load_plugins, plugin_of
from myodistill.signals.augmentation import AUGMENTATIONS, Augmenter
from myodistill.studies.tune import tune
from myodistill.training.losses import FEATURE_LOSSES, LOSSES, register_loss, require_loss

MINE = '''
import torch
from torch import nn
from myodistill.datasets.registry import register_dataset
from myodistill.datasets.synthetic import Synthetic
from myodistill.deploy.targets import register_exporter
from myodistill.models.registry import register_model
from myodistill.signals.augmentation import register_augmentation
from myodistill.training.losses import register_loss, soft_target

@register_dataset("few")
def few():
    return Synthetic(subjects=5, seconds=0.5, repetitions=2)

@register_model("mine", aliases=("Mine",))
def mine(spec):
    return nn.Sequential(nn.Flatten(), nn.Linear(spec.channels * spec.samples, spec.classes))

@register_loss("twice")
def twice(student, teacher, labels, temperature):
    return 2 * soft_target(student, teacher, labels, temperature)

@register_augmentation("hiss")
def hiss(windows, generator, strength):
    return windows + strength * torch.randn(windows.shape, generator=generator)

@register_exporter("names")
def names(bundle, out, *, windows, step, rule):
    """The names of the gestures."""
    out.write_text("\\n".join(bundle.spec.gestures))
'''
EVERY = ((MODELS, "mine"), (LOSSES, "twice"), (AUGMENTATIONS, "hiss"), (EXPORTERS, "names"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture(autouse=True)
def _unload() -> object:
    before = dict(plugins._loaded)
    yield
    for name in set(plugins._loaded) - set(before):
        for registry in plugins._registries:
            registry.forget(name)
        del plugins._loaded[name]
    return None


def test_one_file_adds_to_every_registry(mine: Path) -> None:
    load_plugins([str(mine)])
    load_plugins([str(mine)])  # once
    assert all(name in registry for registry, name in (*EVERY, (DATASETS, "few")))
    assert MODELS.look_up("Mine") is MODELS["mine"]
    assert MODELS.plugin("Mine") == "mine.py"
    assert MODELS.plugin("cnn") == MODELS.source("cnn") == ""
    assert len({registry.source(name) for registry, name in EVERY}) == 1
    assert plugin_of(EVERY) == "mine.py"


def test_a_failed_plugin_leaves_nothing_and_may_be_mended(mine: Path) -> None:
    mine.write_text(MINE + "\n1 / 0\n")
    with pytest.raises(PluginError, match=r"to be importable, got ZeroDivisionError: division"):
        load_plugins([str(mine)])
    assert not any(name in registry for registry, name in EVERY)
    mine.write_text(MINE)
    load_plugins([str(mine)])
    assert "mine" in MODELS


def test_a_package_that_failed_registers_when_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "odd_package"
    package.mkdir()
    (package / "parts.py").write_text(MINE)
    (package / "__init__.py").write_text("import odd_package.parts\nraise SystemExit(3)\n")
    with pytest.raises(PluginError, match="got SystemExit: 3"):
        load_plugins(["odd_package"])
    assert "mine" not in MODELS
    (package / "__init__.py").write_text("import odd_package.parts\n")
    load_plugins(["odd_package"])
    assert MODELS.plugin("mine") == "odd_package"


@pytest.mark.parametrize("name", ["absent.py", "no.such.module", "x\ny.py"])
def test_a_plugin_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(PluginError) as caught:
        load_plugins([name])
    assert "\n" not in str(caught.value)


def test_names_are_taken_once() -> None:
    with pytest.raises(ModelError, match="'cnn' is registered already"):
        register_model("new", aliases=("cnn",))(lambda spec: torch.nn.Identity())
    assert "new" not in MODELS
    for name in FEATURE_LOSSES:
        with pytest.raises(SettingsError, match="is registered already"):
            register_loss(name)(LOSSES["dist"])
    registry: Registry[int] = Registry("thing", SettingsError)
    registry.register("one", 1, aliases=("uno",))
    assert (list(registry), registry["uno"], registry.get("two")) == (["one"], 1, None)
    del registry["one"]
    assert "uno" not in registry


def test_the_source_is_part_of_the_hash(tmp_path: Path) -> None:
    sources = []
    for place, text in enumerate((MINE, MINE.replace("2 *", "3 *"))):
        path = tmp_path / str(place) / "mine.py"
        path.parent.mkdir()
        path.write_text(text)
        load_plugins([str(path)])
        sources.append(LOSSES.source("twice"))
        for registry in plugins._registries:
            registry.forget(str(path))
    assert len(set(sources)) == 2
    assert "" not in sources


@pytest.mark.parametrize("value", ["student", "5", "student.sum() / 0 * 'x'"])
def test_a_loss_that_gives_no_scalar_is_refused_before_the_run(mine: Path, value: str) -> None:
    mine.write_text(MINE.replace("2 * soft_target(student, teacher, labels, temperature)", value))
    load_plugins([str(mine)])
    with pytest.raises(SettingsError, match="loss twice: expected a scalar with a gradient, got"):
        require_loss("twice", 5)


def test_an_augmentation_repeats_a_view_in_any_company(mine: Path) -> None:
    load_plugins([str(mine)])
    settings = Augmentation.model_validate({"extra": "hiss=0.5"})
    augment = Augmenter(settings, ring(4), 200.0, seed=1)
    windows, indices = torch.zeros(6, 4, 20), torch.arange(6)
    every = augment(windows, indices, view=2)
    assert torch.equal(augment(windows[3:4], indices[3:4], view=2)[0], every[3])
    assert not torch.equal(augment(windows, indices, view=3), every)
    assert every.std() == pytest.approx(0.5, rel=0.2)
    assert len({tuple(window.flatten().tolist()) for window in every}) == 6


def myodistill(
    folder: Path, *words: str, site: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from myodistill.cli.main import main; main()", *words]
    environment = {**os.environ, "COLUMNS": "80"}
    if site is not None:
        paths = filter(None, (str(site), os.environ.get("PYTHONPATH")))
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_a_plugin_goes_from_training_in_two_processes_to_a_target(
    mine: Path, tmp_path: Path
) -> None:
    brief = [f"--{s}.num-epochs=1" for s in ("pretrain", "pretrain-student", "finetune", "distill")]
    words = ["--dataset", "few", "--fold", "1", "--k", "1", "--processes", "2", "--out", "run"]
    words += ["--teacher-model", "population", "--student-model", "mine", "--loss", "twice"]
    plugin = ["--plugin", "mine.py"]
    refused = myodistill(tmp_path, "run", *words, *brief)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    done = myodistill(tmp_path, "run", *words, *brief, *plugin)
    assert done.returncode == 0, done.stderr
    assert "student, distilled · mine, twice" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.split("results:")[0].splitlines())) <= 80
    assert "mine, twice" in (tmp_path / "run" / "report.html").read_text()
    bundle = next((tmp_path / "run").glob("fold-1/*/*/k-1/pretrained_distilled-mine-twice"))
    assert json.loads((bundle / "bundle.json").read_text())["origin"]["plugin"] == "mine.py"
    line = myodistill(tmp_path, "export", str(bundle), "--to", "onnx").stderr
    assert "needs plug-in mine.py: pass --plugin mine.py or install it" in line
    assert myodistill(tmp_path, "export", str(bundle), "--to", "onnx", *plugin).returncode == 0
    assert (bundle / "decoder.onnx").is_file()
    assert myodistill(tmp_path, "export", str(bundle), "--to", "names", *plugin).returncode == 0
    assert (bundle / "names").read_text().startswith("rest\n")
    np.save(tmp_path / "take.npy", np.random.default_rng(0).normal(size=(400, 8)))
    said = myodistill(tmp_path, "decode", str(bundle), "--source", "replay:take.npy", *plugin)
    first = json.loads(said.stdout.splitlines()[0])
    assert set(first) == {"sample", "seconds", "gesture", "confidence"}
    line = myodistill(tmp_path, "baseline", "svm-log-covariance", "--out", "run").stderr
    assert "the run there needs plug-in mine.py: pass --plugin mine.py" in line


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    """As pip would lay it out: a package, and beside it what names its entry point."""
    site = tmp_path / "site-packages"
    info = site / "emg_extras-1.0.dist-info"
    (site / "emg_extras").mkdir(parents=True)
    info.mkdir()
    (site / "emg_extras" / "__init__.py").write_text(MINE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: emg-extras\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nextras = emg_extras\n")
    words = ["models", "mine", "--geometry", "myo", "--format", "csv"]
    assert "unknown model 'mine'" in myodistill(tmp_path, *words).stderr
    listed = myodistill(tmp_path, *words, site=site)
    assert listed.returncode == 0, listed.stderr
    assert [line.split(",")[1] for line in listed.stdout.splitlines()] == ["model", "mine"]
    assert (
        "names: The names of the gestures." in myodistill(tmp_path, "exporters", site=site).stdout
    )


def test_a_search_loads_the_plugins_of_its_settings(mine: Path, tmp_path: Path) -> None:
    values = {"plugin": str(mine), "student_model": "mine", "fold": 1, "k": 0, "out": tmp_path}
    with pytest.raises(SettingsError, match="k: expected 1 or more to tune for"):
        tune(Settings.load(values))
    assert "mine" in MODELS


def test_plugins_are_settings() -> None:
    assert Settings.load({"plugin": "a.py, b.c"}).plugin == ("a.py", "b.c")
    with pytest.raises(ModelError, match="unknown model"):
        build("mine", None)  # type: ignore[arg-type]
