"""What Ctrl-C says about uploads: how to resume them, or what became of them. Made of events, before a signal."""

from __future__ import annotations

from typing import Final

from async_uploader import events

from ._signals import advise

_DONE: Final = "everything was uploaded"
_RESUME: Final = "run the same command again to go on"
_STREAM: Final = "what came from standard input has to be sent anew"
_MAY_REMAIN: Final = "the unfinished video may remain; the service removes it after 7 days"
_DELETED: Final = "what had arrived was deleted"
_LOCAL: Final = "nothing of it can be resumed"
_AGAIN: Final = "the same command uploads finished videos again"
_IMPORTS: Final = "the same command imports URLs again"


class Interruption:
    """Keeps the advice of an interruption true; itself an ``on_event``.

    :param is_stream: standard input is uploaded
    :param is_local: the service ends with the command, and what it has with it
    :param has_imports: URLs are imported, and nobody remembers which
    """

    def __init__(self, *, is_stream: bool, is_local: bool, has_imports: bool) -> None:
        self._is_stream = is_stream
        self._is_local = is_local
        self._has_imports = has_imports
        self._is_resumable = self._is_finished = False
        self._filling: set[int] = set()
        self._advices: dict[str, None] = {}

    def __call__(self, event: events.UploadEvent) -> None:
        match event:
            case events.ContainerReady():
                self._filling.add(event.upload)
                self._is_resumable |= event.resumable
            case events.UploadEnded():
                self._filling.discard(event.upload)
                self._is_resumable |= event.resumable
                self._is_finished |= event.error is None
                if event.error is not None and event.advice and not event.resumable:
                    self._advices[event.advice] = None
            case _:
                return
        advise(self._text())

    def remembered(self) -> None:
        """A source is done by the results, or was recorded in them."""
        self._is_resumable = True
        advise(self._text())

    def done(self) -> None:
        """Everything is uploaded and shown; the same command would upload it again."""
        advise(_DONE)

    def gone(self) -> None:
        """The local service has ended."""
        if self._filling or self._advices:
            advise(_DELETED)

    def _text(self) -> str:
        if self._is_stream:
            return _STREAM if self._filling or self._advices else ""
        if self._is_resumable:
            return f"{_RESUME}; {_IMPORTS}" if self._has_imports else _RESUME
        if self._filling:
            return _LOCAL if self._is_local else _MAY_REMAIN
        texts = [_as_clause(advice) for advice in self._advices]
        return "; ".join([*texts, _AGAIN] if self._is_finished and not self._is_local else texts)


def _as_clause(advice: str) -> str:
    """The last sentence as a part of one: ``The video was deleted.`` as ``the video was deleted``."""
    sentence = advice.rstrip(".").rpartition(". ")[2]
    return sentence[:1].lower() + sentence[1:]
