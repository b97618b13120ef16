"""How the report is typeset: templates, and numbers as they are written in prose."""

from __future__ import annotations

import math
from importlib import resources

from jinja2 import Environment, StrictUndefined


def template(name: str) -> str:
    """Return the text of a file of the report's templates."""
    folder = resources.files("myodistill.reporting") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Return the template engine: it escapes what came from a file and refuses unknown names."""
    engine = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters |= {
        "number": number,
        "signed": signed,
        "p": _p,
        "p_in_words": lambda p: _p(p) if p < 0.001 else f"= {_p(p)}",
    }
    return engine


def number(value: float, digits: int = 1) -> str:
    """Write a number with a true minus; what rounds to zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 1) -> str:
    """Write a number with its sign; what rounds to zero has none."""
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
