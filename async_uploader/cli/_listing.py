"""The sources of one ``upload`` command: items, and listings of stores that are read as they are needed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from async_uploader import SourceError, UploaderError
from async_uploader._catalogue.item import Item


class Listing:
    """The selected objects below a URL of a store.

    :param is_selected: selects objects by their key, relative to the URL
    :param stall_seconds: see :func:`~async_uploader._sources.listing.list_objects`
    :param max_attempts: the same
    :ivar first: the first selected object, once the listing is open
    """

    first: Item

    def __init__(
        self, url: str, *, is_selected: Callable[[str], bool], stall_seconds: float, max_attempts: int
    ) -> None:
        self.url = url
        self._prefix = f"{url.rstrip('/')}/"
        self._is_selected = is_selected
        self._stall_seconds = stall_seconds
        self._max_attempts = max_attempts
        self._items = self._list()

    async def _list(self) -> AsyncGenerator[Item, None]:
        from async_uploader._sources.listing import list_objects

        objects = list_objects(self.url, stall_seconds=self._stall_seconds, max_attempts=self._max_attempts)
        async with aclosing(objects) as keys:
            async for key in keys:
                if self._is_selected(key):
                    yield Item(source=f"{self._prefix}{key}")

    async def open(self) -> None:
        """Read up to the first selected object.

        :raises UploaderError: the prefix cannot be listed
        :raises SourceError: there is no object to upload
        """
        first = await anext(self._items, None)
        if first is None:
            raise SourceError(f"{self.url} has no objects to upload.")
        self.first = first

    def __contains__(self, item: Item) -> bool:
        """Whether the listing has an object, if it exists."""
        return item.source.startswith(self._prefix) and self._is_selected(item.source.removeprefix(self._prefix))

    def shared_with(self, other: Listing) -> Item | None:
        """An object that both listings have; None if none is known. Both are open."""
        return self.first if self.first in other else other.first if other.first in self else None

    async def rest(self) -> AsyncIterator[Item]:
        """The other objects. If they cannot be listed, the last item has the problem, and the listing's URL."""
        try:
            async for item in self._items:
                yield item
        except UploaderError as exc:
            yield Item(source=self.url, problem=f"{exc} The objects that follow are not uploaded.")

    async def aclose(self) -> None:
        """End the listing."""
        await self._items.aclose()


class Sources:
    """All sources of a command. Iterate over it once for all items, in order.

    :param sources: items and listings, in order
    :ivar known: the items, with only the first one of each listing. They are checked before anything is sent
    :ivar listings: the listings. Their other items are known only when their turn comes
    """

    def __init__(self, sources: Sequence[Item | Listing]) -> None:
        self._sources = list(sources)
        self.listings = [source for source in sources if isinstance(source, Listing)]
        self.known: list[Item] = []

    async def open(self) -> None:
        """Open the listings.

        :raises UploaderError: one of them cannot be read, or has no objects
        """
        for listing in self.listings:
            await listing.open()
        for number, listing in enumerate(self.listings):
            for other in self.listings[:number]:
                if shared := listing.shared_with(other):
                    listing.first = _duplicate_of(shared)
        self.known = [each.first if isinstance(each, Listing) else each for each in self._sources]

    async def aclose(self) -> None:
        """End the listings."""
        for listing in self.listings:
            await listing.aclose()

    async def __aiter__(self) -> AsyncIterator[Item]:
        for item, source in zip(self.known, self._sources, strict=True):
            yield item
            if isinstance(source, Listing):
                earlier = self.listings[: self.listings.index(source)]
                async for each in source.rest():
                    is_duplicate = not each.problem and any(each in other for other in earlier)
                    yield _duplicate_of(each) if is_duplicate else each


def _duplicate_of(item: Item) -> Item:
    return replace(item, problem=f"{item.display_path} is listed twice.")
