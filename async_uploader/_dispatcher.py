"""Tells listeners what happens; costs nothing where nobody listens."""

from __future__ import annotations

from itertools import count
from typing import Final

import anyio
from msgspec.structs import replace

from . import events
from ._errors import ApiError, UploadFailed
from ._outcome import Outcome
from ._plan import Part

_numbers: Final = count(1)


class EventDispatcher:
    """Tells one upload's events."""

    def __init__(self, source: str, on_event: events.OnEvent | None) -> None:
        self._listeners = [*events.LISTENERS, *([on_event] if on_event else ())]
        self._upload = next(_numbers)
        self._source = source

    def tell(self, event: events.UploadEvent) -> None:
        """Tell who listens; when, and of which upload, is added here."""
        if self._listeners:
            told = replace(event, upload=self._upload, source=self._source, at_seconds=anyio.current_time())
            failures = [_failure(listener, told) for listener in self._listeners]
            for failure in filter(None, failures):
                raise failure


def _failure(listener: events.OnEvent, event: events.UploadEvent) -> Exception | None:
    try:
        listener(event)
    except Exception as exc:  # noqa: BLE001 - raised once the other listeners know, too
        return exc
    return None


def error_type(error: BaseException) -> str:
    """An error in a word: the service's status, or its class's name; an UploadFailed has its cause's."""
    if isinstance(error, UploadFailed) and error.__cause__ is not None:
        return error_type(error.__cause__)
    return str(error.status) if isinstance(error, ApiError) else type(error).__name__


class Attempt:
    """One attempt to send a part.

    :ivar connection: the local port that it goes out from, once that is known
    :ivar sent_bytes: bytes of the part that have left, those that were taken back included
    """

    def __init__(self, teller: EventDispatcher, part: Part, number: int) -> None:
        self._teller = teller
        self._part = part
        self._number = number
        self._began_at: float | None = None
        self.connection: int | None = None
        self.sent_bytes = 0

    def begins(self) -> None:
        """Its turn has come."""
        self._began_at = anyio.current_time()
        self._teller.tell(
            events.PartBegan(part_number=self._part.number, size_bytes=self._part.size_bytes, attempt=self._number)
        )

    def sent(self, count_bytes: int) -> None:
        """So many more bytes have left; below 0, what had left before comes to nothing."""
        self.sent_bytes += max(count_bytes, 0)

    def ended(self, verdict: Outcome | None, error: BaseException | None = None) -> None:
        """What it has come to; None if it was cancelled. Nothing, if its turn never came."""
        if self._began_at is None:
            return
        self._teller.tell(
            events.PartEnded(
                part_number=self._part.number,
                size_bytes=self._part.size_bytes,
                attempt=self._number,
                began_at_seconds=self._began_at,
                connection=self.connection,
                outcome="cancelled" if verdict is None else verdict.name.lower().replace("_", " "),
                error=str(error) if verdict is not None and error is not None else None,
                error_type=error_type(error) if verdict is not None and error is not None else None,
                sent_bytes=self.sent_bytes,
            )
        )
