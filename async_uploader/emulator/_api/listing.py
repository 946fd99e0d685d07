"""Listings: filters, order and pages, as the query selects them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from async_uploader._limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from async_uploader.emulator._http.responses import json_response
from async_uploader.emulator._problems import Problem

from .views import list_view

if TYPE_CHECKING:
    from aiohttp import web

    from async_uploader.emulator._http.exchange import Exchange
    from async_uploader.emulator._storage.video import Video

T = TypeVar("T")

_TAGS: Final = re.compile(r"tags(?:\[[0-9]*\])?")
_METADATA: Final = re.compile(r"metadata\[(.+)\]")


class Lister:
    """Makes pages of listings; `url` is the base URL of the links."""

    def __init__(self, url: str) -> None:
        self._url = url

    def page(self, exchange: Exchange, items: list[T], view: Callable[[T], dict[str, object]]) -> web.Response:
        """The page of a listing that the query selects.

        :raises Problem: the query is invalid
        """
        query = exchange.request.query
        page = _number(query, "currentPage", 1, 2**31)
        size = _number(query, "pageSize", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        views = [view(item) for item in items[(page - 1) * size : page * size]]
        url = self._url + exchange.request.path
        return json_response(
            200, list_view(views, total=len(items), page=page, size=size, url=url, query=list(query.items()))
        )


def matches(video: Video, query: Mapping[str, str]) -> bool:
    """Whether a video matches all filters: it contains the texts, has the tags, and has equal metadata."""
    details = video.container.details
    for name, value in query.items():
        if name in ("title", "description") and value not in str(details.get(name, "")):
            return False
        if _TAGS.fullmatch(name) and value not in detail_list(video, "tags"):
            return False
        metadata = _METADATA.fullmatch(name)
        if metadata and {"key": metadata[1], "value": value} not in detail_list(video, "metadata"):
            return False
        if name == "liveStreamId":  # the emulator has no live streams
            return False
    return True


def sort_videos(videos: list[Video], query: Mapping[str, str]) -> None:
    """Sort as the query says; the newest first without `sortBy`.

    :raises Problem: the query is invalid
    """
    keys: dict[str, Callable[[Video], Any]] = {
        "title": lambda video: str(video.container.details.get("title")),
        "createdAt": lambda video: video.container.created_s,
        "publishedAt": lambda video: video.container.created_s,
        "updatedAt": lambda video: video.container.updated_s,
    }
    sort(videos, query, keys, default_descending=True)


def sort(
    items: list[T],
    query: Mapping[str, str],
    keys: Mapping[str, Callable[[T], Any]],
    *,
    default: str = "createdAt",
    default_descending: bool = False,
) -> None:
    """Sort as the query says; by `default` without `sortBy`.

    :raises Problem: the query is invalid
    """
    by, order = query.get("sortBy", default), query.get("sortOrder")
    if by not in keys:
        raise Problem("invalid-attribute", name="sortBy", detail=f"Use one of {', '.join(keys)}.")
    if order not in (None, "asc", "desc"):
        raise Problem("invalid-attribute", name="sortOrder", detail="Use asc or desc.")
    descending = order == "desc" or (order is None and "sortBy" not in query and default_descending)
    items.sort(key=keys[by], reverse=descending)


def detail_list(video: Video, name: str) -> list[Any]:
    """A list of a video's details, such as `tags`."""
    value = video.container.details.get(name)
    return value if isinstance(value, list) else []


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= most:
        raise Problem("invalid-attribute", name=name, detail=f"Use a number from 1 to {most}.")
    return int(text)
