"""Pauses and resumes uploads."""
# No `from __future__ import annotations`: see `_public`.

import asyncio
import threading

from ._public import public


@public
class UploadControl:
    """Pauses and resumes the uploads to which it is passed as the option ``control``::

        control = UploadControl()
        task = asyncio.create_task(client.upload("movie.mp4", control=control))
        control.pause()
        ...
        control.resume()
        video = await task

    A paused upload sends no part, and releases its upload slots to other uploads of the client. Bytes that are
    already in the kernel's buffers, and small requests, such as the creation of the container, are still sent.
    Timeouts do not count the pause. If the service closes an idle connection meanwhile, its part is sent again.

    One control can be passed to several uploads. The methods can be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_paused = False
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def is_paused(self) -> bool:
        """Whether the uploads are paused."""
        return self._is_paused

    def pause(self) -> None:
        """Pause the uploads. Do nothing if they are already paused."""
        self._is_paused = True

    def resume(self) -> None:
        """Resume the uploads. Do nothing if they are not paused."""
        with self._lock:
            self._is_paused = False
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait_until_resumed(self) -> None:
        """Wait while the uploads are paused."""
        while self._is_paused:
            future = asyncio.get_running_loop().create_future()
            with self._lock:
                if not self._is_paused:
                    return
                self._waiting.add(future)
            try:
                await future
            finally:
                with self._lock:
                    self._waiting.discard(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
