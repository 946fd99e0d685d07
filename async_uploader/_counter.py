"""A counter of operations in progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Counter:
    """Counts operations that are in progress.

    :ivar count: their number
    """

    def __init__(self) -> None:
        self.count: int = 0

    @contextmanager
    def incremented(self, by: int = 1) -> Iterator[None]:
        """Increment the count while the block runs."""
        self.count += by
        try:
            yield
        finally:
            self.count -= by
