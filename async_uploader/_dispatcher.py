"""Dispatches the events of an upload to its listeners."""

from __future__ import annotations

from itertools import count
from typing import Final

from msgspec.structs import replace

from . import events
from ._clock import current_time

_upload_numbers: Final = count(1)


class EventDispatcher:
    """Dispatches the events of one upload, in order and synchronously.

    :param source: the source's name
    :param on_event: the upload's own listener, in addition to those of :func:`.events.listen`
    :ivar is_measured: whether a listener asks what bounds the upload
    """

    def __init__(self, source: str, on_event: events.OnEvent | None) -> None:
        self._listeners = [*events.LISTENERS, *([on_event] if on_event else ())]
        self.is_measured: bool = bool(events.MEASURING)
        self._upload = next(_upload_numbers)
        self._source = source

    def add(self, listener: events.OnEvent) -> None:
        """Add a listener, which is called before the others."""
        self._listeners.insert(0, listener)

    def emit(self, event: events.UploadEvent) -> None:
        """Call every listener with the event, to which the upload's number, the source and the time are added.

        :raises Exception: a listener raised it; the other listeners were called nevertheless
        """
        if self._listeners:
            self.forward(event, at_seconds=current_time())

    def forward(self, event: events.UploadEvent, *, at_seconds: float) -> None:
        """Like :meth:`emit`, for an event that happened before.

        :param at_seconds: when it happened, by the clock of the event loop
        """
        if self._listeners:
            completed = replace(event, upload=self._upload, source=self._source, at_seconds=at_seconds)
            failures = [_call(listener, completed) for listener in self._listeners]
            for failure in filter(None, failures):
                raise failure


def _call(listener: events.OnEvent, event: events.UploadEvent) -> Exception | None:
    try:
        listener(event)
    except Exception as exc:  # noqa: BLE001 - raised by emit() after every listener was called
        return exc
    return None
