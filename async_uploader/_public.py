"""Names public classes after the module that users import them from."""

from __future__ import annotations

from typing import TypeVar

C = TypeVar("C", bound=type)


def public(cls: C) -> C:
    """Make tracebacks, ``repr()`` and pickles say ``async_uploader.Video``, not ``async_uploader._models.Video``.

    Apply it last (as the topmost decorator). String annotations are then evaluated in ``async_uploader``, which
    lacks most of the names: a public dataclass or struct is defined in a module without ``annotations`` from
    ``__future__``, or has annotations of built-in types alone.
    """
    cls.__module__ = "async_uploader"
    return cls
