"""Shows how uploads stand, in a thread of its own: neither a slow terminal nor a full pipe holds up an upload."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from ._display import Display

# Short uploads are not drawn: their bars would only flash up.
_FIRST_BARS_SECONDS: Final = 0.3
# A terminal that takes nothing any more does not hold up the end either.
_FAREWELL_SECONDS: Final = 0.5


class Painter(Protocol):
    """Shows how everything stands at a moment."""

    def paint(self) -> float:
        """Show it; returns after how many seconds to do that again."""
        ...

    def close(self) -> None:
        """Clean up."""
        ...


@contextmanager
def drawn(display: Display) -> Iterator[None]:
    """Keep the user informed: by bars on a terminal, by a line now and then elsewhere."""
    try:
        with nullcontext() if display.quiet else Painting(display, bars=display.has_bars):
            yield
    finally:
        display.stopped()


class Painting:
    """Paints while its ``with`` block runs.

    :param bars: draw bars; otherwise write lines
    """

    def __init__(self, display: Display, *, bars: bool) -> None:
        self._display = display
        self._bars = bars
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="async_uploader-display", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join(_FAREWELL_SECONDS)

    def _run(self) -> None:
        from ._lines import INTERVAL_SECONDS, Lines

        if self._over.wait(_FIRST_BARS_SECONDS if self._bars else INTERVAL_SECONDS):
            return
        with suppress(OSError, ValueError):  # the terminal has gone away: nobody looks
            painter = self._bars_of_the_terminal() if self._bars else Lines(self._display)
            try:
                while not self._over.wait(painter.paint()):
                    pass
            finally:
                painter.close()

    def _bars_of_the_terminal(self) -> Painter:
        # Loaded only now: rich takes longer than a small upload does.
        from ._bars import Bars

        return Bars(self._display)
