"""MyoDistill: many people's muscle recordings in, a tiny gesture decoder for one person out.

Everything in ``__all__`` is the public interface; each name is imported when it is first used, so
that ``import myodistill`` takes no time.

Example:
    >>> import myodistill as md
    >>> md.run("synthetic", out="runs/first", k=[1]).report()       # a whole experiment
    >>> people = md.pretrain("3dc", out="populations/3dc")          # once
    >>> bundle = md.calibrate(people, recordings, k=4)              # for each person
    >>> md.Decoder.from_bundle(bundle).push(samples)                # in use
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from myodistill.api import export as export
    from myodistill.api import load_dataset as load_dataset
    from myodistill.api import run as run
    from myodistill.bundle import Bundle as Bundle
    from myodistill.datasets.recording import Annotation as Annotation
    from myodistill.datasets.recording import Electrodes as Electrodes
    from myodistill.datasets.recording import Recording as Recording
    from myodistill.datasets.recording import grid as grid
    from myodistill.datasets.recording import ring as ring
    from myodistill.distillation.calibration import calibrate as calibrate
    from myodistill.distillation.calibration import recalibrate as recalibrate
    from myodistill.distillation.population import Population as Population
    from myodistill.distillation.population import pretrain as pretrain
    from myodistill.errors import MyoDistillError as MyoDistillError
    from myodistill.estimators import DistilledClassifier as DistilledClassifier
    from myodistill.estimators import EMGClassifier as EMGClassifier
    from myodistill.realtime.decoder import Decoder as Decoder

_MODULES = {
    "load_dataset": "api",
    "run": "api",
    "pretrain": "distillation.population",
    "calibrate": "distillation.calibration",
    "recalibrate": "distillation.calibration",
    "export": "api",
    "Population": "distillation.population",
    "Bundle": "bundle",
    "Decoder": "realtime.decoder",
    "EMGClassifier": "estimators",
    "DistilledClassifier": "estimators",
    "Recording": "datasets.recording",
    "Annotation": "datasets.recording",
    "Electrodes": "datasets.recording",
    "ring": "datasets.recording",
    "grid": "datasets.recording",
    "MyoDistillError": "errors",
    "register_model": "models.registry",
    "register_dataset": "datasets.registry",
    "register_loss": "training.losses",
    "register_augmentation": "signals.augmentation",
    "register_exporter": "deploy.targets",
    "register_source": "realtime.sources",
}
"""The module below ``myodistill`` that defines each public name."""

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'myodistill' has no attribute {name!r}")
    value = getattr(import_module(f"myodistill.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
