"""The endpoints: each takes an exchange that may go ahead and gives the answer."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web

from async_uploader._limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

from ._containers import CREATE, LOGIN, REFRESH, UPDATE, UPLOAD_TOKEN, check_attributes
from ._exchange import Exchange, json_answer
from ._imports import download, original_of, refuse_upload
from ._problems import Problem
from ._ratelimit import Budget
from ._uploads import receive_source, receive_with_token
from ._views import page_view, status_view, upload_token_view, video_view

if TYPE_CHECKING:
    from ._assets import Assets
    from ._credentials import Credentials, UploadToken
    from ._faults import Endpoint
    from ._records import Ledger
    from ._store import Store, Video

T = TypeVar("T")
Handler = Callable[..., Awaitable[web.StreamResponse]]

_TAGS: Final = re.compile(r"tags(?:\[[0-9]*\])?")
_METADATA: Final = re.compile(r"metadata\[(.+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method and URL; `budget` is None where no rate limit holds, `is_open` where no Authorization is asked."""

    endpoint: Endpoint
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    budget: Budget | None
    is_open: bool = False


class Handlers:
    """What the endpoints share: the store, the credentials and the URL that answers point to."""

    def __init__(
        self, store: Store, credentials: Credentials, ledger: Ledger, assets: Assets, *, url: str
    ) -> None:
        self.store = store
        self.credentials = credentials
        self.ledger = ledger
        self.assets = assets
        self.url = url

    def routes(self) -> list[Route]:
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
        pair = self.credentials.login(str(payload["apiKey"]), time.time())
        self.ledger.counts["logins"] += 1
        await self.store.save_bearers()
        return json_answer(200, pair)

    async def refresh(self, exchange: Exchange) -> web.Response:
        payload = check_attributes(await exchange.json(), REFRESH, required=("refreshToken",))
        pair = self.credentials.refresh(str(payload["refreshToken"]), time.time())
        self.ledger.counts["refreshes"] += 1
        await self.store.save_bearers()
        return json_answer(200, pair)

    # Containers

    async def list_videos(self, exchange: Exchange) -> web.Response:
        query = exchange.request.query
        found = [video for video in self.store.videos.values() if _fits(video, query)]
        keys: dict[str, Callable[[Video], Any]] = {
            "title": lambda video: str(video.container.details.get("title")),
            "createdAt": lambda video: video.container.created_s,
            "publishedAt": lambda video: video.container.created_s,
            "updatedAt": lambda video: video.container.updated_s,
        }
        _sort(found, query, keys, default_descending=True)
        return self._page(exchange, found, lambda video: video_view(video, self.assets))

    async def create(self, exchange: Exchange) -> web.Response:
        details = check_attributes(await exchange.json(), CREATE, required=("title",))
        source = details.get("source")
        if source is None:
            video = await self.store.create(details)
            return json_answer(201, self._seen(exchange, video))
        original = original_of(self.store, str(source))
        if original is None:
            video = await self.store.create(details, "download")
            self.store.in_background(download(self.store, video))
        else:
            video = await self.store.create(details, "copy")
            await self.store.copy_source(original, video)
        return json_answer(202, self._seen(exchange, video))

    async def get(self, exchange: Exchange, video_id: str) -> web.Response:
        return json_answer(200, self._seen(exchange, self.store.video(video_id)))

    async def update(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self.store.video(video_id)
        details = check_attributes(await exchange.json(), UPDATE)
        await self.store.update(video, details)
        return json_answer(200, self._seen(exchange, video))

    async def delete(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self.store.video(video_id)
        exchange.video_id = video_id
        await self.store.delete(video)
        return web.Response(status=204)

    async def status(self, exchange: Exchange, video_id: str) -> web.Response:
        exchange.video_id = video_id
        return json_answer(200, status_view(self.store.video(video_id)))

    # Sources

    async def upload(self, exchange: Exchange, video_id: str) -> web.Response:
        video = self.store.video(video_id)
        exchange.video_id = video_id
        refuse_upload(video)
        self.store.retry_joining(video)
        return self._uploaded(*await receive_source(exchange, self.store, video))

    async def upload_with_token(self, exchange: Exchange) -> web.Response:
        value = exchange.request.query.get("token")
        if not value:
            raise Problem("authentication-missing-upload-token", name="token")
        if self.store.live_upload_token(value) is None:
            raise Problem("authentication-invalid-upload-token", name="token")
        return self._uploaded(*await receive_with_token(exchange, self.store))

    def _uploaded(self, video: Video, completed: bool) -> web.Response:  # noqa: FBT001
        """The whole Video for the completing request, the mere id for the others."""
        view = video_view(video, self.assets) if completed else {"videoId": video.container.video_id}
        return json_answer(201, view)

    # Upload tokens

    async def list_tokens(self, exchange: Exchange) -> web.Response:
        now = time.time()
        found = [token for token in self.store.upload_tokens.values() if token.is_live(now)]
        keys: dict[str, Callable[[UploadToken], Any]] = {
            "createdAt": lambda token: token.created_s,
            "ttl": lambda token: token.ttl_s or float("inf"),
        }
        _sort(found, exchange.request.query, keys)
        return self._page(exchange, found, upload_token_view)

    async def create_token(self, exchange: Exchange) -> web.Response:
        payload = check_attributes(await exchange.json(), UPLOAD_TOKEN)
        ttl_s = payload.get("ttl", 0)
        assert isinstance(ttl_s, int)
        return json_answer(200, upload_token_view(await self.store.create_upload_token(ttl_s)))

    async def get_token(self, _: Exchange, value: str) -> web.Response:
        return json_answer(200, upload_token_view(self._token(value)))

    async def delete_token(self, _: Exchange, value: str) -> web.Response:
        await self.store.delete_upload_token(self._token(value))
        return web.Response(status=204)

    def _token(self, value: str) -> UploadToken:
        token = self.store.live_upload_token(value)
        if token is None:
            raise Problem("resource-not-found", name="uploadToken")
        return token

    def _seen(self, exchange: Exchange, video: Video) -> dict[str, object]:
        exchange.video_id = video.container.video_id
        return video_view(video, self.assets)

    def _page(self, exchange: Exchange, found: list[T], view: Callable[[T], dict[str, object]]) -> web.Response:
        query = exchange.request.query
        page = _number(query, "currentPage", 1, 2**31)
        size = _number(query, "pageSize", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        items = [view(item) for item in found[(page - 1) * size : page * size]]
        url = self.url + exchange.request.path
        return json_answer(
            200, page_view(items, total=len(found), page=page, size=size, url=url, query=list(query.items()))
        )


def _fits(video: Video, query: Mapping[str, str]) -> bool:
    """Whether a video passes the filters: texts are contained, all tags are there, metadata is equal."""
    details = video.container.details
    for name, value in query.items():
        if name in ("title", "description") and value not in str(details.get(name, "")):
            return False
        if _TAGS.fullmatch(name) and value not in _list(details, "tags"):
            return False
        metadata = _METADATA.fullmatch(name)
        if metadata and {"key": metadata[1], "value": value} not in _list(details, "metadata"):
            return False
        if name == "liveStreamId":  # there are no live streams here
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
    """By creation, unless the query says otherwise."""
    by, order = query.get("sortBy", "createdAt"), query.get("sortOrder")
    if by not in keys:
        raise Problem("invalid-attribute", name="sortBy", detail=f"One of {', '.join(keys)}.")
    if order not in (None, "asc", "desc"):
        raise Problem("invalid-attribute", name="sortOrder", detail="One of asc, desc.")
    descending = order == "desc" or (order is None and "sortBy" not in query and default_descending)
    items.sort(key=keys[by], reverse=descending)


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= most:
        raise Problem("invalid-attribute", name=name, detail=f"A number from 1 to {most}.")
    return int(text)
