"""Builds click commands from dataclasses: each option is declared once, as a field."""

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

#: The groups of options in the help of a command, in order. Options without a group come first.
PANELS: Final = ("The video", "Many videos", "The transfer", "The service", "Output")

UsageError = click.UsageError


@dataclass_transform(kw_only_default=True, frozen_default=True)
def flags(cls: type[F]) -> type[F]:
    """Make a class a dataclass for :func:`command`.

    It gets only an ``__init__``: generating the other methods of fifteen classes takes 20 ms at every start.
    The fields named in its attribute ``NOT_OFFERED`` are no options of the command, and keep their defaults.
    """
    return dataclass(kw_only=True, eq=False, repr=False, match_args=False)(cls)


def usage_error(message: str) -> UsageError:
    """An error in the arguments: exit code 2, and a hint to ``--help``."""
    return UsageError(message)


@dataclass(frozen=True, kw_only=True)
class _ParamSpec:
    """How a field appears on the command line."""

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
    """Annotate a field as an option.

    :param names: the option's names; default: the name of the field
    :param panel: its group, one of :data:`PANELS`; default: none
    :param parser: converts the text to a value; the message of its ``ValueError`` is shown to the user
    :param min: smallest integer allowed
    :param max: largest integer allowed
    :param settings: parameters of ``click.Option``, such as ``help`` and ``metavar``
    """
    return _ParamSpec(names=names, panel=panel, parser=parser, min=min, max=max, settings=settings)


def argument(**settings: Any) -> Any:
    """Annotate a field as an argument.

    :param settings: parameters of ``click.Argument``
    """
    return _ParamSpec(is_argument=True, settings=settings)


class _ShortHelpOption:
    """Mixin: the help of ``--help`` is a phrase, like that of the other options."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option: click.Option | None = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.help = "Print this help"
        return option


class Group(_ShortHelpOption, click.Group):
    """A group of commands."""


class Command(_ShortHelpOption, click.Command):
    """A command whose help shows its options in groups.

    Its parameters are created on first use: each start needs those of one command only.

    :param flags: the dataclass that declares the parameters
    """

    def __init__(self, name: str, *, flags: type, **settings: Any) -> None:
        self._flags = flags
        super().__init__(name, **settings)

    @cached_property
    def _created_params(self) -> list[click.Parameter]:
        return _create_params(self._flags)

    @property
    def params(self) -> list[click.Parameter]:
        """All options and arguments."""
        return self._created_params

    @params.setter
    def params(self, _: list[click.Parameter]) -> None:
        """Ignore the empty list that click's constructor sets."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Each error knows its command, for the hint to ``--help``."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as exc:
            exc.ctx = exc.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups in the order of :data:`PANELS`."""
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


class _ParsedType(click.ParamType[object]):
    """A parameter type that is defined by a parser function."""

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
    """Register a function as a command. It is called with an instance of ``flags``, and may return an exit code.

    :param flags: the dataclass that declares the parameters
    :param name: name of the command; default: the name of the function
    :param examples: text at the end of the help; default: none
    """

    def register(function: Callable[[F], int | None]) -> Callable[[F], int | None]:
        group.add_command(
            Command(
                name or function.__name__,
                flags=flags,
                callback=lambda **values: function(
                    flags(**{name: _none_if_empty(value) for name, value in values.items()})
                ),
                help=cleandoc(function.__doc__ or ""),
                epilog=examples,
            )
        )
        return function

    return register


def _none_if_empty(value: object) -> object:
    """Convert click's tuples to lists, and an option that was not given to None."""
    return (list(value) or None) if isinstance(value, tuple) else value


def _create_params(flags: type) -> list[click.Parameter]:
    hints = get_type_hints(flags, include_extras=True)
    defaults = {field.name: field.default for field in fields(flags)}
    # The help lists a class's own fields before those that it inherits.
    names = dict.fromkeys(name for kind in flags.__mro__ for name in get_annotations(kind))
    not_offered = getattr(flags, "NOT_OFFERED", ())
    return [_create_param(name, hints[name], defaults[name]) for name in names if name not in not_offered]


def _create_param(name: str, annotation: Any, default: object) -> click.Parameter:
    spec: _ParamSpec = annotation.__metadata__[0]
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
    """The type of one value, and whether there can be several: ``X | None`` is one X, ``list[X]`` is several."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType] or [annotation]
    if get_origin(annotation) is list:
        return get_args(annotation)[0], True
    return _value_kind(kinds[0]) if kinds[0] is not annotation else (annotation, False)


def _click_type(kind: Any, spec: _ParamSpec) -> Any:
    if spec.parser is not None:
        return _ParsedType(spec.parser)
    if spec.min is not None or spec.max is not None:
        return click.IntRange(spec.min, spec.max)
    return click.Path(path_type=Path) if kind is Path else kind
