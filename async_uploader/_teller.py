"""Tells listeners what happens; costs nothing where nobody listens."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Final

import anyio

from . import events
from ._outcome import Verdict
from ._plan import Part

_numbers: Final = count(1)


class Teller:
    """Tells one upload's events."""

    def __init__(self, source: str, on_event: events.OnEvent | None) -> None:
        self._listeners = [*events.LISTENERS, *([on_event] if on_event else ())]
        self._upload = next(_numbers)
        self._source = source

    def tell(self, event: events.UploadEvent) -> None:
        """Tell who listens; when, and of which upload, is added here."""
        if self._listeners:
            told = replace(event, upload=self._upload, source=self._source, at_seconds=anyio.current_time())
            for listener in self._listeners:
                listener(told)


class Attempt:
    """One attempt to send a part.

    :ivar connection: the local port that it goes out from, once that is known
    """

    def __init__(self, teller: Teller, part: Part, number: int) -> None:
        self._teller = teller
        self._part = part
        self._number = number
        self._began_at: float | None = None
        self.connection: int | None = None

    def begins(self) -> None:
        """Its turn has come."""
        self._began_at = anyio.current_time()
        self._teller.tell(
            events.PartBegan(part_number=self._part.number, size_bytes=self._part.size_bytes, attempt=self._number)
        )

    def ended(self, verdict: Verdict | None, error: BaseException | None = None) -> None:
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
            )
        )
