"""One command per stage; every flag is made from the settings."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel
from rich.console import Console

from myodistill.config import Settings, make_settings, read_yaml
from myodistill.errors import MyoDistillError

app = typer.Typer(
    help="Many people's muscle recordings in, a tiny gesture decoder for one person out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
evaluate = typer.Typer(help="Score what was trained.", no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")

console = Console()

_SECTIONS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
)


def main() -> None:
    """Run the command line: exit code 2 and one line for what a user can mend."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except MyoDistillError as error:
        typer.echo(f"myodistill: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("myodistill: stopped; the same command goes on from here", err=True)
        raise SystemExit(130) from None


def command(
    group: typer.Typer, name: str, *, section: str = "", rename: dict[str, str] | None = None
) -> Callable[[Callable[[Settings], None]], Callable[[Settings], None]]:
    """Register a function of the settings as a command that takes them as flags.

    Args:
        group: Where the command goes.
        name: Of the command.
        section: The stage whose options lose their prefix here: ``pretrain --num-epochs`` is
            ``run --pretrain.num-epochs``.
        rename: Other flag names for some options, as the published method calls them.
    """
    options = _options(section)
    flags = {key: (rename or {}).get(key, key.removeprefix(f"{section}.")) for key in options}

    def register(function: Callable[[Settings], None]) -> Callable[[Settings], None]:
        def call(config: Path | None, **given: str | None) -> None:
            values = read_yaml(config) if config is not None else {}
            for key, text in zip(options, given.values(), strict=True):
                if text is not None:
                    _put(values, key, text)
            function(make_settings(values))

        parameters = [
            _parameter("config", Path, "--config", "YAML file of options; flags go before it")
        ]
        parameters += [
            _parameter(f"option_{place}", str, "--" + flags[key].replace("_", "-"), text)
            for place, (key, text) in enumerate(options.items())
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        group.command(
            name,
            help=inspect.getdoc(function),
            context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
        )(call)
        return function

    return register


def _parameter(name: str, kind: Any, flag: str, text: str) -> inspect.Parameter:
    metavar = "FILE" if kind is Path else "VALUE"
    option = typer.Option(flag, help=text, metavar=metavar, show_default=False)
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _options(section: str) -> dict[str, str]:
    """Help text by dotted option name: all of the run, or those of one stage."""
    options: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        if name not in _SECTIONS:
            options[name] = _help(field.description, field.default, field.annotation)
    for name in _SECTIONS:
        if section in ("", name):
            stage: Any = Settings.model_fields[name].annotation
            for key, field in stage.model_fields.items():
                options[f"{name}.{key}"] = _help(field.description, field.default, field.annotation)
    return options


def _help(description: str | None, default: object, annotation: Any) -> str:
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    allowed = [str(value) for value in get_args(annotation) if isinstance(value, str)]
    choices = f" ({', '.join(allowed)})" if allowed else ""
    return f"{description}{choices} [{shown or 'all'}]"


def _put(values: dict[str, Any], key: str, text: str) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = text


@command(app, "run")
def run(settings: Settings) -> None:
    """Do everything: pre-train, fine-tune, distill, evaluate, for chosen folds and subjects."""
    print(settings)


@command(app, "pretrain", section="pretrain", rename={"teacher_model": "model"})
def pretrain(settings: Settings) -> None:
    """Stage 1: train the teacher across the subjects that are not held out."""
    print(settings)
