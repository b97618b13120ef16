"""What can be added from outside: models, datasets, losses, augmentations, exporters, sources.

A plug-in is a Python file or an importable module that calls the ``register_*`` functions while it
is imported. Installed ones are found through the entry-point group ``myodistill.plugins``; others
are named by ``--plugin file.py`` or ``--plugin package.module``. Only the user names plug-ins: a
bundle says which one it needs, and never loads it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from myodistill.errors import MyoDistillError, PluginError, shown, unknown_name
from myodistill.files import plain_name

GROUP = "myodistill.plugins"
"""The entry-point group of installed plug-ins."""

T = TypeVar("T")

_loaded: dict[str, str] = {}
"""The plug-ins that are loaded, each with the hash of its source."""

_loading: list[str] = [""]
"""The plug-in that is being imported, last; empty for the package itself."""


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name, each with the plug-in that it came from.

    Args:
        kind: What they are, for messages: ``"model"``.
        error: Raised for names that are unknown, taken or not plain.
    """

    def __init__(self, kind: str, error: type[MyoDistillError]) -> None:
        self.kind = kind
        self._error = error
        self._entries: dict[str, T] = {}
        self._plugins: dict[str, str] = {}

    def register(self, name: str, thing: T) -> None:
        """Add something under a new name.

        Raises:
            MyoDistillError: The name is taken or is not one plain word.
        """
        plain_name(self.kind, name, self._error)
        if name in self._entries:
            raise self._error(
                f"{self.kind}: expected a new name, {shown(name)} is registered already"
            )
        self._entries[name] = thing
        self._plugins[name] = _loading[-1]

    def registering(self, name: str) -> Callable[[T], T]:
        """Return the decorator that adds what it decorates under ``name``."""

        def add(thing: T) -> T:
            self.register(name, thing)
            return thing

        return add

    def plugin(self, name: str) -> str:
        """Return the plug-in that ``name`` came from; empty for the package's own."""
        return self._plugins.get(name, "")

    def source(self, name: str) -> str:
        """Return the hash of the plug-in that ``name`` came from; empty for the package's own."""
        return _loaded.get(self.plugin(name), "")

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise self._error(unknown_name(self.kind, name, self._entries)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load_plugins(names: Sequence[str] = ()) -> None:
    """Import the installed plug-ins and those that are named; each is imported once.

    Args:
        names: Paths of ``.py`` files, or names of importable modules.

    Raises:
        PluginError: One of them is not there or fails while it is imported.
    """
    for point in entry_points(group=GROUP):
        _load(point.name, partial(importlib.import_module, point.module))
    for name in names:
        path = Path(name).expanduser()
        if path.suffix == ".py":
            _load(str(path.resolve()), partial(_import_file, path))
        else:
            _load(name, partial(importlib.import_module, name))


def loaded_plugins() -> dict[str, str]:
    """Return the plug-ins that are loaded, each with the hash of its source."""
    return dict(_loaded)


def _load(name: str, import_it: Callable[[], ModuleType]) -> None:
    if name in _loaded:
        return
    with _as_plugin(name):
        try:
            module = import_it()
        except MyoDistillError as error:
            raise PluginError(f"plugin {shown(name)}: {error}") from error
        except Exception as error:  # whatever its author's code raises
            raise PluginError(
                f"plugin: expected {shown(name)} to be importable, got "
                f"{type(error).__name__}: {shown(str(error))}; mend it or leave it out"
            ) from error
    _loaded[name] = _hash(module)


def _import_file(path: Path) -> ModuleType:
    name = f"myodistill_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError("there is no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _hash(module: ModuleType) -> str:
    """SHA-256 of a module's file, or of all Python files of a package."""
    path = Path(module.__file__ or "")
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    content = hashlib.sha256()
    for file in files:
        content.update(file.read_bytes())
    return content.hexdigest()[:16]


@contextmanager
def _as_plugin(name: str) -> Iterator[None]:
    _loading.append(name)
    try:
        yield
    finally:
        _loading.pop()
