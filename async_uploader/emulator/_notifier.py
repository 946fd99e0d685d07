"""Wakes the tasks that wait for a change of the emulator's state."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ChangeNotifier:
    """Wakes all waiters at once. A notification costs nothing while nobody waits. `version` counts the changes."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self.version = 0

    def notify(self) -> None:
        self.version += 1
        if self._waiter is not None:
            self._waiter.set_result(None)
            self._waiter = None

    async def wait_until(self, predicate: Callable[[], object]) -> None:
        """Wait until the predicate holds. It is evaluated after every change."""
        while not predicate():
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiter)
