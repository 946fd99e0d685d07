"""api.video's endpoints, a method each: one request, one answer, one typed result or one error.

Credentials are handled here (a 401 that a new bearer token cures is not seen outside), headers are spelled
here, and nothing else is tried twice here.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from copy import copy
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from msgspec import Struct

from ._body import BlockPool, PartBody
from ._credentials import ApiKey, Bearer, DelegatedToken, TokenPair, login_refused
from ._errors import ApiError, ConfigurationError, UploaderError
from ._http import Answer, Http
from ._limits import TOKEN_TTL_SECONDS
from ._meter import Meter
from ._models import UploadToken, Video, VideoStatus
from ._options import DEFAULT_STALL_TIMEOUT_SECONDS
from ._plan import Part
from ._ratelimit import Kind, RateLimiter
from ._source import Piece
from ._watch import StallWatch

M = TypeVar("M")

# A token can expire again while the next request waits for its turn; this often in a row, it is no accident.
_MAX_RENEWALS: Final = 3
# With an upload token the body itself names the video, so that ``100 Continue`` comes before the service can
# refuse. This long its file is held back after that: a few round trips.
_HOLD_SECONDS: Final = 0.5


class PartAnswer(Struct, frozen=True, kw_only=True):
    """A 2xx to a part.

    :param video: the whole Video, where the answer has one: only the completing request's has
    """

    status: int
    video_id: str | None
    video: Video | None


class _PartToSend(Struct, kw_only=True):
    """A part as often as it takes: opened and read again for each body."""

    piece: Piece
    filename: str
    form_fields: Mapping[str, str]
    pool: BlockPool
    on_sent: Callable[[int], None]
    meter: Meter
    on_connection: Callable[[int], None]
    hold_seconds: float
    _sent_bytes: int = 0

    @asynccontextmanager
    async def body(self) -> AsyncIterator[PartBody]:
        """A body for one request. What an earlier one had sent counts as not sent."""
        self.on_sent(-self._sent_bytes)
        self._sent_bytes = 0
        async with self.piece.open() as reader:
            body = PartBody(
                reader,
                size_bytes=self.piece.part.size_bytes,
                filename=self.filename,
                form_fields=self.form_fields,
                pool=self.pool,
                on_sent=self._count,
                hold_seconds=self.hold_seconds,
            )
            try:
                with self.meter.counting(body), self.pool.part():
                    yield body
            finally:
                if body.transport is not None and (name := body.transport.get_extra_info("sockname")):
                    self.on_connection(name[1])

    def _count(self, count_bytes: int) -> None:
        self._sent_bytes += count_bytes
        self.on_sent(count_bytes)


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
        # No limit of its own: see _token.
        answer = await self._http.exchange("POST", path, json_body=body, stall_seconds=math.inf)
        pair = answer.raise_for_status().json()
        access, refresh, ttl = (pair.get(key) for key in ("access_token", "refresh_token", "expires_in"))
        if not isinstance(access, str):
            raise _unreadable(answer, "a bearer token")
        return TokenPair(
            access=access,
            refresh=refresh if isinstance(refresh, str) else None,
            expires_in_seconds=ttl if isinstance(ttl, int | float) else TOKEN_TTL_SECONDS,
        )

    async def _token(self, bearer: Bearer, *, refused: str | None = None) -> str:
        # Whoever comes first renews the token for all, and each of them has a patience of its own.
        with StallWatch(self._stall_seconds):
            return await bearer.token(refused=refused)

    async def _call(
        self,
        kind: Kind,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        part: _PartToSend | None = None,
        on_sending: Callable[[], None] = lambda: None,
        **request: Any,
    ) -> Answer:
        async def send(authorization: Mapping[str, str]) -> Answer:
            on_sending()
            async with part.body() if part else nullcontext() as body:
                answer = await self._http.exchange(
                    method,
                    path,
                    headers={**(headers or {}), **authorization},
                    body=body,
                    stall_seconds=self._stall_seconds,
                    **request,
                )
            self._limiter.learn(kind, answer.status, answer.headers)
            return answer

        if self._bearer is None:
            return (await send({})).raise_for_status()
        token = await self._token(self._bearer)
        answer = await send({"Authorization": f"Bearer {token}"})
        for _ in range(_MAX_RENEWALS):
            if answer.status != 401:
                break
            token = await self._token(self._bearer, refused=token)
            answer = await send({"Authorization": f"Bearer {token}"})
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
        return _video(await self._call(Kind.WRITE, "POST", "videos", json_body=payload, on_sending=on_sending))

    async def update_video(self, video_id: str, payload: Mapping[str, Any]) -> Video:
        """``PATCH /videos/{videoId}``."""
        self._needs_key()
        return _video(await self._call(Kind.WRITE, "PATCH", _path("videos", video_id), json_body=payload))

    async def get_video(self, video_id: str) -> Video:
        """``GET /videos/{videoId}``."""
        self._needs_key()
        return _video(await self._call(Kind.READ, "GET", _path("videos", video_id)))

    async def list_videos(self, query: Mapping[str, str | list[str]]) -> tuple[list[Video], int]:
        """``GET /videos``: a page, and how many pages there are."""
        self._needs_key()
        return _page(await self._call(Kind.READ, "GET", "videos", query=query), Video.from_answer)

    async def delete_video(self, video_id: str) -> None:
        """``DELETE /videos/{videoId}``."""
        self._needs_key()
        await self._call(Kind.WRITE, "DELETE", _path("videos", video_id))

    async def get_status(self, video_id: str) -> VideoStatus:
        """``GET /videos/{videoId}/status``."""
        self._needs_key()
        answer = await self._call(Kind.READ, "GET", _path("videos", video_id, "status"))
        return VideoStatus.from_answer(answer.json())

    async def send_part(
        self,
        piece: Piece,
        *,
        content_range: str,
        filename: str,
        video_id: str | None,
        expect_continue: bool,
        on_sent: Callable[[int], None],
        meter: Meter,
        on_connection: Callable[[int], None],
    ) -> PartAnswer:
        """``POST /videos/{videoId}/source``, or ``POST /upload`` with an upload token.

        :param piece: opened again for each body that is sent
        :param video_id: the container; None with an upload token whose first part this is
        :param expect_continue: let the service refuse before the body leaves (RFC 9110, 10.1.1), for a round
            trip: worth it where a refusal is likely, as on a second try
        :param on_sent: told how many bytes of the part have left; the sum taken back with a negative number
            when the body has to be sent again
        :param meter: counts what has reached the service
        :param on_connection: told, in the end, the local port of the connection that the body went out on
        """
        form_fields = {"videoId": video_id} if self.delegated and video_id else {}
        part = _PartToSend(
            piece=piece,
            filename=filename,
            form_fields=form_fields,
            hold_seconds=min(_HOLD_SECONDS, self._stall_seconds / 4) if form_fields and expect_continue else 0.0,
            pool=self._pool,
            on_sent=on_sent,
            meter=meter,
            on_connection=on_connection,
        )
        answer = await self._call(
            Kind.UPLOAD,
            "POST",
            _path("videos", video_id or "", "source") if not self.delegated else "upload",
            query={"token": self._upload_token} if self._upload_token else None,
            headers={"Content-Range": content_range, **({"Expect": "100-continue"} if expect_continue else {})},
            part=part,
        )
        told = answer.json()
        identifier = told.get("videoId")
        return PartAnswer(
            status=answer.status,
            video_id=identifier if isinstance(identifier, str) else None,
            # Not every 2xx to a part is a Video; one that has a title and assets is.
            video=Video.from_answer(told) if identifier and {"title", "assets"} <= told.keys() else None,
        )

    async def create_upload_token(self, ttl_seconds: int) -> UploadToken:
        """``POST /upload-tokens``; 0 = for ever."""
        self._needs_key()
        answer = await self._call(Kind.WRITE, "POST", "upload-tokens", json_body={"ttl": ttl_seconds})
        return _token(answer)

    async def list_upload_tokens(self, query: Mapping[str, str | list[str]]) -> tuple[list[UploadToken], int]:
        """``GET /upload-tokens``: a page, and how many pages there are."""
        self._needs_key()
        return _page(await self._call(Kind.READ, "GET", "upload-tokens", query=query), UploadToken.from_answer)

    async def get_upload_token(self, token: str) -> UploadToken:
        """``GET /upload-tokens/{uploadToken}``."""
        self._needs_key()
        return _token(await self._call(Kind.READ, "GET", _path("upload-tokens", token)))

    async def delete_upload_token(self, token: str) -> None:
        """``DELETE /upload-tokens/{uploadToken}``."""
        self._needs_key()
        await self._call(Kind.WRITE, "DELETE", _path("upload-tokens", token))


def _path(*segments: str) -> str:
    # An id is one segment, whatever is in it; "." and ".." would not survive as one.
    for segment in segments:
        if segment in ("", ".", ".."):
            raise ConfigurationError(f"{segment!r} is not an id of the service.")
    return "/".join(quote(segment, safe="") for segment in segments)


def _video(answer: Answer) -> Video:
    told = answer.json()
    if not isinstance(told.get("videoId"), str):
        raise _unreadable(answer, "a video")
    return Video.from_answer(told)


def _token(answer: Answer) -> UploadToken:
    told = answer.json()
    if not isinstance(told.get("token"), str):
        raise _unreadable(answer, "an upload token")
    return UploadToken.from_answer(told)


def _page(answer: Answer, read: Callable[[Mapping[str, Any]], M]) -> tuple[list[M], int]:
    told = answer.json()
    data, pagination = told.get("data"), told.get("pagination")
    if not isinstance(data, list):
        raise _unreadable(answer, "a list")
    pages = pagination.get("pagesTotal") if isinstance(pagination, dict) else None
    return [read(item) for item in data], pages if isinstance(pages, int) else 1


def _unreadable(answer: Answer, expected: str) -> UploaderError:
    return UploaderError(
        f"The service answered {answer.status} with something that is not {expected}; check the base URL."
    )
