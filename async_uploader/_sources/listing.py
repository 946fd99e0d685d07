"""Lists the objects below a prefix of a store. Pages are requested as they are needed.

Stores list keys in the order of their UTF-8 bytes, which is the order of Python's strings. A failed request is
repeated from the last key on, so a listing of many pages does not start again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import anyio

from async_uploader._errors import SourceError, SourceUnavailable

from .store import check_process, released_items, split_store_url, store_of, translate_error

if TYPE_CHECKING:
    from obstore.store import ObjectStore

log: Final = logging.getLogger("async_uploader")

# obstore waits for the next page to complete a chunk. Pages of stores have a multiple of 1,000 keys.
_KEYS_AT_ONCE: Final = 10
_FIRST_BACKOFF_SECONDS: Final = 0.5
_MAX_BACKOFF_SECONDS: Final = 30.0


async def list_objects(url: str, *, stall_seconds: float, max_attempts: int) -> AsyncGenerator[str, None]:
    """The keys of all objects below a prefix, relative to it.

    Placeholders of directories, which some tools create, are omitted.

    :param stall_seconds: a page that has not arrived after this time is requested again
    :param max_attempts: attempts for one page
    :raises ConfigurationError: as in :func:`~.store.open_store_object`
    :raises SourceError: the bucket is missing, or access was denied
    :raises SourceUnavailable: the last attempt failed
    """
    scheme, bucket, prefix = split_store_url(url, needs_key=False)
    store = store_of(scheme, bucket)
    check_process()
    prefix = prefix.strip("/")
    empty_objects = _EmptyObjects()
    last_key: str | None = None
    attempts = 0
    while True:
        try:
            pages = _pages(store, url, prefix=prefix, after=last_key, stall_seconds=stall_seconds)
            async with aclosing(pages):
                async for page in pages:
                    attempts = 0
                    for meta in page:
                        key = meta["path"]
                        if key in (prefix, last_key):
                            continue  # a placeholder: the key without its slash
                        last_key = key
                        for each in empty_objects.settled(key, is_empty=not meta["size"]):
                            yield each.removeprefix(prefix).lstrip("/")
            break
        except SourceUnavailable as exc:
            attempts += 1
            if attempts >= max_attempts:
                raise
            seconds = random.uniform(0, min(_MAX_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2 ** (attempts - 1)))
            log.warning("%s Retrying in %.1f s.", exc, seconds)
        await anyio.sleep(seconds)
    for key in empty_objects.pending:
        yield key.removeprefix(prefix).lstrip("/")


async def _pages(
    store: ObjectStore, url: str, *, prefix: str, after: str | None, stall_seconds: float
) -> AsyncGenerator[Any, None]:
    import obstore  # noqa: PLC0415 - an extra; its absence has been reported

    failure: SourceError
    try:
        stream = obstore.list(store, prefix=prefix or None, offset=after, chunk_size=_KEYS_AT_ONCE)
        async with aclosing(released_items(stream.__aiter__())) as pages:
            while True:
                with anyio.fail_after(stall_seconds):
                    page = await anext(pages, None)
                if page is None:
                    return
                yield page
    except SourceError:
        raise
    except TimeoutError:
        failure = SourceUnavailable(f"{url} cannot be listed: no response for {stall_seconds:g} s.")
    except Exception as exc:  # noqa: BLE001 - translated
        failure = translate_error(exc, url)
    raise failure  # outside the handler: the exception of obstore may contain a signed URL


class _EmptyObjects:
    """Empty objects of a listing. Those that are directories are placeholders, and no objects.

    :ivar pending: the keys of which this is not known yet: at most one for each character of the current key
    """

    def __init__(self) -> None:
        self.pending: list[str] = []

    def settled(self, key: str, *, is_empty: bool) -> Iterator[str]:
        """The objects of which it is known now that they are objects, in order.

        :param key: the next key of the listing
        """
        if self.pending:
            pending, self.pending = self.pending, []
            for each in pending:
                if key > f"{each}0":  # "0" follows "/": nothing below it follows
                    yield each
                elif not key.startswith(f"{each}/"):
                    self.pending.append(each)
        if is_empty:
            self.pending.append(key)
        else:
            yield key
