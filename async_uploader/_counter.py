"""How many there are of something, just now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Counter:
    """Counts what is under way."""

    def __init__(self) -> None:
        self.count: int = 0

    @contextmanager
    def plus(self, more: int = 1) -> Iterator[None]:
        """Count so many more while the block lasts."""
        self.count += more
        try:
            yield
        finally:
            self.count -= more
