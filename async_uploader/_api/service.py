"""api.video's endpoints, a method each: one request, one answer, one typed result or one error.

Credentials are handled here (a 401 that a new bearer token cures is not seen outside), headers are spelled
here, and nothing else is tried twice here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from copy import copy
from functools import partial
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from msgspec import Struct

from async_uploader._errors import ApiError, ConfigurationError, TransportError, UploaderError
from async_uploader._flow.rate_limit import RateLimiter
from async_uploader._limits import TOKEN_TTL_SECONDS
from async_uploader._models import UploadToken, Video, VideoStatus
from async_uploader._options import DEFAULT_STALL_TIMEOUT_SECONDS
from async_uploader._parsing import credential, identifier, number, whole_number
from async_uploader._plan import Part
from async_uploader.events import RequestKind

from .credentials import ApiKey, Bearer, DelegatedToken, TokenPair, login_refused
from .http import Http, Response
from .multipart import BlockPool, PartBody
from .part_request import PartObserver, PartRequest
from .stall import StallDetector

M = TypeVar("M")

log: Final = logging.getLogger("async_uploader")

# A token can expire again while the next request waits for its turn; this often in a row, it is no accident.
_MAX_RENEWALS: Final = 3
# With an upload token the body itself names the video, so that ``100 Continue`` comes before the service can
# refuse. This long its file is held back after that: a few round trips.
_HOLD_SECONDS: Final = 0.5


class PartResponse(Struct, frozen=True, kw_only=True):
    """A 2xx to a part.

    :param video: the whole Video, where the answer has one: only the completing request's has
    """

    status: int
    video_id: str | None
    video: Video | None


def part_range(part: Part) -> str:
    """``Content-Range`` of a progressive part; the last one tells the total by being it."""
    return f"part {part.number}/{part.number if part.last else '*'}"


def byte_range(part: Part, total_bytes: int) -> str:
    """``Content-Range`` of a range of bytes, both ends inclusive."""
    return f"bytes {part.offset}-{part.end - 1}/{total_bytes}"


class Service:
    """The service, as one credential sees it."""

    def __init__(
        self,
        http: Http,
        credential: ApiKey | DelegatedToken,
        limiter: RateLimiter,
        *,
        stall_seconds: float = DEFAULT_STALL_TIMEOUT_SECONDS,
    ) -> None:
        self._http = http
        self._limiter = limiter
        self._stall_seconds = stall_seconds
        self._pool = BlockPool()
        self._upload_token: str | None = None
        # Shared with the copies of `with_stall()`, as the login is.
        self._waiting_for_login: set[StallDetector] = set()
        self._bearer: Bearer | None = None
        if isinstance(credential, ApiKey):
            key = credential.secret
            self._bearer = Bearer(log_in=lambda: self._log_in(key), refresh=self._refresh)
        else:
            self._upload_token = credential.secret

    @property
    def delegated(self) -> bool:
        """Whether there is only an upload token, which can create and fill one container, and see nothing."""
        return self._bearer is None

    def with_stall(self, stall_seconds: float) -> Self:
        """The same service, token and pool, with another limit on standstill."""
        other = copy(self)
        other._stall_seconds = stall_seconds  # noqa: SLF001 - its own kind
        return other

    async def _log_in(self, key: str) -> TokenPair:
        try:
            return await self._pair("auth/api-key", {"apiKey": key})
        except ApiError as exc:
            raise (login_refused(exc) if exc.status in (400, 401, 403) else exc) from exc

    async def _refresh(self, token: str) -> TokenPair:
        return await self._pair("auth/refresh", {"refreshToken": token})

    async def _pair(self, path: str, body: Mapping[str, str]) -> TokenPair:
        # No limit of its own: those that wait for it have theirs, see _token.
        answer = await self._http.exchange(
            "POST",
            path,
            json_body=body,
            stall_seconds=math.inf,
            on_moved=self._login_moved,
            secrets=tuple(body.values()),
        )
        pair = answer.raise_for_status().json()
        access = credential(pair.get("access_token"))
        if access is None:
            raise _unreadable(answer, "a bearer token")
        ttl_seconds = number(pair.get("expires_in")) or 0.0
        return TokenPair(
            access=access,
            refresh=credential(pair.get("refresh_token")),
            expires_in_seconds=ttl_seconds if ttl_seconds > 0 else TOKEN_TTL_SECONDS,
        )

    async def _token(self, bearer: Bearer, *, refused: str | None = None) -> str:
        # The first caller renews the token for all. Each has a stall timeout of its own, and all see the login's
        # bytes move.
        watch = StallDetector(self._stall_seconds)
        self._waiting_for_login.add(watch)
        try:
            with watch:
                return await bearer.token(refused=refused)
        finally:
            self._waiting_for_login.discard(watch)

    def _login_moved(self) -> None:
        for watch in self._waiting_for_login:
            watch.moved()

    async def _call(
        self,
        kind: RequestKind,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        open_body: Callable[[], AbstractAsyncContextManager[PartBody | None]] = nullcontext,
        on_sending: Callable[[], None] = lambda: None,
        **request: Any,
    ) -> Response:
        async def send(secret: str, authorization: Mapping[str, str]) -> Response:
            on_sending()
            async with open_body() as body:
                answer = await self._http.exchange(
                    method,
                    path,
                    headers={**(headers or {}), **authorization},
                    body=body,
                    stall_seconds=self._stall_seconds,
                    secrets=(secret,),
                    **request,
                )
            self._limiter.learn(kind, answer.status, answer.headers)
            return answer

        if self._bearer is None:
            return (await send(self._upload_token or "", {})).raise_for_status()
        token = await self._token(self._bearer)
        answer = await send(token, {"Authorization": f"Bearer {token}"})
        for _ in range(_MAX_RENEWALS):
            if answer.status != 401:
                break
            token = await self._token(self._bearer, refused=token)
            answer = await send(token, {"Authorization": f"Bearer {token}"})
        return answer.raise_for_status()

    def _needs_key(self) -> None:
        if self.delegated:
            raise ConfigurationError("An upload token can only upload; this needs an API key (APIVIDEO_API_KEY).")

    async def create_video(
        self, payload: Mapping[str, Any], *, on_sending: Callable[[], None] = lambda: None
    ) -> Video:
        """``POST /videos``: a container; with a ``source``, one that the service fills by itself.

        :param on_sending: called when there is a token and the request goes out: from then on it may take effect
        """
        self._needs_key()
        return _video(
            await self._call(RequestKind.WRITE, "POST", "videos", json_body=payload, on_sending=on_sending)
        )

    async def update_video(self, video_id: str, payload: Mapping[str, Any]) -> Video:
        """``PATCH /videos/{videoId}``."""
        self._needs_key()
        return _video(await self._call(RequestKind.WRITE, "PATCH", _path("videos", video_id), json_body=payload))

    async def get_video(self, video_id: str) -> Video:
        """``GET /videos/{videoId}``."""
        self._needs_key()
        return _video(await self._call(RequestKind.READ, "GET", _path("videos", video_id)), is_read=True)

    async def list_videos(self, query: Mapping[str, str | list[str]]) -> tuple[list[Video], int | None]:
        """``GET /videos``: a page, and how many pages there are, if the service says so."""
        self._needs_key()
        return _page(await self._call(RequestKind.READ, "GET", "videos", query=query), Video.from_response)

    async def delete_video(self, video_id: str) -> None:
        """``DELETE /videos/{videoId}``."""
        self._needs_key()
        await self._call(RequestKind.WRITE, "DELETE", _path("videos", video_id))

    async def get_status(self, video_id: str) -> VideoStatus:
        """``GET /videos/{videoId}/status``."""
        self._needs_key()
        answer = await self._call(RequestKind.READ, "GET", _path("videos", video_id, "status"))
        told = answer.json()
        if not told:
            raise _unreadable(answer, "a status", is_read=True)
        return VideoStatus.from_response(told)

    async def send_part(self, request: PartRequest, observer: PartObserver) -> PartResponse:
        """``POST /videos/{videoId}/source``, or ``POST /upload`` with an upload token."""
        video_id = request.video_id
        headers = {"Content-Range": request.content_range}
        if request.expect_continue:
            headers["Expect"] = "100-continue"
        answer = await self._call(
            RequestKind.UPLOAD,
            "POST",
            _path("videos", video_id or "", "source") if not self.delegated else "upload",
            query={"token": self._upload_token} if self._upload_token else None,
            headers=headers,
            open_body=partial(self._open_body, request, observer),
        )
        told = answer.json()
        told_id = identifier(told.get("videoId"))
        # Not every 2xx to a part is a Video; one that has a title and assets is. One of another id is not ours.
        is_video = told_id is not None and video_id in (None, told_id) and {"title", "assets"} <= told.keys()
        return PartResponse(
            status=answer.status,
            video_id=told_id,
            video=Video.from_response(told) if is_video else None,
        )

    @asynccontextmanager
    async def _open_body(self, request: PartRequest, observer: PartObserver) -> AsyncIterator[PartBody]:
        """Open the part and give a body for one HTTP request."""
        form_fields = {"videoId": request.video_id} if self.delegated and request.video_id else {}
        may_refuse = bool(form_fields) and request.expect_continue
        async with request.source.open() as reader:
            body = PartBody(
                reader,
                size_bytes=request.source.part.size_bytes,
                filename=request.filename,
                form_fields=form_fields,
                pool=self._pool,
                observer=observer,
                hold_seconds=min(_HOLD_SECONDS, self._stall_seconds / 4) if may_refuse else 0.0,
            )
            observer.body_started(body)
            try:
                with self._pool.part():
                    yield body
            finally:
                observer.body_ended(body)

    async def create_upload_token(self, ttl_seconds: int) -> UploadToken:
        """``POST /upload-tokens``; 0 = for ever."""
        self._needs_key()
        answer = await self._call(RequestKind.WRITE, "POST", "upload-tokens", json_body={"ttl": ttl_seconds})
        return _token(answer)

    async def list_upload_tokens(
        self, query: Mapping[str, str | list[str]]
    ) -> tuple[list[UploadToken], int | None]:
        """``GET /upload-tokens``: a page, and how many pages there are, if the service says so."""
        self._needs_key()
        return _page(
            await self._call(RequestKind.READ, "GET", "upload-tokens", query=query), UploadToken.from_response
        )

    async def get_upload_token(self, token: str) -> UploadToken:
        """``GET /upload-tokens/{uploadToken}``."""
        self._needs_key()
        return _token(await self._call(RequestKind.READ, "GET", _path("upload-tokens", token)), is_read=True)

    async def delete_upload_token(self, token: str) -> None:
        """``DELETE /upload-tokens/{uploadToken}``."""
        self._needs_key()
        await self._call(RequestKind.WRITE, "DELETE", _path("upload-tokens", token))


def _path(*segments: str) -> str:
    # An id is one segment, whatever is in it; "." and ".." would not survive as one.
    try:
        if {"", ".", ".."} & set(segments):
            raise ValueError("no segment")
        return "/".join(quote(segment, safe="") for segment in segments)
    except ValueError as exc:  # also of quote(), for a lone surrogate: an argument that is not UTF-8
        raise ConfigurationError(f"{segments[1]!r} is not an id of the service.") from exc


def _video(answer: Response, *, is_read: bool = False) -> Video:
    told = answer.json()
    if identifier(told.get("videoId")) is None:
        raise _unreadable(answer, "a video", is_read=is_read)
    return Video.from_response(told)


def _token(answer: Response, *, is_read: bool = False) -> UploadToken:
    told = answer.json()
    if credential(told.get("token")) is None:
        raise _unreadable(answer, "an upload token", is_read=is_read)
    return UploadToken.from_response(told)


def _page(answer: Response, read: Callable[[Mapping[str, Any]], M]) -> tuple[list[M], int | None]:
    told = answer.json()
    data, pagination = told.get("data"), told.get("pagination")
    if not isinstance(data, list):
        raise _unreadable(answer, "a list", is_read=True)
    pages = pagination.get("pagesTotal") if isinstance(pagination, dict) else None
    return list(_items(data, read)), whole_number(pages)


def _items(data: list[Any], read: Callable[[Mapping[str, Any]], M]) -> Iterator[M]:
    """The items that can be read. One that has no id is of no use, and no reason to lose the others."""
    for item in data:
        try:
            yield read(item)
        except UploaderError as exc:
            log.warning("An item of the service's list is left out: %s", exc)


def _unreadable(answer: Response, expected: str, *, is_read: bool = False) -> UploaderError:
    """The error for a 2xx whose body is not what was expected: a proxy's page, say. Reads can be repeated."""
    reason = f"{answer.status} with something that is not {expected}; check the base URL"
    if is_read:
        return TransportError(reason, maybe_received=True, unreadable=True)
    return UploaderError(f"The service answered {reason}.")
