"""The endpoints: each takes an exchange that passed all checks, and returns the response."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from async_uploader.emulator._http.responses import json_response
from async_uploader.emulator._problems import Problem

from .attributes import CREATE, LOGIN, REFRESH, UPDATE, UPLOAD_TOKEN, check_attributes
from .imports import check_not_imported, clone, find_original, start_download
from .library import Library
from .listing import Lister, matches, sort, sort_videos
from .pictures import Pictures
from .receiving import receive_part, receive_part_with_token
from .routing import Route, Row, make_routes
from .tracks import Tracks
from .unimplemented import unimplemented_rows
from .views import status_view, upload_token_view, video_view
from .webhooks import Webhooks

if TYPE_CHECKING:
    from async_uploader.emulator._credentials import Credentials, UploadToken
    from async_uploader.emulator._http.exchange import Exchange
    from async_uploader.emulator._records import RequestLog
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video

    from .assets import Assets


class Endpoints:
    """The endpoints of authentication, videos and upload tokens, and the table of all endpoints.

    :param url: the base URL of the links in responses
    :param listing_lag_s: for how long new videos are not listed
    :param restores: whether deleted videos can be restored
    """

    def __init__(
        self,
        store: Store,
        credentials: Credentials,
        log: RequestLog,
        assets: Assets,
        *,
        url: str,
        listing_lag_s: float,
        restores: bool = False,
    ) -> None:
        self._store = store
        self._credentials = credentials
        self._log = log
        self._assets = assets
        self._lister = Lister(url)
        self._restores = restores
        self._listing_lag_s = listing_lag_s

    def routes(self) -> list[Route]:
        """The table of methods, URLs and endpoints."""
        rows: list[Row] = [
            ("auth", "POST", "/auth/api-key", self.login),
            ("refresh", "POST", "/auth/refresh", self.refresh),
            ("list", "GET", "/videos", self.list_videos),
            ("create", "POST", "/videos", self.create),
            ("get", "GET", "/videos/ID", self.get),
            ("update", "PATCH", "/videos/ID", self.update),
            ("delete", "DELETE", "/videos/ID", self.delete),
            ("upload", "POST", "/videos/ID/source", self.upload),
            ("status", "GET", "/videos/ID/status", self.status),
            ("upload", "POST", "/upload", self.upload_with_token),
            ("tokens", "GET", "/upload-tokens", self.list_tokens),
            ("tokens", "POST", "/upload-tokens", self.create_token),
            ("tokens", "GET", "/upload-tokens/ID", self.get_token),
            ("tokens", "DELETE", "/upload-tokens/ID", self.delete_token),
            *Tracks(self._store, self._assets, self._lister).rows(),
            *Pictures(self._store, self._assets, self._lister).rows(),
            *Library(self._store, self._assets, self._lister).rows(),
            *Webhooks(self._store, self._lister).rows(),
            *unimplemented_rows(),
        ]
        return make_routes(rows)

    # Authentication

    async def login(self, exchange: Exchange) -> web.Response:
        payload = check_attributes(await exchange.json(), LOGIN, required=("apiKey",))
        pair = self._credentials.login(str(payload["apiKey"]), self._store.clock.now())
        self._log.logged_in()
        await self._store.tokens.save_bearers()
        return json_response(200, pair)

    async def refresh(self, exchange: Exchange) -> web.Response:
        payload = check_attributes(await exchange.json(), REFRESH, required=("refreshToken",))
        pair = self._credentials.refresh(str(payload["refreshToken"]), self._store.clock.now())
        self._log.token_refreshed()
        await self._store.tokens.save_bearers()
        return json_response(200, pair)

    # Containers

    async def list_videos(self, exchange: Exchange) -> web.Response:
        query = exchange.request.query
        newest_s = self._store.clock.now() - self._listing_lag_s
        listed = [video for video in self._store.videos.values() if video.container.created_s <= newest_s]
        videos = [video for video in listed if matches(video, query)]
        sort_videos(videos, query)
        return self._lister.page(exchange, videos, lambda video: video_view(video, self._assets))

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
        if self._restores:
            await self._store.discard(video)
        else:
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
        now = self._store.clock.now()
        tokens = [token for token in self._store.tokens.upload_tokens.values() if token.is_live(now)]
        keys: dict[str, Callable[[UploadToken], Any]] = {
            "createdAt": lambda token: token.created_s,
            "ttl": lambda token: token.ttl_s or float("inf"),
        }
        sort(tokens, exchange.request.query, keys)
        return self._lister.page(exchange, tokens, upload_token_view)

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
