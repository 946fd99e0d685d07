"""Imports a video, which the service downloads or copies. Creates it only once, even if a response is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from async_uploader._api.service import Service
from async_uploader._flow.retries import RetryRunner
from async_uploader._models import MARK_CONTENT, MARK_INTENT, MARK_KEY, Video
from async_uploader._resume.containers import RemoteContainers, entry_of
from async_uploader._resume.marks import new_intent
from async_uploader._resume.shared_containers import SharedContainers, key_of_another_source
from async_uploader._urls import url_digest
from async_uploader.events import Operation, RequestKind


class VideoImport:
    """One import.

    With an idempotency key, the video keeps the key in its metadata. Without one, it carries a random id until its
    creation is known, so that a retry finds it.

    :param source: a URL or a videoId
    """

    def __init__(
        self, source: str, *, key: str | None, service: Service, retries: RetryRunner, containers: RemoteContainers
    ) -> None:
        self._source = source
        self._key = key
        self._service = service
        self._retries = retries
        self._containers = containers
        entry = (MARK_INTENT, new_intent()) if key is None else (MARK_KEY, key)
        self._metadata = [entry] if key is None else [entry, (MARK_CONTENT, _content_of(source))]
        self._shared = SharedContainers(self._containers, key=entry[0], value=entry[1], total_bytes=None)
        self._requests = 0

    async def run(self, payload: Mapping[str, Any]) -> Video:
        """Create the video, or find the one with the key.

        :param payload: the JSON object that creates it
        :raises ApiError: the service refused
        :raises ConflictError: the key belongs to another source
        """
        if self._key is not None and (found := await self._shared.find()) is not None:
            return self._checked(found.video)
        entries = [{"key": key, "value": value} for key, value in self._metadata]
        payload = {**payload, "metadata": [*payload.get("metadata", []), *entries]}

        async def find_or_create() -> Video:
            if self._requests and (found := await self._shared.find()) is not None:
                return found.video
            self._requests += 1
            return await self._service.create_video(payload)

        video = await self._retries.run(RequestKind.WRITE, find_or_create, operation=Operation.IMPORT)
        if self._key is not None or self._requests > 1:
            settled = await self._shared.settle(video.video_id)
            video = settled.video if settled else video
        if self._key is None:
            return await self._containers.remove_entries(video, {MARK_INTENT})
        return self._checked(video)

    def _checked(self, video: Video) -> Video:
        if self._key is not None and entry_of(video, MARK_CONTENT) != _content_of(self._source):
            raise key_of_another_source(self._key, video, "this source")
        return video


def _content_of(source: str) -> str:
    return f"import {url_digest(source)}"
