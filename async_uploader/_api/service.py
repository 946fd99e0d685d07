"""The endpoints of api.video, one method each: one request, and one typed result or one error.

Requests carry credentials, and an expired bearer token is renewed. Nothing else is retried here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from copy import copy
from functools import partial
from typing import Any, Final, Self
from urllib.parse import quote

from async_uploader._errors import ConfigurationError
from async_uploader._flow.bandwidth import Bandwidth
from async_uploader._flow.rate_limit import RateLimiter
from async_uploader._limits import MAX_PAGE_SIZE
from async_uploader._models import UploadToken, Video, VideoStatus
from async_uploader._options import DEFAULT_STALL_TIMEOUT_SECONDS
from async_uploader._plan import Part
from async_uploader._sidecars import Sidecar, SidecarKind
from async_uploader.events import RequestKind

from .credentials import ApiKey, DelegatedToken
from .http import Http, Response
from .login import Login
from .multipart import BlockPool, PartBody
from .part_request import PartObserver, PartRequest
from .responses import (
    PartResponse,
    read_languages,
    read_list_page,
    read_part_response,
    read_status,
    read_upload_token,
    read_video,
)
from .small_body import small_body

# A new token may expire before the request that uses it is sent, but not several times in a row.
_MAX_RENEWALS: Final = 3
# With an upload token, the video's id is a form field. The service reads it only after ``100 Continue``, so it can
# refuse a part only then. The file is therefore held back for a few round trips after the form fields.
_HOLD_SECONDS: Final = 0.5


def part_range(part: Part) -> str:
    """``Content-Range`` of a progressive part. Only the last part states the total."""
    return f"part {part.number}/{part.number if part.last else '*'}"


def byte_range(part: Part, total_bytes: int) -> str:
    """``Content-Range`` of a range of bytes, both ends inclusive."""
    return f"bytes {part.offset}-{part.end - 1}/{total_bytes}"


class Service:
    """The service, used with one credential.

    :param limiter: learns the rate limit from each response
    :param bandwidth: limits the bytes of parts per second; default: no limit
    :param stall_seconds: give up a request after this time without movement
    """

    def __init__(
        self,
        http: Http,
        credential: ApiKey | DelegatedToken,
        limiter: RateLimiter,
        *,
        bandwidth: Bandwidth | None = None,
        stall_seconds: float = DEFAULT_STALL_TIMEOUT_SECONDS,
    ) -> None:
        self._http = http
        self._limiter = limiter
        self._bandwidth = bandwidth
        self._stall_seconds = stall_seconds
        self._pool = BlockPool()
        self._upload_token: str | None = None
        self._login: Login | None = None
        if isinstance(credential, ApiKey):
            self._login = Login(http, credential)
        else:
            self._upload_token = credential.secret

    @property
    def delegated(self) -> bool:
        """Whether the credential is an upload token, which can upload a new video and nothing else."""
        return self._login is None

    def with_stall(self, stall_seconds: float) -> Self:
        """The same service, login and block pool, with another stall timeout."""
        other = copy(self)
        other._stall_seconds = stall_seconds  # noqa: SLF001 - the same class
        return other

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
                response = await self._http.exchange(
                    method,
                    path,
                    headers={**(headers or {}), **authorization},
                    body=body,
                    stall_seconds=self._stall_seconds,
                    secrets=(secret,),
                    **request,
                )
            self._limiter.update(kind, response.status, response.headers)
            return response

        if self._login is None:
            return (await send(self._upload_token or "", {})).raise_for_status()
        token = await self._login.token(stall_seconds=self._stall_seconds)
        response = await send(token, {"Authorization": f"Bearer {token}"})
        for _ in range(_MAX_RENEWALS):
            if response.status != 401:
                break
            token = await self._login.token(stall_seconds=self._stall_seconds, refused=token)
            response = await send(token, {"Authorization": f"Bearer {token}"})
        return response.raise_for_status()

    def _require_api_key(self) -> None:
        if self.delegated:
            raise ConfigurationError("An upload token can only upload; this needs an API key (APIVIDEO_API_KEY).")

    async def create_video(
        self, payload: Mapping[str, Any], *, on_sending: Callable[[], None] = lambda: None
    ) -> Video:
        """``POST /videos``: create a container. If the payload has a ``source``, the service fills it.

        :param on_sending: called right before the request is sent. From then on it may take effect
        """
        self._require_api_key()
        return read_video(
            await self._call(RequestKind.WRITE, "POST", "videos", json_body=payload, on_sending=on_sending)
        )

    async def update_video(self, video_id: str, payload: Mapping[str, Any]) -> Video:
        """``PATCH /videos/{videoId}``."""
        self._require_api_key()
        return read_video(
            await self._call(RequestKind.WRITE, "PATCH", _path("videos", video_id), json_body=payload)
        )

    async def get_video(self, video_id: str) -> Video:
        """``GET /videos/{videoId}``."""
        self._require_api_key()
        return read_video(await self._call(RequestKind.READ, "GET", _path("videos", video_id)), is_read=True)

    async def list_videos(self, query: Mapping[str, str | list[str]]) -> tuple[list[Video], int | None]:
        """``GET /videos``: one page, and the number of pages if the response states it."""
        self._require_api_key()
        return read_list_page(
            await self._call(RequestKind.READ, "GET", "videos", query=query), Video.from_response
        )

    async def delete_video(self, video_id: str) -> None:
        """``DELETE /videos/{videoId}``."""
        self._require_api_key()
        await self._call(RequestKind.WRITE, "DELETE", _path("videos", video_id))

    async def get_status(self, video_id: str) -> VideoStatus:
        """``GET /videos/{videoId}/status``."""
        self._require_api_key()
        return read_status(await self._call(RequestKind.READ, "GET", _path("videos", video_id, "status")))

    async def send_part(self, request: PartRequest, observer: PartObserver) -> PartResponse:
        """``POST /videos/{videoId}/source``, or ``POST /upload`` with an upload token."""
        video_id = request.video_id
        headers = {"Content-Range": request.content_range}
        if request.expect_continue:
            headers["Expect"] = "100-continue"
        response = await self._call(
            RequestKind.UPLOAD,
            "POST",
            _path("videos", video_id or "", "source") if not self.delegated else "upload",
            query={"token": self._upload_token} if self._upload_token else None,
            headers=headers,
            open_body=partial(self._open_body, request, observer),
        )
        return read_part_response(response, video_id)

    @asynccontextmanager
    async def _open_body(self, request: PartRequest, observer: PartObserver) -> AsyncIterator[PartBody]:
        """Open the part, and yield a body for one HTTP request."""
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
                bandwidth=self._bandwidth,
            )
            body.limits_waits = request.source.limits_waits
            body.wait_while_paused = request.wait_while_paused
            observer.body_started(body)
            try:
                with self._pool.part():
                    yield body
            finally:
                observer.body_ended(body)

    async def upload_sidecar(self, video_id: str, sidecar: Sidecar, content: bytes) -> None:
        """``POST /videos/{videoId}/captions/{language}``, ``…/chapters/{language}`` or ``…/thumbnail``."""
        self._require_api_key()
        segments = ("videos", video_id, sidecar.kind, *([sidecar.language] if sidecar.language else []))
        await self._call(
            RequestKind.WRITE,
            "POST",
            _path(*segments),
            open_body=small_body(content, filename=sidecar.path.name, pool=self._pool),
        )

    async def list_languages(self, video_id: str, kind: SidecarKind) -> frozenset[str]:
        """``GET /videos/{videoId}/captions`` or ``…/chapters``: the languages, in lower case."""
        self._require_api_key()
        query = {"pageSize": str(MAX_PAGE_SIZE)}
        return read_languages(
            await self._call(RequestKind.READ, "GET", _path("videos", video_id, kind), query=query)
        )

    async def create_upload_token(self, ttl_seconds: int) -> UploadToken:
        """``POST /upload-tokens``.

        :param ttl_seconds: lifetime of the token; 0: unlimited
        """
        self._require_api_key()
        response = await self._call(RequestKind.WRITE, "POST", "upload-tokens", json_body={"ttl": ttl_seconds})
        return read_upload_token(response)

    async def list_upload_tokens(
        self, query: Mapping[str, str | list[str]]
    ) -> tuple[list[UploadToken], int | None]:
        """``GET /upload-tokens``: one page, and the number of pages if the response states it."""
        self._require_api_key()
        return read_list_page(
            await self._call(RequestKind.READ, "GET", "upload-tokens", query=query), UploadToken.from_response
        )

    async def get_upload_token(self, token: str) -> UploadToken:
        """``GET /upload-tokens/{uploadToken}``."""
        self._require_api_key()
        return read_upload_token(
            await self._call(RequestKind.READ, "GET", _path("upload-tokens", token)), is_read=True
        )

    async def delete_upload_token(self, token: str) -> None:
        """``DELETE /upload-tokens/{uploadToken}``."""
        self._require_api_key()
        await self._call(RequestKind.WRITE, "DELETE", _path("upload-tokens", token))


def _path(*segments: str) -> str:
    # Quoted, an id is always a single segment, except "." and "..", which URLs resolve.
    try:
        if {"", ".", ".."} & set(segments):
            raise ValueError("no segment")
        return "/".join(quote(segment, safe="") for segment in segments)
    except ValueError as exc:  # also from quote(), for a lone surrogate in a command-line argument
        raise ConfigurationError(f"{segments[1]!r} is not a valid id.") from exc
