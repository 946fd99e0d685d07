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
_CONTAINERS: Final = {
    events.ContainerState.DELETED: "the unfinished video was deleted",
    events.ContainerState.NOT_DELETED: "the unfinished video could not be deleted; "
    "the service removes it after 7 days",
    events.ContainerState.UNCHANGED: "the video was not deleted",
    events.ContainerState.MISSING: "this video no longer exists; upload the source again to create a new one",
}


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
        self._containers: dict[events.ContainerState, None] = {}

    def __call__(self, event: events.UploadEvent) -> None:
        match event:
            case events.ContainerReady():
                self._filling.add(event.upload)
                self._is_resumable |= event.resumable
            case events.UploadEnded():
                self._filling.discard(event.upload)
                self._is_resumable |= event.resumable
                self._is_finished |= event.outcome is events.UploadOutcome.FINISHED
                if event.container is not None and not event.resumable:
                    self._containers[event.container] = None
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
        if self._filling or self._containers:
            advise(_DELETED)

    def _text(self) -> str:
        if self._is_stream:
            return _STREAM if self._filling or self._containers else ""
        if self._is_resumable:
            return f"{_RESUME}; {_IMPORTS}" if self._has_imports else _RESUME
        if self._filling:
            return _LOCAL if self._is_local else _MAY_REMAIN
        texts = [_CONTAINERS[state] for state in self._containers]
        return "; ".join([*texts, _AGAIN] if self._is_finished and not self._is_local else texts)
