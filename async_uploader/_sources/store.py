"""Objects in S3, Google Cloud Storage and Azure, by obstore (the extra ``remote``).

Credentials, region and endpoint come from the variables that the stores' own tools use, such as
``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``. Our messages never quote obstore's, which may contain signed URLs.

obstore runs requests in its own threads, which do not survive a fork. When a call ends or is cancelled, its thread
still has to release the call's future, for which it needs the interpreter. If the interpreter is being finalized
at that moment, the process aborts. So every function here waits until its calls' futures are released.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from async_uploader._errors import ConfigurationError, SourceError, SourceUnavailable
from async_uploader._parsing import single_line
from async_uploader._urls import display_url

from .remote import Chunk, unreadable

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ObjectStore

T = TypeVar("T")

# Each chunk of a response wakes up the event loop: chunks of 128 KiB take a fifth more CPU time. obstore joins
# each chunk from the pieces that it received, so a response holds it twice: 512 KiB take 10 MB more for 8 parts.
_CHUNK_BYTES: Final = 256 * 1024
# obstore's default of 30 s covers a whole response. Reads have a timeout of their own.
_CLIENT_OPTIONS: Final[Mapping[str, Any]] = {"timeout": "24h", "connect_timeout": "30s"}
# Variables that allow a plain http:// endpoint. Options given to obstore replace those of its environment.
_ALLOW_HTTP: Final = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
# Retries are up to the upload, which counts and reports them.
_RETRY_CONFIG: Final[Any] = {"max_retries": 0}
_STATUS: Final = re.compile(r"status code: (\d{3})")
_DENIED: Final = frozenset({401, 403})
_NOT_FOUND: Final = 404
_UNSATISFIABLE: Final = 416
# An empty object has no first byte. Azurite responds with a range that ends before it starts.
_EMPTY: Final = re.compile(rf"status code: {_UNSATISFIABLE}\b|\bbytes 0--1/0\b")
# Without credentials, obstore asks the metadata service of cloud machines.
_NO_CREDENTIALS: Final = re.compile(r"Error performing (GET|PUT) http://(169\.254\.|metadata\.google\.)")
_CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
# Causes of failed connections, by words of obstore's messages. The first ones do not pass.
_BAD_CONNECTIONS: Final = (
    ("BadScheme", "plain HTTP is not allowed; set {allow_http} to true"),
    ("InvalidCertificate", "its certificate is not trusted; set SSL_CERT_FILE to trust a CA of your own"),
)
_LOST_CONNECTIONS: Final = (
    ("ConnectionRefused", "the connection was refused"),
    ("dns error", "its host name cannot be resolved"),
)
# Some tools store the transfer encoding of the upload request in the metadata of the object.
_NOT_COMPRESSED: Final = ("", "identity", "aws-chunked")
_TRANSIENT_STATUSES: Final = frozenset({408, 429})
# A manifest rarely has objects of more buckets at the same time.
_MAX_STORES: Final = 8
# The longest wait for a thread to release a future. Usually it takes a millisecond.
_RELEASE_SECONDS: Final = 0.5
_RELEASE_POLL_SECONDS: Final = 0.001
# The process that has used obstore; two of them in a forked process.
_processes: Final[set[int]] = set()


class StoreObject:
    """An object in a store."""

    def __init__(self, store: ObjectStore, key: str, *, display_name: str, meta: Mapping[str, Any]) -> None:
        self._store = store
        self._key = key
        self._etag: str | None = meta.get("e_tag")
        self.name = key.rstrip("/").rpartition("/")[2]
        self.display_name = self.identity = display_name
        self.size_bytes: int = meta["size"]
        self.version = _version_of(meta)

    @classmethod
    async def open(cls, store: ObjectStore, key: str, *, display_name: str) -> StoreObject:
        """Find an object.

        :raises SourceError: it is missing, or access was denied
        :raises SourceUnavailable: a retry may succeed
        :raises ConfigurationError: this process was forked from one that has used obstore
        """
        import obstore  # noqa: PLC0415 - an extra

        check_process()
        try:
            # Not HEAD: some servers refuse it, and signed requests may allow only GET.
            result = await _completed(obstore.get_async(store, key, options={"range": (0, 1)}))
        except Exception as exc:  # noqa: BLE001 - translated
            empty = SourceError(f"{display_name} is empty; there is nothing to upload.")
            failure = empty if _EMPTY.search(str(exc)) else None
            failure = failure or translate_error(exc, display_name)
        else:
            return cls._checked(store, key, display_name=display_name, result=result)
        raise failure  # outside the handler: the exception of obstore may contain a signed URL

    @classmethod
    def _checked(cls, store: ObjectStore, key: str, *, display_name: str, result: GetResult) -> StoreObject:
        if (encoding := result.attributes.get("Content-Encoding", "identity")) not in _NOT_COMPRESSED:
            raise SourceError(f"{display_name} cannot be read: it is stored compressed ({single_line(encoding)}).")
        return cls(store, key, display_name=display_name, meta=result.meta)

    async def aclose(self) -> None:
        """Do nothing: obstore closes its connections."""

    async def read(self, offset: int, size_bytes: int) -> AsyncGenerator[Chunk, None]:
        """Read a range, in chunks of any size."""
        import obstore  # noqa: PLC0415 - an extra

        options: Any = {"range": (offset, offset + size_bytes)}
        if self._etag is not None and not self._etag.startswith("W/"):
            options["if_match"] = self._etag
        try:
            result = await _completed(obstore.get_async(self._store, self._key, options=options))
            # Some servers ignore the condition.
            if _version_of(result.meta) != self.version or result.meta["size"] != self.size_bytes:
                raise changed(self.display_name)
            if tuple(result.range) != (offset, offset + size_bytes):
                raise SourceUnavailable(
                    f"{self.display_name} cannot be read: the store sent other bytes than the requested range."
                )
            async with aclosing(released_items(result.stream(min_chunk_size=_CHUNK_BYTES))) as chunks:
                async for chunk in chunks:
                    yield memoryview(chunk).cast("B")
        except SourceError:
            raise
        except Exception as exc:  # noqa: BLE001 - translated
            failure = translate_error(exc, self.display_name)
        else:
            return
        raise failure


def split_store_url(url: str, *, needs_key: bool) -> tuple[str, str, str]:
    """The scheme, bucket and key of a URL such as ``s3://BUCKET/KEY``.

    :raises ConfigurationError: it has no bucket, or no key where one is needed
    """
    scheme, _, path = url.partition("://")
    # Not by urlsplit(): keys may contain "?" and "#".
    bucket, _, key = path.partition("/")
    if "@" in bucket:
        # They would appear in messages, and nothing would use them.
        raise ConfigurationError(
            f"{display_url(url)}: credentials in the URL are not supported; use the variables of the store."
        )
    if not bucket:
        raise ConfigurationError(f"{url!r} names no bucket; expected {scheme}://BUCKET/KEY.")
    if needs_key and not key.strip("/"):
        raise ConfigurationError(f"{url!r} names no object; expected {scheme}://BUCKET/KEY.")
    return scheme.lower(), bucket, key


def check_store_url(url: str) -> None:
    """Check what can be checked without a request.

    :raises ConfigurationError: as in :func:`open_store_object`
    """
    scheme, bucket, _ = split_store_url(url, needs_key=True)
    store_of(scheme, bucket)


async def open_store_object(url: str) -> StoreObject:
    """The object of a URL such as ``s3://BUCKET/KEY``. The environment configures the store.

    :raises ConfigurationError: the URL is malformed, obstore is not installed, or its configuration is unusable
    :raises SourceError: the object is missing, or access was denied
    :raises SourceUnavailable: a retry may succeed
    """
    scheme, bucket, key = split_store_url(url, needs_key=True)
    return await StoreObject.open(store_of(scheme, bucket), key, display_name=f"{scheme}://{bucket}/{key}")


def store_of(scheme: str, bucket: str) -> ObjectStore:
    """The store of a bucket, configured by the environment.

    :raises ConfigurationError: obstore is not installed, or its configuration is unusable
    """
    # By its hash, so that no secret is kept here.
    return _store_of(scheme, bucket, hash(frozenset(os.environ.items())))


@lru_cache(maxsize=_MAX_STORES)
def _store_of(scheme: str, bucket: str, _environment: int) -> ObjectStore:
    """A store has connections, and credentials of the cloud's machine, which all of its objects share."""
    try:
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            f"Sources in {scheme}:// need the extra 'remote'; run: pip install 'async-uploader[remote]'."
        ) from None
    options: Any = dict(_CLIENT_OPTIONS)
    if os.environ.get(_ALLOW_HTTP[scheme], "").lower() in ("1", "true", "yes"):
        options["allow_http"] = True
    try:
        return from_url(f"{scheme}://{bucket}", client_options=options, retry_config=_RETRY_CONFIG)
    except Exception:  # noqa: BLE001 - of obstore, for each store a different one; its text may contain a secret
        raise ConfigurationError(
            f"{scheme}://{bucket} cannot be used with the configuration of the environment; check "
            f"{_CREDENTIALS[scheme]}."
        ) from None


async def _completed(call: Awaitable[T]) -> T:
    """The result of a call of obstore, once its future is released."""
    future = weakref.ref(call)
    try:
        return await call
    finally:
        del call
        await _released(future)


async def released_items(stream: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The items of a stream of obstore. Ends once the future of the last call is released."""
    call: Awaitable[Any] | None = None
    try:
        with suppress(StopAsyncIteration):
            while True:
                call = stream.__anext__()
                yield await call
    finally:
        if call is not None:
            future, call = weakref.ref(call), None
            await _released(future)


async def _released(future: Callable[[], object]) -> None:
    """Wait until obstore's thread has dropped its reference to a future, the last one."""
    with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
        while future() is not None:  # noqa: ASYNC110 - a dropped reference sets no event
            await anyio.sleep(_RELEASE_POLL_SECONDS)


def check_process() -> None:
    """Record that this process uses obstore.

    :raises ConfigurationError: it was forked from one that has used obstore
    """
    _processes.add(os.getpid())
    if len(_processes) > 1:
        raise ConfigurationError(
            "Object stores cannot be used in a forked process after they were used in its parent. "
            "Start processes with the method 'spawn' of multiprocessing."
        )


def changed(display_name: str) -> SourceError:
    """The object is not the one that was opened."""
    return SourceError(f"{display_name} has changed during the upload.")


def _version_of(meta: Mapping[str, Any]) -> str:
    return str(meta.get("version") or meta.get("e_tag") or meta["last_modified"])


def translate_error(exc: Exception, display_name: str) -> SourceError:
    """Translate an exception of obstore, without quoting it."""
    from obstore import exceptions  # noqa: PLC0415 - an extra

    text, scheme = str(exc), display_name.partition("://")[0].lower()
    if _NO_CREDENTIALS.search(text):
        names = _CREDENTIALS.get(scheme, "the credentials of the store")
        return unreadable(f"Access to {display_name} was denied: no credentials were found; set {names}.")
    status = next(map(int, _STATUS.findall(text)), None)
    if isinstance(exc, exceptions.PreconditionError) or status == _UNSATISFIABLE:
        return changed(display_name)
    if isinstance(exc, FileNotFoundError | exceptions.NotFoundError) or status == _NOT_FOUND:
        return SourceError(f"{display_name} does not exist.")
    is_denied = isinstance(exc, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError)
    if is_denied or status in _DENIED:  # of a listing, obstore does not classify errors
        return unreadable(f"Access to {display_name} was denied; check the credentials of the store.")
    if status is None:
        return _connection_failure(text, display_name, allow_http=_ALLOW_HTTP.get(scheme, "allow_http"))
    is_transient = status >= 500 or status in _TRANSIENT_STATUSES
    reason = f"{display_name} cannot be read: the store responded with {status}."
    return SourceUnavailable(reason) if is_transient else unreadable(reason)


def _connection_failure(text: str, display_name: str, *, allow_http: str) -> SourceError:
    """The error of a request without a response.

    :param text: the message of obstore
    :param allow_http: the setting that allows plain HTTP
    """
    prefix = f"{display_name} cannot be read: "
    for words, reason in _BAD_CONNECTIONS:
        if words in text:
            return unreadable(f"{prefix}{reason.format(allow_http=allow_http)}.")
    reasons = (reason for words, reason in _LOST_CONNECTIONS if words in text)
    return SourceUnavailable(f"{prefix}{next(reasons, 'no usable response from the store')}.")
