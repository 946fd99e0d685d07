"""The state of a client: it is opened once, used in the event loop in which it was opened, and closed once."""

from __future__ import annotations

import asyncio
import sys
from typing import NoReturn

from async_uploader._errors import ConfigurationError


class ClientState:
    """Checks that a client is open, and is used in its own event loop.

    Its connections, locks and timers belong to that loop: in another one, a request could hang.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def open(self) -> None:
        """Bind the client to the running event loop.

        :raises ConfigurationError: no asyncio event loop is running, or the client was opened before
        """
        loop = _running_loop()
        if self._is_closed:
            raise ConfigurationError("The client is closed and cannot be opened again: create a new one.")
        if self._loop is not None:
            raise ConfigurationError("The client is already open: open it once, and share it among all uploads.")
        self._loop = loop

    def close(self) -> None:
        """Refuse every use from now on."""
        self._is_closed = True

    def check(self) -> None:
        """Check that the client can be used here.

        :raises ConfigurationError: it is not open, or it was opened in another event loop
        """
        if self._is_closed:
            raise ConfigurationError("The client is closed: create a new one.")
        if self._loop is None:
            raise ConfigurationError("The client is not open: use it inside 'async with Client() as client:'.")
        if _running_loop() is not self._loop:
            raise ConfigurationError(
                "The client was opened in another event loop: use one client in each loop, or call "
                "asyncio.run_coroutine_threadsafe() with the loop of this one."
            )


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        _refuse_without_loop()


def _refuse_without_loop() -> NoReturn:
    if _is_in_trio():
        message = "The client needs asyncio, and this code runs under trio: call it with asyncio.run()."
    else:
        message = (
            "No event loop runs in this thread: use asyncio.run(), or asyncio.run_coroutine_threadsafe() with the "
            "loop of an open client."
        )
    raise ConfigurationError(message) from None


def _is_in_trio() -> bool:
    if (trio := sys.modules.get("trio")) is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True
