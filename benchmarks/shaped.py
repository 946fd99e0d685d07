"""A real TCP link with a limited rate as a target (:mod:`harness.shaped_link`)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from harness.shaped_link import ShapedLink

from .emulated import Emulated
from .targets import Address, Statistics


class Shaped:
    """An emulator, and its clients, in a network namespace.

    :param folder: where the emulator stores parts during a run
    :param link_rate: bytes per second
    """

    def __init__(self, folder: Path, *, link_rate: float) -> None:
        self._folder = folder
        self._link_rate = link_rate
        self._stack = ExitStack()
        self._emulated: Emulated | None = None

    def __enter__(self) -> Address:
        link = self._stack.enter_context(ShapedLink(self._link_rate))
        self._emulated = Emulated(self._folder)
        self._emulated.prefix = link.prefix
        return replace(self._stack.enter_context(self._emulated), prefix=tuple(link.prefix))

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def statistics(self) -> Statistics:
        """Bytes, connections and uploads that the emulator counted."""
        return self._emulated.statistics() if self._emulated is not None else {}
