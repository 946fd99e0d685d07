"""All requests other than uploads: videos, their status, and upload tokens. All are retried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import ClassVar, Final, Literal, TypeVar, Unpack

import anyio

from async_uploader._errors import ApiError, ConfigurationError, UploaderError
from async_uploader._flow.retries import RetryRunner
from async_uploader._limits import MAX_PAGE_SIZE, MAX_UPLOAD_TOKEN_TTL_SECONDS
from async_uploader._models import UploadToken, Video, VideoStatus
from async_uploader._options import container_payload
from async_uploader._types import ContainerDetails, OnStatus
from async_uploader.events import Operation, RequestKind

from .client_state import ClientState
from .service import Service

T = TypeVar("T")
M = TypeVar("M", Video, UploadToken)

_MAX_POLL_SECONDS: Final = 10.0


class AccountApi:
    """The requests of a :class:`Client`, with retries."""

    # Tests override it in a subclass.
    _first_poll_seconds: ClassVar[float] = 1.0

    # Set by the subclass: a constructor with these parameters would be part of the public `Client`.
    _state: ClientState
    _service: Service
    _retries: RetryRunner

    async def create_video(self, **details: Unpack[ContainerDetails]) -> Video:
        """Create an empty container. ``title`` is required; :meth:`upload` lists the other details.

        :returns: the container
        :raises ConfigurationError: a detail has the wrong type
        :raises ApiError: the service refused the request
        """
        payload = container_payload(details)
        if "title" not in payload:
            raise ConfigurationError("A video needs a title.")
        return await self._write(Operation.CREATE, lambda: self._service.create_video(payload))

    async def update_video(self, video_id: str, **details: Unpack[ContainerDetails]) -> Video:
        """Change the given details of a video or container.

        :returns: the changed video
        :raises ConfigurationError: a detail has the wrong type
        :raises ApiError: it does not exist (404), or the service refused the request
        """
        payload = container_payload(details)
        return await self._write(Operation.UPDATE, lambda: self._service.update_video(video_id, payload))

    async def get_video(self, video_id: str) -> Video:
        """Get a video or container with its details.

        :raises ApiError: it does not exist (404), or the service refused the request
        """
        return await self._read(Operation.VIDEO, lambda: self._service.get_video(video_id))

    async def get_status(self, video_id: str) -> VideoStatus:
        """Get the status of a video: the received parts, and the progress of its encodings.

        :raises ApiError: there is no such video (404), or the service refused the request
        """
        return await self._read(Operation.STATUS, lambda: self._service.get_status(video_id))

    async def list_videos(
        self,
        *,
        title: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        sort_by: Literal["title", "createdAt", "publishedAt", "updatedAt"] | None = None,
        sort_order: Literal["asc", "desc"] | None = None,
        limit: int | None = None,
    ) -> list[Video]:
        """List the videos of the account, from all pages.

        :param title: only videos whose title contains this
        :param description: only videos with this description
        :param tags: only videos with all of these tags
        :param metadata: only videos with all of these entries
        :param sort_by: field to sort by; default: the order of the service
        :param sort_order: ``"asc"`` or ``"desc"``; default: the order of the service
        :param limit: maximum number of videos; default: all
        :raises ApiError: the service refused the request
        """
        filters = {
            "title": title,
            "description": description,
            "tags[]": list(tags),
            **{f"metadata[{key}]": text for key, text in (metadata or {}).items()},
            "sortBy": sort_by,
            "sortOrder": sort_order,
        }
        query = {name: value for name, value in filters.items() if value}
        return await self._all_pages(Operation.VIDEOS, self._service.list_videos, query, limit=limit)

    async def delete_video(self, video_id: str) -> None:
        """Delete a video or container permanently.

        :raises ApiError: it does not exist (404), or the service refused the request
        """
        await self._delete(Operation.DELETE, lambda: self._service.delete_video(video_id))

    async def wait_until_playable(
        self, video_id: str, *, timeout: float | None = None, on_status: OnStatus | None = None
    ) -> VideoStatus:
        """Poll the status, at increasing intervals, until the video can be played.

        :param timeout: seconds; default: no limit
        :param on_status: called (plain or async) with the first status and with every changed one
        :returns: the last status
        :raises UploaderError: every encoding failed, or the timeout expired
        :raises ApiError: there is no such video (404), or the service refused the request
        """
        interval_seconds = self._first_poll_seconds
        reported: VideoStatus | None = None
        with anyio.move_on_after(timeout):
            while True:
                status = await self.get_status(video_id)
                if on_status is not None and status != reported:
                    result, reported = on_status(status), status
                    if isawaitable(result):
                        await result
                if status.encoding.playable:
                    return status
                states = {quality.status for quality in status.encoding.qualities}
                if states == {"failed"}:
                    raise UploaderError(f"Video {video_id} cannot be played: all of its encodings failed.")
                await anyio.sleep(interval_seconds)
                interval_seconds = min(interval_seconds * 1.5, _MAX_POLL_SECONDS)
        raise UploaderError(f"Video {video_id} was not playable within {timeout:g} s.")

    async def create_upload_token(self, *, ttl_seconds: int = 0) -> UploadToken:
        """Create a token that permits uploads, and nothing else.

        :param ttl_seconds: lifetime in seconds; default 0: unlimited
        :raises ConfigurationError: ``ttl_seconds`` is out of its range
        :raises ApiError: the service refused the request
        """
        if not 0 <= ttl_seconds <= MAX_UPLOAD_TOKEN_TTL_SECONDS:
            raise ConfigurationError(
                f"ttl_seconds must be from 0 (unlimited) to {MAX_UPLOAD_TOKEN_TTL_SECONDS:,}, not {ttl_seconds!r}."
            )
        return await self._write(Operation.TOKEN, lambda: self._service.create_upload_token(ttl_seconds))

    async def list_upload_tokens(self, *, limit: int | None = None) -> list[UploadToken]:
        """List the upload tokens of the account.

        :param limit: maximum number of tokens; default: all
        :raises ApiError: the service refused the request
        """
        return await self._all_pages(Operation.TOKENS, self._service.list_upload_tokens, {}, limit=limit)

    async def get_upload_token(self, token: str) -> UploadToken:
        """Get an upload token.

        :raises ApiError: it does not exist (404), or the service refused the request
        """
        return await self._read(Operation.TOKEN, lambda: self._service.get_upload_token(token))

    async def delete_upload_token(self, token: str) -> None:
        """Delete an upload token, so that it can no longer be used.

        :raises ApiError: it does not exist (404), or the service refused the request
        """
        await self._delete(Operation.TOKEN, lambda: self._service.delete_upload_token(token))

    async def _read(self, operation: Operation, request: Callable[[], Awaitable[T]]) -> T:
        self._state.check()
        return await self._retries.run(RequestKind.READ, request, operation=operation)

    async def _write(self, operation: Operation, request: Callable[[], Awaitable[T]]) -> T:
        self._state.check()
        return await self._retries.run(RequestKind.WRITE, request, operation=operation)

    async def _delete(self, operation: Operation, request: Callable[[], Awaitable[None]]) -> None:
        is_retry = False

        async def once() -> None:
            nonlocal is_retry
            try:
                await request()
            except ApiError as exc:
                # 404 on a retry: an earlier request succeeded; only its response was lost.
                if not (is_retry and exc.status == 404):
                    raise
            finally:
                is_retry = True

        await self._write(operation, once)

    async def _all_pages(
        self,
        operation: Operation,
        get_page: Callable[[Mapping[str, str | list[str]]], Awaitable[tuple[list[M], int | None]]],
        query: Mapping[str, str | list[str]],
        *,
        limit: int | None,
    ) -> list[M]:
        found: dict[str, M] = {}
        page, pages = 0, None
        while (pages is None or page < pages) and (limit is None or len(found) < limit):
            page += 1
            paged = {**query, "currentPage": str(page), "pageSize": str(MAX_PAGE_SIZE)}
            items, pages = await self._read(operation, partial(get_page, paged))
            known = len(found)
            found |= {_id_of(item): item for item in items}
            if len(found) == known:  # no new items: the number of pages is wrong
                break
        return list(found.values())[:limit]


def _id_of(model: Video | UploadToken) -> str:
    return model.video_id if isinstance(model, Video) else model.token
