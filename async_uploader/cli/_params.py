"""Commands from dataclasses: an option is declared once, as a field, and reaches its command as an attribute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from inspect import cleandoc, get_annotations
from pathlib import Path
from types import NoneType
from typing import Any, Final, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

import click

F = TypeVar("F")

#: The groups of options in a command's help, in their order; before them comes what is in none.
PANELS: Final = ("The video", "Many videos", "The transfer", "The service", "Output")

UsageError = click.UsageError


@dataclass_transform(kw_only_default=True, frozen_default=True)
def flags(cls: type[F]) -> type[F]:
    """A dataclass for :func:`command`, with an ``__init__`` and nothing else.

    To write the other methods of fifteen such classes would take 20 ms of every start.
    """
    return dataclass(kw_only=True, eq=False, repr=False, match_args=False)(cls)


def usage_error(message: str) -> UsageError:
    """Wrong arguments: exit code 2, and a pointer to the help."""
    return UsageError(message)


@dataclass(frozen=True, kw_only=True)
class _Param:
    """How a field is written on the command line."""

    names: tuple[str, ...] = ()
    is_argument: bool = False
    panel: str | None = None
    parser: Callable[[str], object] | None = None
    min: int | None = None
    max: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def option(
    *names: str,
    panel: str | None = None,
    parser: Callable[[str], object] | None = None,
    min: int | None = None,  # noqa: A002 - click's word
    max: int | None = None,  # noqa: A002
    **settings: Any,
) -> Any:
    """An option of a command, as the annotation of a field; without names it is called as the field is.

    :param panel: one of :data:`PANELS`
    :param parser: makes the value of what is written; a ``ValueError`` has the sentence that the user reads
    :param min: the least whole number
    :param max: the greatest one
    :param settings: click's own, as ``help`` and ``metavar``
    """
    return _Param(names=names, panel=panel, parser=parser, min=min, max=max, settings=settings)


def argument(**settings: Any) -> Any:
    """An argument of a command, as the annotation of a field."""
    return _Param(is_argument=True, settings=settings)


class Command(click.Command):
    """A command whose help has its options in groups.

    :param flags: the dataclass that it is made from, when it is called and not before: a start needs one of ten
    """

    def __init__(self, name: str, *, flags: type, **settings: Any) -> None:
        self._flags = flags
        super().__init__(name, **settings)

    @cached_property
    def _made(self) -> list[click.Parameter]:
        return _params(self._flags)

    @property
    def params(self) -> list[click.Parameter]:
        """All options and arguments."""
        return self._made

    @params.setter
    def params(self, _: list[click.Parameter]) -> None:
        """click's own constructor has none to give."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The groups in the order of :data:`PANELS`."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (row := param.get_help_record(ctx)) is not None:
                rows.setdefault(getattr(param, "panel", None) or "Options", []).append(row)
        for title in ("Options", *PANELS):
            if title in rows:
                with formatter.section(click.style(title, bold=True)):
                    formatter.write_dl(rows[title])


class _Option(click.Option):
    panel: str | None = None


class _Parsed(click.ParamType[object]):
    """A value that a function of ours makes, with a sentence of its own for what it cannot."""

    name = "text"

    def __init__(self, parser: Callable[[str], object]) -> None:
        self._parser = parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._parser(value) if isinstance(value, str) else value
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


def command(
    group: click.Group, flags: type[F], *, name: str | None = None, examples: str | None = None
) -> Callable[[Callable[[F], int | None]], Callable[[F], int | None]]:
    """Make a function a command of ``group``: it takes a ``flags``, a dataclass, and may return an exit code.

    :param examples: what stands at the end of its help
    """

    def register(function: Callable[[F], int | None]) -> Callable[[F], int | None]:
        group.add_command(
            Command(
                name or function.__name__,
                flags=flags,
                callback=lambda **values: function(
                    flags(**{name: _given(value) for name, value in values.items()})
                ),
                help=cleandoc(function.__doc__ or ""),
                epilog=examples,
            )
        )
        return function

    return register


def _given(value: object) -> object:
    """What was not given is None, of lists as of everything else."""
    return (list(value) or None) if isinstance(value, tuple) else value


def _params(flags: type) -> list[click.Parameter]:
    hints = get_type_hints(flags, include_extras=True)
    defaults = {field.name: field.default for field in fields(flags)}
    # A class's own fields come before those that it inherits: so they are in the order of the help, too.
    names = dict.fromkeys(name for kind in flags.__mro__ for name in get_annotations(kind))
    return [_param(name, hints[name], defaults[name]) for name in names]


def _param(name: str, annotation: Any, default: object) -> click.Parameter:
    spec: _Param = annotation.__metadata__[0]
    kind, is_list = _value_kind(annotation.__origin__)
    settings: dict[str, Any] = {**spec.settings, "type": _click_type(kind, spec)}
    if spec.is_argument:
        return click.Argument([name], required=default is MISSING, nargs=-1 if is_list else 1, **settings)
    names = spec.names or (f"--{name.replace('_', '-')}",)
    if kind is bool:
        settings |= {"is_flag": True, "type": None}
    option = _Option([*names, name], default=default, multiple=is_list, **settings)
    option.panel = spec.panel
    return option


def _value_kind(annotation: Any) -> tuple[Any, bool]:
    """``X | None`` is an X, ``list[X]`` are many."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType] or [annotation]
    if get_origin(annotation) is list:
        return get_args(annotation)[0], True
    return _value_kind(kinds[0]) if kinds[0] is not annotation else (annotation, False)


def _click_type(kind: Any, spec: _Param) -> Any:
    if spec.parser is not None:
        return _Parsed(spec.parser)
    if spec.min is not None or spec.max is not None:
        return click.IntRange(spec.min, spec.max)
    return click.Path(path_type=Path) if kind is Path else kind
