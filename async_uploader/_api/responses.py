"""Reads successful responses into models. A 2xx with an unexpected body, such as a proxy's page, is an error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct

from async_uploader._errors import TransportError, UploaderError
from async_uploader._limits import TOKEN_TTL_SECONDS
from async_uploader._models import UploadToken, Video, VideoStatus
from async_uploader._parsing import credential, identifier, number, whole_number

from .credentials import TokenPair
from .http import Response

M = TypeVar("M")

log: Final = logging.getLogger("async_uploader")


class PartResponse(Struct, frozen=True, kw_only=True):
    """A 2xx to a part.

    :param video: the finished Video, in the response to the request that completed it
    """

    status: int
    video_id: str | None
    video: Video | None


def read_part_response(response: Response, video_id: str | None) -> PartResponse:
    """The response to a part of a video.

    Only a 2xx with a title and assets is a Video. If it has another id, it is not the video of this upload.
    """
    content = response.json()
    found_id = identifier(content.get("videoId"))
    is_video = found_id is not None and video_id in (None, found_id) and {"title", "assets"} <= content.keys()
    return PartResponse(
        status=response.status,
        video_id=found_id,
        video=Video.from_response(content) if is_video else None,
    )


def read_video(response: Response, *, is_read: bool = False) -> Video:
    """The video of a response.

    :param is_read: the request can be retried without side effects
    :raises TransportError: the response contains none, and ``is_read`` is set
    :raises UploaderError: the response contains none
    """
    content = response.json()
    if identifier(content.get("videoId")) is None:
        raise _unreadable(response, "a video", is_read=is_read)
    return Video.from_response(content)


def read_status(response: Response) -> VideoStatus:
    """The status of a response.

    :raises TransportError: the response contains none
    """
    content = response.json()
    if not content:
        raise _unreadable(response, "a status", is_read=True)
    return VideoStatus.from_response(content)


def read_upload_token(response: Response, *, is_read: bool = False) -> UploadToken:
    """The upload token of a response.

    :param is_read: the request can be retried without side effects
    :raises TransportError: the response contains none, and ``is_read`` is set
    :raises UploaderError: the response contains none
    """
    content = response.json()
    if credential(content.get("token")) is None:
        raise _unreadable(response, "an upload token", is_read=is_read)
    return UploadToken.from_response(content)


def read_token_pair(response: Response) -> TokenPair:
    """The bearer and refresh token of a response.

    :raises UploaderError: the response contains no bearer token
    """
    content = response.json()
    access = credential(content.get("access_token"))
    if access is None:
        raise _unreadable(response, "a bearer token")
    ttl_seconds = number(content.get("expires_in")) or 0.0
    return TokenPair(
        access=access,
        refresh=credential(content.get("refresh_token")),
        expires_in_seconds=ttl_seconds if ttl_seconds > 0 else TOKEN_TTL_SECONDS,
    )


def read_list_page(response: Response, read_item: Callable[[Mapping[str, Any]], M]) -> tuple[list[M], int | None]:
    """The items of one page of a list, and the number of pages; None if the response does not state it.

    :raises TransportError: the response is not a list
    """
    content = response.json()
    data, pagination = content.get("data"), content.get("pagination")
    if not isinstance(data, list):
        raise _unreadable(response, "a list", is_read=True)
    pages_total = pagination.get("pagesTotal") if isinstance(pagination, dict) else None
    return list(_readable_items(data, read_item)), whole_number(pages_total)


def read_languages(response: Response) -> frozenset[str]:
    """The languages of a list of captions or chapters, in lower case.

    :raises TransportError: the response is not a list
    """
    data = response.json().get("data")
    if not isinstance(data, list):
        raise _unreadable(response, "a list", is_read=True)
    languages = (item.get("srclang") or item.get("language") for item in data if isinstance(item, dict))
    return frozenset(language.lower() for language in languages if isinstance(language, str))


def _readable_items(data: list[Any], read_item: Callable[[Mapping[str, Any]], M]) -> Iterator[M]:
    for item in data:
        try:
            yield read_item(item)
        except UploaderError as exc:  # an item without an id must not fail the others
            log.warning("Skipped an item of the service's list: %s", exc)


def _unreadable(response: Response, expected: str, *, is_read: bool = False) -> UploaderError:
    reason = f"{response.status} and something that is not {expected}; check the base URL"
    if is_read:
        return TransportError(reason, maybe_received=True, unreadable=True)
    return UploaderError(f"The service responded with {reason}.")
