"""Commands from dataclasses: an option is declared once, as a field, and reaches its command as an attribute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import Parameter, Signature, get_annotations
from typing import Any, Final, TypeVar, get_type_hints

import typer

F = TypeVar("F")

#: The groups of options in a command's help, in their order; before them comes what is in none.
PANELS: Final = ("The video", "Many videos", "The transfer", "The service", "Output")

#: What typer raises for wrong arguments; it has a public name only for its subclass.
UsageError: type[typer.TyperException] = typer.BadParameter.__mro__[1]


def usage_error(message: str) -> Exception:
    """Wrong arguments: exit code 2, and a pointer to the help."""
    return UsageError(message)


def option(*names: str, panel: str | None = None, **settings: Any) -> Any:
    """An option of a command, as the annotation of a field; without names it is called as the field is."""
    return typer.Option(*names, rich_help_panel=panel, show_default=False, **settings)


def argument(**settings: Any) -> Any:
    """An argument of a command, as the annotation of a field."""
    return typer.Argument(show_default=False, **settings)


def command(
    app: typer.Typer, flags: type[F], *, name: str | None = None
) -> Callable[[Callable[[F], int | None]], Callable[[F], int | None]]:
    """Make a function that takes a ``flags`` (a dataclass), and may return an exit code, a command of ``app``."""

    def register(function: Callable[[F], int | None]) -> Callable[[F], int | None]:
        def call(**values: Any) -> int | None:
            return function(flags(**values))

        call.__doc__ = function.__doc__
        call.__dict__["__signature__"] = _signature(flags)
        app.command(name or function.__name__)(call)
        return function

    return register


def _signature(flags: type) -> Signature:
    hints = get_type_hints(flags, include_extras=True)
    defaults = {field.name: field.default for field in fields(flags)}
    # A class's own fields come before those that it inherits: so they are in the order of the help, too.
    names = dict.fromkeys(name for kind in flags.__mro__ for name in get_annotations(kind))
    ordered = sorted(names, key=lambda name: _panel_number(hints[name]))
    return Signature([_parameter(name, hints[name], defaults[name]) for name in ordered])


def _panel_number(annotation: Any) -> int:
    panel = annotation.__metadata__[0].rich_help_panel
    return -1 if panel is None else PANELS.index(panel)


def _parameter(name: str, annotation: Any, default: Any) -> Parameter:
    default = Parameter.empty if default is MISSING else default
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
