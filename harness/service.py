"""The emulator in a thread, for tests that run commands in processes of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from anyio.from_thread import BlockingPortal

from async_uploader import Client
from async_uploader.emulator import Emulator, VideoView

T = TypeVar("T")

KEY: Final = "a-key-that-must-not-be-shown"


@dataclass(frozen=True)
class Service:
    """An emulator that runs in an event loop in another thread."""

    emulator: Emulator
    portal: BlockingPortal

    def wait_for(self, predicate: Callable[[Emulator], object]) -> None:
        """Wait until the predicate is true."""
        self.portal.call(partial(self.emulator.wait_for, predicate))

    def finished(self, video_id: str) -> VideoView:
        """Wait until a video is finished, and return it."""
        return self.portal.call(self.emulator.finished, video_id)

    def titles(self) -> list[str]:
        """The titles of all videos."""
        return [video.title for video in self.emulator.videos.values()]

    def request(self, request: Callable[[Client], Awaitable[T]]) -> T:
        """Call the library with a client of this service, and return the result."""

        async def run() -> T:
            async with Client(api_key=KEY, base_url=self.emulator.url) as client:
                return await request(client)

        return self.portal.call(run)

    def make_token(self) -> str:
        """Create an upload token."""
        return self.request(lambda client: client.create_upload_token()).token


@contextmanager
def running_service(portal: BlockingPortal, **settings: Any) -> Iterator[Service]:
    """Run an emulator in the portal's thread.

    :param settings: settings of :class:`~async_uploader.emulator.Emulator`
    """
    settings = {"api_key": KEY, **settings}

    async def make() -> Emulator:
        return Emulator(**settings)

    with portal.wrap_async_context_manager(portal.call(make)) as emulator:
        yield Service(emulator, portal)
