"""Finished videos on their way to the user: a line each, or one JSON document at the end.

Standard output may fail: a full disk, a closed pipe. No id is lost by that. What standard output does not take is
said on standard error, and the command ends with exit code 1. The journal remembers its videos until
they were shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import anyio
import anyio.to_thread

from ._output import JsonArray, OutputError, line_of, say, show, show_json


class Delivery:
    """Shows the videos of one command.

    :param documents: keeps what is shown as JSON until the end; None to show a line for each video at once
    :param is_alone: there is one video, whose JSON is no array
    :param name_of: a source's name, by its number
    """

    def __init__(self, documents: JsonArray | None, *, is_alone: bool, name_of: Callable[[int], str]) -> None:
        self._documents = documents
        self._is_alone = is_alone
        self._name_of = name_of
        self._turn = anyio.CapacityLimiter(1)
        self._failure: OutputError | None = None
        self._unshown: dict[int, str] = {}
        self._said: set[int] = set()

    async def video(self, number: int, video: Mapping[str, Any]) -> None:
        """A video is finished.

        :param video: as the service gave it
        """
        self._unshown[number] = video["videoId"]
        if self._documents is not None:
            self._keep(number, video)
            return
        line = line_of(video, self._name_of(number))
        # In a thread: a pager that nobody scrolls takes no more lines, and would hold up other uploads.
        await anyio.to_thread.run_sync(self._show_line, line, limiter=self._turn, abandon_on_cancel=True)
        if self._failure is None:
            del self._unshown[number]
            return
        if not self._is_alone:  # else the one message of the failure says it
            self._say(number)

    def _show_line(self, line: str) -> None:
        # One at a time. After a failure nothing more is written: what is in the buffer would come before it.
        if self._failure is None:
            try:
                show(line)
            except OutputError as exc:
                self._failure = exc

    def error(self, number: int, document: Mapping[str, Any]) -> None:
        """A source has failed; shown in the array."""
        if self._documents is not None:
            self._keep(number, document)

    def _keep(self, number: int, document: Mapping[str, Any]) -> None:
        assert self._documents is not None
        try:
            self._documents[number] = document
        except OSError as exc:  # the disk of temporary files is full
            self._failure = self._failure or OutputError(exc)
            if number in self._unshown and not self._is_alone:
                self._say(number)

    def show(self) -> None:
        """Show what is shown at the end."""
        if self._documents is None or self._failure is not None:
            return
        try:
            if self._is_alone:
                show_json(*self._documents)
            else:
                self._documents.show()
            self._unshown.clear()
        except OutputError as exc:
            self._failure = exc

    def _say(self, number: int) -> None:
        self._said.add(number)
        say(f"{self._unshown[number]}  {self._name_of(number)}")

    def say_unshown(self) -> None:
        """Say on standard error which videos are finished and were not shown."""
        for number in sorted(self._unshown.keys() - self._said):
            self._say(number)

    @property
    def has_failed(self) -> bool:
        """Whether standard output did not take everything."""
        return self._failure is not None

    def failure(self, kept: Collection[str] | None) -> OutputError:
        """The one message about it; says all videos that were not shown.

        :param kept: the videos that the same command shows again without uploading them; None if all are gone with
            the service that had them
        """
        assert self._failure is not None
        ids = set(self._unshown.values())
        if kept is None or not ids:
            return OutputError(self._failure.reason)
        if self._is_alone:
            (video_id,) = ids
            which, them = f"Video {video_id} is uploaded", "it"
        else:
            self.say_unshown()
            which, them = "The videos above are uploaded", "them"
        if ids <= set(kept):
            advice = f"the same command shows {them} again without uploading."
        elif ids.isdisjoint(kept):
            advice = f"the same command would upload {them} again."
        else:
            again = ", ".join(sorted(ids - set(kept)))
            advice = f"the same command shows them again, but would upload these again: {again}."
        return OutputError(self._failure.reason, f"{which}; {advice}")
