"""What Ctrl-C prints about uploads: how to resume them, or what happened to them."""

from __future__ import annotations

from typing import Final

from async_uploader import events

from ._signals import NOTHING_CREATED, set_interrupt_advice

_UPLOADED: Final = "All sources were uploaded."
_RESUME: Final = "Run the same command again to resume."
_STREAM: Final = "Standard input cannot be resumed; send it again."
_MAY_REMAIN: Final = "The unfinished video may remain; the service removes it after 7 days."
_EMULATOR_STOPPED: Final = "The received files were deleted."
_LOCAL: Final = "Local uploads cannot be resumed."
_UPLOADS_AGAIN: Final = "The same command would upload finished videos again."
_IMPORTS_AGAIN: Final = "It would import URLs again."
_CONTAINERS: Final = {
    events.ContainerState.DELETED: "The unfinished video was deleted.",
    events.ContainerState.NOT_DELETED: "The unfinished video could not be deleted; "
    "the service removes it after 7 days.",
    events.ContainerState.UNCHANGED: "The video was not deleted.",
    events.ContainerState.MISSING: "The video no longer exists; upload the source again to create a new one.",
}


class InterruptAdvice:
    """Keeps the advice of an interruption up to date; is an ``on_event`` callback.

    A signal handler cannot ask what is true at that moment, so the advice is updated on every event.

    :param is_stream: standard input is uploaded
    :param is_local: the emulator, and the videos in it, end with the command
    :param has_imports: URLs are imported, and no results file records them
    """

    def __init__(self, *, is_stream: bool, is_local: bool, has_imports: bool) -> None:
        self._is_stream = is_stream
        self._is_local = is_local
        self._has_imports = has_imports
        self._is_resumable = self._has_finished = False
        self._unfinished_uploads: set[int] = set()
        self._containers: dict[events.ContainerState, None] = {}
        set_interrupt_advice(self._advice())

    def __call__(self, event: events.UploadEvent) -> None:
        match event:
            case events.ContainerReady():
                self._unfinished_uploads.add(event.upload)
                self._is_resumable |= event.resumable
            case events.UploadEnded():
                self._unfinished_uploads.discard(event.upload)
                self._is_resumable |= event.resumable
                self._has_finished |= event.outcome is events.UploadOutcome.FINISHED
                if event.container is not None and not event.resumable:
                    self._containers[event.container] = None
            case _:
                return
        set_interrupt_advice(self._advice())

    def on_source_recorded(self) -> None:
        """A source is finished in the results file: the same command skips it."""
        self._is_resumable = True
        set_interrupt_advice(self._advice())

    def on_all_finished(self) -> None:
        """All videos are uploaded and printed: the same command would upload them again."""
        set_interrupt_advice(_UPLOADED)

    def on_emulator_stopped(self) -> None:
        """The emulator of ``--local`` has stopped and removed its files."""
        if self._unfinished_uploads or self._containers:
            set_interrupt_advice(_EMULATOR_STOPPED)

    def _advice(self) -> str:
        if not (self._is_resumable or self._unfinished_uploads or self._containers or self._has_finished):
            return "" if self._has_imports else NOTHING_CREATED
        if self._is_stream:
            return _STREAM if self._unfinished_uploads or self._containers else ""
        if self._is_resumable:
            return f"{_RESUME} {_IMPORTS_AGAIN}" if self._has_imports else _RESUME
        if self._unfinished_uploads:
            return _LOCAL if self._is_local else _MAY_REMAIN
        sentences = [_CONTAINERS[state] for state in self._containers]
        if self._has_finished and not self._is_local:
            sentences.append(_UPLOADS_AGAIN)
        return " ".join(sentences)
