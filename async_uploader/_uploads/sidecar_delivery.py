"""Adds sidecars to a finished video. All are tried; one error names those that could not be added."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import anyio.to_thread

from async_uploader._errors import SourceError, UploaderError, UploadFailed
from async_uploader._sidecars import Sidecar, SidecarKind
from async_uploader.events import Operation, RequestKind

from .job import Context

log: Final = logging.getLogger("async_uploader")


class SidecarDelivery:
    """Adds sidecars to one video.

    :param is_new: this run has uploaded the video, so it cannot have any of them
    """

    def __init__(self, sidecars: tuple[Sidecar, ...], context: Context, *, video_id: str, is_new: bool) -> None:
        self._sidecars = sidecars
        self._context = context
        self._video_id = video_id
        self._is_new = is_new

    async def run(self) -> None:
        """Add the sidecars that the video does not have.

        :raises UploadFailed: some of them could not be added
        """
        added, errors = [], {}
        for sidecar in self._sidecars:
            try:
                if not await self._is_there(sidecar):
                    await self._add(sidecar)
                added.append(sidecar.label)
            except UploaderError as exc:
                errors[sidecar.label] = exc
        if errors:
            raise self._failure(added, errors) from next(iter(errors.values()))

    async def _is_there(self, sidecar: Sidecar) -> bool:
        """Whether an earlier run, or another process, has added a sidecar."""
        if self._is_new:
            return False
        if sidecar.kind is SidecarKind.THUMBNAIL:
            # Every video has a thumbnail, so the service cannot tell. Sending it again would do no harm.
            return self._context.resume is not None and self._context.resume.has_thumbnail
        assert sidecar.language is not None
        languages = await self._context.retries.run(
            RequestKind.READ,
            partial(self._context.service.list_languages, self._video_id, sidecar.kind),
            operation=Operation.SIDECAR,
        )
        return sidecar.language.lower() in languages

    async def _add(self, sidecar: Sidecar) -> None:
        try:
            content = await anyio.to_thread.run_sync(sidecar.path.read_bytes)
        except OSError as exc:
            raise SourceError(f"Cannot read {sidecar.path}: {exc.strerror or exc}.") from exc
        # A retry after a lost response replaces the sidecar.
        await self._context.retries.run(
            RequestKind.WRITE,
            partial(self._context.service.upload_sidecar, self._video_id, sidecar, content),
            operation=Operation.SIDECAR,
        )
        if sidecar.kind is SidecarKind.THUMBNAIL and self._context.resume is not None:
            await self._context.resume.record_thumbnail()
        log.info("%s added to video %s.", sidecar.label.capitalize(), self._video_id)

    def _failure(self, added: list[str], errors: dict[str, UploaderError]) -> UploadFailed:
        first = str(next(iter(errors.values()))).rstrip(".")
        others = f" ({', '.join(added)}: added)" if added else ""
        is_resumable = self._context.resume is not None and self._context.resume.is_recorded
        failure = UploadFailed(
            f"Video {self._video_id} is uploaded, but {', '.join(errors)} could not be added{others}: {first}.",
            video_id=self._video_id,
            resumable=is_resumable,
        )
        failure.advice = "Upload it again to add only what is missing." if is_resumable else ""
        return failure
