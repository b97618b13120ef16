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
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from myodistill.errors import MyoDistillError, PluginError, one_line, shown, unknown_name
from myodistill.files import plain_name

GROUP = "myodistill.plugins"
"""The entry-point group of installed plug-ins."""

T = TypeVar("T")
U = TypeVar("U")

_loaded: dict[str, str] = {}
"""The plug-ins that are loaded, by path or module, each with the hash of its source."""

_loading: list[str] = [""]
"""The plug-in that is being imported, last; empty for the package itself."""

_registries: list[Registry[Any]] = []


class Registry(MutableMapping[str, T], Generic[T]):
    """Objects of one kind by name, each with the plug-in that it came from.

    As a mapping it works like a ``dict``, without checks; :meth:`register` and :meth:`look_up`
    raise a one-line error. Aliases can be looked up but are not listed.

    Args:
        kind: What they are, for messages: ``"model"``.
        error: Raised for names that are unknown, taken or not plain.
        reserved: Names that are already in use.
    """

    def __init__(
        self, kind: str, error: type[MyoDistillError], reserved: Sequence[str] = ()
    ) -> None:
        self.kind = kind
        self._error = error
        self._reserved = frozenset(reserved)
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}
        self._plugins: dict[str, str] = {}
        _registries.append(self)

    def register(self, name: str, thing: T, *, aliases: Sequence[str] = ()) -> None:
        """Add something under a new name, and other names that it goes by.

        Raises:
            MyoDistillError: A name is taken or is not one plain word.
        """
        for new in (name, *aliases):
            plain_name(self.kind, new, self._error)
            if new in self or new in self._reserved:
                raise self._error(
                    f"{self.kind}: expected a new name, {shown(new)} is registered already"
                )
        self._entries[name] = thing
        self._aliases.update(dict.fromkeys(aliases, name))
        self._plugins[name] = _loading[-1]

    def registering(self, name: str) -> Callable[[U], U]:
        """Return the decorator that adds what it decorates under ``name``."""

        def add(thing: U) -> U:
            self.register(name, thing)  # type: ignore[arg-type]  # keeps the type of a class
            return thing

        return add

    def look_up(self, name: str) -> T:
        """Return the object of a name or alias.

        Raises:
            MyoDistillError: The name is unknown; the message suggests the nearest.
        """
        if name not in self:
            raise self._error(unknown_name(self.kind, name, self))
        return self[name]

    def plugin(self, name: str) -> str:
        """Return how ``--plugin`` names where ``name`` came from; empty for the package's own."""
        return _shown_as(self._plugins.get(self._aliases.get(name, name), ""))

    def source(self, name: str) -> str:
        """Return the hash of the plug-in that ``name`` came from; empty for the package's own."""
        return _loaded.get(self._plugins.get(self._aliases.get(name, name), ""), "")

    def forget(self, plugin: str) -> None:
        """Take out what a plug-in added before it failed."""
        for name in [name for name, origin in self._plugins.items() if origin == plugin]:
            del self[name]

    def __getitem__(self, name: str) -> T:
        return self._entries[self._aliases.get(name, name)]

    def __setitem__(self, name: str, thing: T) -> None:
        self._entries[name] = thing

    def __delitem__(self, name: str) -> None:
        del self._entries[name]
        self._plugins.pop(name, None)
        self._aliases = {alias: of for alias, of in self._aliases.items() if of != name}

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

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
        _load(point.module, partial(importlib.import_module, point.module))
    for name in names:
        path = Path(name).expanduser()
        if path.suffix == ".py":
            _load(str(path.resolve()), partial(_import_file, path))
        else:
            _load(name, partial(importlib.import_module, name))


def loaded_plugins() -> dict[str, str]:
    """Return the plug-ins that are loaded, as paths or modules, with the hashes of their source."""
    return dict(_loaded)


def plugin_of(named: Iterable[tuple[Registry[Any], str]]) -> str:
    """Return the ``--plugin`` value that makes some names known; empty for the package's own."""
    return ",".join(sorted({registry.plugin(name) for registry, name in named} - {""}))


@contextmanager
def foreign_code(what: str, expected: str, error: type[MyoDistillError]) -> Iterator[None]:
    """Turn whatever the code of a plug-in raises in the block into one line.

    Args:
        what: What is called: ``"loss mine"``.
        expected: Noun phrase: ``"a scalar for logits of 4 windows"``.
        error: Raised.
    """
    try:
        yield
    except MyoDistillError:
        raise
    except Exception as problem:  # whatever its author's code raises
        raise error(
            f"{what}: expected {expected}, got {type(problem).__name__}: "
            f"{one_line(str(problem), 80)}; mend it"
        ) from problem


def _load(name: str, import_it: Callable[[], ModuleType]) -> None:
    if name in _loaded:
        return
    before = set(sys.modules)
    _loading.append(name)
    try:
        module = import_it()
        _loaded[name] = _hash(module)
    except BaseException as error:
        for registry in _registries:
            registry.forget(name)
        for new in set(sys.modules) - before:  # or the next import would register nothing
            if new == name or new.startswith(f"{name}."):
                del sys.modules[new]
        if isinstance(error, MyoDistillError):
            raise PluginError(f"plugin {shown(name)}: {error}") from error
        if not isinstance(error, Exception | SystemExit):
            raise
        raise PluginError(
            f"plugin: expected {shown(name)} to be importable, got "
            f"{type(error).__name__}: {one_line(str(error), 80)}; mend it or leave it out"
        ) from error
    finally:
        _loading.pop()


def _shown_as(plugin: str) -> str:
    """A file by its name alone, so that no message reveals where it lies."""
    return Path(plugin).name if plugin.endswith(".py") else plugin


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
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:16]
