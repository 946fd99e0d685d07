"""The endpoints: each takes an exchange that passed all checks, and returns the response."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web

from async_uploader._limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from async_uploader.emulator._http.exchange import Exchange
from async_uploader.emulator._http.rate_limit import Budget
from async_uploader.emulator._http.responses import json_response
from async_uploader.emulator._problems import Problem

from .attributes import CREATE, LOGIN, REFRESH, UPDATE, UPLOAD_TOKEN, check_attributes
from .imports import check_not_imported, clone, find_original, start_download
from .receiving import receive_part, receive_part_with_token
from .views import list_view, status_view, upload_token_view, video_view

if TYPE_CHECKING:
    from async_uploader.emulator._credentials import Credentials, UploadToken
    from async_uploader.emulator._faults import Endpoint
    from async_uploader.emulator._records import RequestLog
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

    from .assets import Assets

T = TypeVar("T")
Handler = Callable[..., Awaitable[web.StreamResponse]]

_TAGS: Final = re.compile(r"tags(?:\[[0-9]*\])?")
_METADATA: Final = re.compile(r"metadata\[(.+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method and URL. `budget` is None without a rate limit; `is_open` is true if no Authorization is
    required."""

    endpoint: Endpoint
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    budget: Budget | None
    is_open: bool = False


class Endpoints:
    """All endpoints. `url` is the base URL of links; `listing_lag_s` delays the listing of new videos."""

    def __init__(
        self,
        store: Store,
        credentials: Credentials,
        log: RequestLog,
        assets: Assets,
        *,
        url: str,
        listing_lag_s: float,
    ) -> None:
        self._store = store
        self._credentials = credentials
        self._log = log
        self._assets = assets
        self._url = url
        self._listing_lag_s = listing_lag_s

    def routes(self) -> list[Route]:
        """The table of methods, URLs and endpoints."""
        table: list[tuple[Endpoint, str, str, Handler, Budget | None]] = [
            ("auth", "POST", "/auth/api-key", self.login, None),
            ("refresh", "POST", "/auth/refresh", self.refresh, None),
            ("list", "GET", "/videos", self.list_videos, Budget.READS),
            ("create", "POST", "/videos", self.create, Budget.WRITES),
            ("get", "GET", "/videos/ID", self.get, Budget.READS),
            ("update", "PATCH", "/videos/ID", self.update, Budget.WRITES),
            ("delete", "DELETE", "/videos/ID", self.delete, Budget.WRITES),
            ("upload", "POST", "/videos/ID/source", self.upload, Budget.UPLOADS),
            ("status", "GET", "/videos/ID/status", self.status, Budget.READS),
            ("upload", "POST", "/upload", self.upload_with_token, Budget.UPLOADS),
            ("tokens", "GET", "/upload-tokens", self.list_tokens, Budget.READS),
            ("tokens", "POST", "/upload-tokens", self.create_token, Budget.WRITES),
            ("tokens", "GET", "/upload-tokens/ID", self.get_token, Budget.READS),
            ("tokens", "DELETE", "/upload-tokens/ID", self.delete_token, Budget.WRITES),
        ]
        return [
            Route(
                endpoint=endpoint,
                method=method,
                pattern=re.compile(path.replace("ID", "([^/]+)")),
                handler=handler,
                budget=budget,
                is_open=budget is None or path == "/upload",
            )
            for endpoint, method, path, handler, budget in table
        ]

    # Authentication

    async def login(self, exchange: Exchange) -> web.Response:
        payload = check_attributes(await exchange.json(), LOGIN, required=("apiKey",))
        pair = self._credentials.login(str(payload["apiKey"]), time.time())
        self._log.logged_in()
        await self._store.tokens.save_bearers()
        return json_response(200, pair)

    async def refresh(self, exchange: Exchange) -> web.Response:
        payload = check_attributes(await exchange.json(), REFRESH, required=("refreshToken",))
        pair = self._credentials.refresh(str(payload["refreshToken"]), time.time())
        self._log.token_refreshed()
        await self._store.tokens.save_bearers()
        return json_response(200, pair)

    # Containers

    async def list_videos(self, exchange: Exchange) -> web.Response:
        query = exchange.request.query
        newest_s = time.time() - self._listing_lag_s
        listed = [video for video in self._store.videos.values() if video.container.created_s <= newest_s]
        videos = [video for video in listed if _matches(video, query)]
        keys: dict[str, Callable[[Video], Any]] = {
            "title": lambda video: str(video.container.details.get("title")),
            "createdAt": lambda video: video.container.created_s,
            "publishedAt": lambda video: video.container.created_s,
            "updatedAt": lambda video: video.container.updated_s,
        }
        _sort(videos, query, keys, default_descending=True)
        return self._list_page(exchange, videos, lambda video: video_view(video, self._assets))

    async def create(self, exchange: Exchange) -> web.Response:
        details = check_attributes(await exchange.json(), CREATE, required=("title",))
        source = details.get("source")
        if source is None:
            video = await self._store.create(details)
            return json_response(201, self._video(exchange, video))
        original = find_original(self._store, str(source))
        if original is None:
            video = await self._store.create(details, "download")
            start_download(self._store, video)
        else:
            video = await self._store.create(details, "copy")
            await clone(self._store, original, video)
        return json_response(202, self._video(exchange, video))

    async def get(self, exchange: Exchange, video_id: str) -> web.Response:
        return json_response(200, self._video(exchange, self._store.video(video_id)))

    async def update(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self._store.video(video_id)
        details = check_attributes(await exchange.json(), UPDATE)
        await self._store.update(video, details)
        return json_response(200, self._video(exchange, video))

    async def delete(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self._store.video(video_id)
        exchange.video_id = video_id
        await self._store.delete(video)
        return web.Response(status=204)

    async def status(self, exchange: Exchange, video_id: str) -> web.Response:
        exchange.video_id = video_id
        return json_response(200, status_view(self._store.video(video_id)))

    # Sources

    async def upload(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self._store.video(video_id)
        exchange.video_id = video_id
        check_not_imported(video)
        self._store.joiner.retry(video)
        return self._uploaded(*await receive_part(exchange, self._store, video))

    async def upload_with_token(self, exchange: Exchange) -> web.Response:
        value = exchange.request.query.get("token")
        if not value:
            raise Problem("authentication-missing-upload-token", name="token")
        if self._store.tokens.find_upload_token(value) is None:
            raise Problem("authentication-invalid-upload-token", name="token")
        return self._uploaded(*await receive_part_with_token(exchange, self._store))

    def _uploaded(self, video: Video, is_completing: bool) -> web.Response:  # noqa: FBT001
        """The whole Video for the completing request, only the id for the others."""
        view = video_view(video, self._assets) if is_completing else {"videoId": video.container.video_id}
        return json_response(201, view)

    # Upload tokens

    async def list_tokens(self, exchange: Exchange) -> web.Response:
        now = time.time()
        tokens = [token for token in self._store.tokens.upload_tokens.values() if token.is_live(now)]
        keys: dict[str, Callable[[UploadToken], Any]] = {
            "createdAt": lambda token: token.created_s,
            "ttl": lambda token: token.ttl_s or float("inf"),
        }
        _sort(tokens, exchange.request.query, keys)
        return self._list_page(exchange, tokens, upload_token_view)

    async def create_token(self, exchange: Exchange) -> web.Response:
        payload = check_attributes(await exchange.json(), UPLOAD_TOKEN)
        ttl_s = payload.get("ttl", 0)
        assert isinstance(ttl_s, int)
        return json_response(200, upload_token_view(await self._store.tokens.create_upload_token(ttl_s)))

    async def get_token(self, _: Exchange, value: str) -> web.Response:
        return json_response(200, upload_token_view(self._token(value)))

    async def delete_token(self, _: Exchange, value: str) -> web.Response:
        await self._store.tokens.delete_upload_token(self._token(value))
        return web.Response(status=204)

    def _token(self, value: str) -> UploadToken:
        token = self._store.tokens.find_upload_token(value)
        if token is None:
            raise Problem("resource-not-found", name="uploadToken")
        return token

    def _video(self, exchange: Exchange, video: Video) -> dict[str, object]:
        exchange.video_id = video.container.video_id
        return video_view(video, self._assets)

    def _list_page(
        self, exchange: Exchange, items: list[T], view: Callable[[T], dict[str, object]]
    ) -> web.Response:
        """The page of a listing that the query selects."""
        query = exchange.request.query
        page = _number(query, "currentPage", 1, 2**31)
        size = _number(query, "pageSize", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        views = [view(item) for item in items[(page - 1) * size : page * size]]
        url = self._url + exchange.request.path
        return json_response(
            200, list_view(views, total=len(items), page=page, size=size, url=url, query=list(query.items()))
        )


def _matches(video: Video, query: Mapping[str, str]) -> bool:
    """Whether a video matches all filters: it contains the texts, has the tags, and has equal metadata."""
    details = video.container.details
    for name, value in query.items():
        if name in ("title", "description") and value not in str(details.get(name, "")):
            return False
        if _TAGS.fullmatch(name) and value not in _list(details, "tags"):
            return False
        metadata = _METADATA.fullmatch(name)
        if metadata and {"key": metadata[1], "value": value} not in _list(details, "metadata"):
            return False
        if name == "liveStreamId":  # the emulator has no live streams
            return False
    return True


def _list(details: Mapping[str, object], name: str) -> list[object]:
    value = details.get(name)
    return value if isinstance(value, list) else []


def _sort(
    items: list[T],
    query: Mapping[str, str],
    keys: Mapping[str, Callable[[T], Any]],
    *,
    default_descending: bool = False,
) -> None:
    """Sort as the query says; by creation without `sortBy`."""
    by, order = query.get("sortBy", "createdAt"), query.get("sortOrder")
    if by not in keys:
        raise Problem("invalid-attribute", name="sortBy", detail=f"Use one of {', '.join(keys)}.")
    if order not in (None, "asc", "desc"):
        raise Problem("invalid-attribute", name="sortOrder", detail="Use asc or desc.")
    descending = order == "desc" or (order is None and "sortBy" not in query and default_descending)
    items.sort(key=keys[by], reverse=descending)


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= most:
        raise Problem("invalid-attribute", name=name, detail=f"Use a number from 1 to {most}.")
    return int(text)
