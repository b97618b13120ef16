"""Commands and their flags: every flag of a run is a field of the settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from myodistill.config import Settings, read_settings
from myodistill.errors import SettingsError, Wanted, shown
from myodistill.plugins import load_plugins
from myodistill.readers import read_json

_PLUGIN = "plug-ins to load: .py files, or modules that can be imported"
_SETTINGS = Wanted("the settings of a run", SettingsError, "choose another folder with --out")
_SECTIONS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
)


class Command(click.Command):
    """A command that loads plug-ins; its flags take underscores or hyphens."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.context_settings = {
            "token_normalize_func": lambda token: token.replace("_", "-"),
            "max_content_width": 100,
            **self.context_settings,
        }
        if not any(parameter.name == "plugin" for parameter in self.params):
            self.params.append(
                click.Option(
                    ["--plugin"],
                    multiple=True,
                    metavar="NAME",
                    help=_PLUGIN,
                    expose_value=False,
                    callback=lambda context, option, names: load_plugins(
                        [part.strip() for name in names for part in name.split(",") if part.strip()]
                    ),
                )
            )


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are used."""
        return list(self.commands)


def settings_command(
    group: click.Group,
    name: str,
    *,
    section: str = "",
    with_stages: bool = False,
    rename: Mapping[str, str] | None = None,
    argument: str = "",
    defaults: Mapping[str, Any] | None = None,
    options: Sequence[click.Option] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function of the settings as a command that takes them as flags.

    Args:
        group: Where the command goes.
        name: Of the command.
        section: The stage whose options lose their prefix here: ``pretrain --num-epochs`` is
            ``run --pretrain.num-epochs``.
        with_stages: Take the options of the other stages, too, under their long names.
        rename: Other flag names for some options, as the published method calls them.
        argument: An option that becomes a positional argument. Such a command adds to a run:
            options that are not given are taken from the settings of the run in ``--out``.
        defaults: What some options are here where nothing is said of them.
        options: Others than the settings', or in their place; the function takes them by name.
    """
    fields = dict(_fields("" if with_stages else section))
    others = {option.name for option in options if option.name}
    fields = {key: field for key, field in fields.items() if key not in others}
    for key, value in (defaults or {}).items():
        fields[key] = copy(fields[key])
        fields[key].default = value
    variables = {key: key.replace(".", "__") for key in fields}

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def call(config: Path | None, **given: Any) -> None:
            flags = {key: _joined(given[variables[key]]) for key in fields}
            values = dict(defaults or {})
            values |= read_settings(config) if config is not None else {}
            if argument and config is None and flags["out"] is not None:
                values = _of_run(Path(str(flags["out"])), flags["plugin"])
            for key, value in flags.items():
                if value is not None:
                    put(values, key, value)
            settings = Settings.load(values)
            load_plugins(settings.plugin)
            function(settings, **{name: given[name] for name in others})

        parameters: list[click.Parameter] = [
            click.Option(
                ["--config"], type=click.Path(path_type=Path), help="YAML file; flags override it"
            ),
            *options,
        ]
        for key, field in fields.items():
            flag = (rename or {}).get(key, key.removeprefix(f"{section}."))
            if key == argument:
                parameters.append(click.Argument([variables[key]], metavar=flag.upper()))
            else:
                parameters.append(_option(variables[key], flag, key, field))
        help_text = inspect.getdoc(function)
        group.add_command(Command(name, params=parameters, callback=call, help=help_text))
        return function

    return register


def put(values: dict[str, Any], key: str, value: object) -> None:
    """Store the value of a flag in settings, replacing any alias of it there.

    Raises:
        SettingsError: A section of the settings holds something else.
    """
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise SettingsError(f"{part}: expected options below it, got {shown(values)}")
    for alias in _aliases(Settings.model_fields.get(key)):
        values.pop(alias, None)
    values[last] = value


def _fields(section: str) -> Iterator[tuple[str, FieldInfo]]:
    """Yield options by dotted name: all of the run, or with those of one stage only."""
    for name, field in Settings.model_fields.items():
        if name not in _SECTIONS:
            yield name, field
    for name in _SECTIONS:
        if section in ("", name):
            stage: Any = Settings.model_fields[name].annotation
            for key, field in stage.model_fields.items():
                yield f"{name}.{key}", field


def _option(variable: str, flag: str, key: str, field: FieldInfo) -> click.Option:
    """Return the flag of a field; its value is validated with the rest of the settings."""
    names = [flag, *(alias for alias in _aliases(field) if alias != key)]
    flags = [f"--{name.replace('_', '-')}" for name in names]
    shape: dict[str, Any] = {"metavar": _metavar(field.annotation)}
    if bool in (field.annotation, *get_args(field.annotation)):
        flags = [f"{name}/--no-{name.removeprefix('--')}" for name in flags]
        shape = {"is_flag": True}
    elif get_origin(field.annotation) is tuple and field.default is not None:
        shape["multiple"] = True
    default = field.default
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    if isinstance(default, bool):
        text = flags[0].split("/")[not default].removeprefix("--")
    told = f" [default: {text}]" if default not in ((), None) else ""
    return click.Option(
        [variable, *flags], default=None, help=f"{field.description}{told}", **shape
    )


def _aliases(field: FieldInfo | None) -> list[str]:
    alias = field.validation_alias if field is not None else None
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []


def _metavar(annotation: Any) -> str:
    """Return the choices of a field, or the kind of its value."""
    kinds = [one for part in (annotation, *get_args(annotation)) for one in (part, *get_args(part))]
    choices = [one for one in kinds if isinstance(one, str)]
    for kind, word in ((tuple, "LIST"), (int, "INTEGER"), (float, "NUMBER"), (Path, "PATH")):
        if kind in (annotation, get_origin(annotation), *get_args(annotation)):
            return "|".join(dict.fromkeys((word, *choices))) if kind is not tuple else word
    return "|".join(dict.fromkeys(choices)) or "TEXT"


def _joined(value: object) -> object:
    """Join the values of a flag that may be repeated; None if it was not given."""
    return (",".join(value) or None) if isinstance(value, tuple) else value


def _of_run(folder: Path, plugin: object) -> dict[str, Any]:
    """Return the settings of a run, none if there is no run; its plug-ins only if they are named.

    Raises:
        SettingsError: The run needs plug-ins and none is named: a file must not load code.
    """
    path = folder / "settings.json"
    if not path.exists():
        return {}
    values = read_json(path, _SETTINGS) | {"baseline": ()}
    needed = values.pop("plugin", ())
    if needed and not plugin:
        name = shown(needed[0] if isinstance(needed, list) else needed).strip("'\"")
        raise SettingsError(f"out: the run there needs plug-in {name}: pass --plugin {name}")
    return values
