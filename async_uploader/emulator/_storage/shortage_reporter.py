"""Reports a full disk once, until something can be stored again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .disk_space import Shortage, shortage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .data_directory import DataDirectory
    from .workers import Workers

logger = logging.getLogger("async_uploader.emulator")


class ShortageReporter:
    """`latest` is the most recent shortage; None if the disk was never full."""

    def __init__(self, directory: DataDirectory, workers: Workers, on_change: Callable[[], None]) -> None:
        self.latest: Shortage | None = None
        self._directory = directory
        self._workers = workers
        self._on_change = on_change
        self._is_logged = False

    async def report(self, error: OSError) -> Shortage | None:
        """Log the shortage that caused an error; None if the error has another cause."""
        shortage = await self._workers.run_small(shortage_of, error, self._directory.root)
        if shortage is not None:
            self.latest = shortage
            if not self._is_logged:
                logger.warning("%s", shortage)
            self._is_logged = True
            self._on_change()
        return shortage

    def reset(self) -> None:
        """Forget the latest shortage."""
        self.latest = None
        self.clear()

    def clear(self) -> None:
        """Something was stored: the next shortage is logged again."""
        self._is_logged = False
