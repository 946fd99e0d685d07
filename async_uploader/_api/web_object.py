"""Objects on the web, read by ranges over HTTP(S) (RFC 9110, section 14).

The URL is requested as it was given, byte for byte: a presigned query must survive. It appears in no message.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Final, Self
from urllib.parse import unquote

import aiohttp
from yarl import URL

from async_uploader._errors import ConfigurationError, SourceError, SourceUnavailable
from async_uploader._limits import KIB
from async_uploader._parsing import single_line
from async_uploader._sources.remote import unreadable
from async_uploader._urls import display_url, url_digest

from .base_url import environment_proxy
from .body_receiver import receive_body
from .transport_errors import CONNECT_TIMEOUT_SECONDS, translate

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_TRANSIENT: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_MISSING: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
# aiohttp pauses a connection that has twice as many bytes buffered. With its default of 64 KiB, that happens so
# often that it takes a tenth more CPU time.
_BUFFER_BYTES: Final = 256 * KIB
# Compressed contents have other ranges than the file.
_HEADERS: Final = {"Accept-Encoding": "identity"}


class WebObject:
    """An object on the web. :meth:`open` checks it and creates the instance.

    :ivar name: the last segment of its path
    :ivar display_name: its URL, without query and credentials
    :ivar identity: a digest of its URL
    :ivar version: its ETag, or the time of its last change; empty if the server states neither
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self.display_name = display_url(str(url))
        self.identity = url_digest(str(url))
        self.name = unquote(url.raw_path.rstrip("/").rpartition("/")[2]) or url.host or "download"
        self.size_bytes = 0
        self.version = ""
        self._etag: str | None = None

    @classmethod
    async def open(cls, text: str) -> Self:
        """Request the first byte of an object.

        :raises ConfigurationError: the URL is invalid
        :raises SourceError: the object is missing, access was denied, or it cannot be read by ranges
        :raises SourceUnavailable: a retry may succeed
        """
        try:
            url = URL(text, encoded=True)
        except ValueError:
            url = URL()
        if not url.host:
            # The text may contain a signature, so it is not quoted.
            raise ConfigurationError("The URL of the source is invalid; expected https://HOST/PATH.")
        web_object = cls(url)
        await web_object._open_session()
        try:
            await web_object._inspect()
        except BaseException:
            await web_object.aclose()
            raise
        return web_object

    async def _open_session(self) -> None:
        self._proxy, self._proxy_headers = environment_proxy(self._url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            # The reader limits the time without bytes.
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_SECONDS),
            auto_decompress=False,
            read_bufsize=_BUFFER_BYTES,
            cookie_jar=aiohttp.DummyCookieJar(),
            requote_redirect_url=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _inspect(self) -> None:
        try:
            async with self._get({"Range": "bytes=0-0"}) as response:
                self._check_status(response)
                size = _total_bytes(response)
                if size is None and response.content_length == 0:
                    raise self._is_empty()
                if size is None:
                    raise SourceError(
                        f"The server of {self.display_name} does not support range requests. Download "
                        "the file first, or pipe it to `async-uploader upload -`."
                    )
                self.size_bytes, self.version = size, _version_of(response.headers)
                etag = response.headers.get("ETag", "")
                self._etag = etag if etag.startswith('"') else None  # a weak one never matches
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            failure = self._failure(exc)
        else:
            return
        raise failure

    async def read(self, offset: int, size_bytes: int) -> AsyncGenerator[bytes | memoryview, None]:
        """Read a range, in chunks of any size."""
        headers = {"Range": f"bytes={offset}-{offset + size_bytes - 1}"}
        if self._etag is not None:
            headers["If-Match"] = self._etag
        try:
            async with self._get(headers) as response:
                self._check_status(response)
                self._check_range(response, offset, size_bytes)
                async with aclosing(receive_body(response)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            failure = self._failure(exc)
        else:
            return
        raise failure  # outside the handler: the exception of aiohttp contains the URL

    def _check_range(self, response: aiohttp.ClientResponse, offset: int, size_bytes: int) -> None:
        # Some servers ignore the condition.
        if _version_of(response.headers) != self.version or _total_bytes(response) not in (None, self.size_bytes):
            raise self._changed()
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        is_range = match is not None and response.status == HTTPStatus.PARTIAL_CONTENT
        if match is None or not is_range or int(match[1]) != offset or int(match[2]) < offset + size_bytes - 1:
            raise SourceUnavailable(
                f"{self.display_name} cannot be read: its server sent other bytes than the requested range."
            )

    def _get(self, headers: Mapping[str, str]) -> aiohttp.client._RequestContextManager:
        return self._session.get(
            self._url, headers={**_HEADERS, **headers}, proxy=self._proxy, proxy_headers=self._proxy_headers
        )

    def _check_status(self, response: aiohttp.ClientResponse) -> None:
        status, name = response.status, self.display_name
        if status == HTTPStatus.PRECONDITION_FAILED:
            raise self._changed()
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            is_empty = response.headers.get("Content-Range", "").endswith("/0") or not self.size_bytes
            raise self._is_empty() if is_empty else self._changed()
        if status in _MISSING:
            raise SourceError(f"{name} does not exist.")
        if status in _DENIED:
            raise unreadable(f"Access to {name} was denied; the URL may have expired.")
        if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise SourceUnavailable(f"{name} cannot be read: its server responded with {status}.")
        if not 200 <= status < 300:
            raise unreadable(f"{name} cannot be read: its server responded with {status}.")
        if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise SourceError(f"{name} cannot be read: its server compresses it ({single_line(encoding)}).")

    def _is_empty(self) -> SourceError:
        return SourceError(f"{self.display_name} is empty; there is nothing to upload.")

    def _changed(self) -> SourceError:
        return SourceError(f"{self.display_name} has changed during the upload.")

    def _failure(self, exc: Exception) -> SourceError:
        if isinstance(exc, aiohttp.TooManyRedirects):
            return SourceError(f"{self.display_name} cannot be read: its server redirects too many times.")
        error = translate(exc)
        reason = f"{self.display_name} cannot be read: {error.reason}."
        return SourceUnavailable(reason) if error.retryable else unreadable(reason)


def _total_bytes(response: aiohttp.ClientResponse) -> int | None:
    """The size of the object; None if the response is no range of it."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(match[3]) if match and response.status == HTTPStatus.PARTIAL_CONTENT else None


def _version_of(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or headers.get("Last-Modified", "")
