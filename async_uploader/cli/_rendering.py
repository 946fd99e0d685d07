"""Renders the progress display in a thread of its own, so that a slow terminal cannot slow down an upload."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from ._display import Display

# The bars of shorter uploads would only flash up.
_BARS_DELAY_SECONDS: Final = 0.3
# A terminal that accepts no output must not delay the end of the command.
_JOIN_SECONDS: Final = 0.5


class Renderer(Protocol):
    """Renders the current state of the display."""

    def render(self) -> float:
        """Render once.

        :returns: seconds until the next time
        """
        ...

    def close(self) -> None:
        """Clean up."""
        ...


@contextmanager
def render_progress(display: Display) -> Iterator[None]:
    """Show progress during a block: bars on a terminal, log lines otherwise, nothing if the display is quiet."""
    try:
        with nullcontext() if display.quiet else _RenderThread(display):
            yield
    finally:
        display.print_unfinished()


class _RenderThread:
    """Renders a display while its ``with`` block runs."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="async_uploader-display", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        from ._log_renderer import INTERVAL_SECONDS

        if self._stopped.wait(_BARS_DELAY_SECONDS if self._display.has_bars else INTERVAL_SECONDS):
            return
        with suppress(OSError, ValueError):  # the terminal is gone
            renderer = self._create_renderer()
            try:
                while not self._stopped.wait(renderer.render()):
                    pass
            finally:
                renderer.close()

    def _create_renderer(self) -> Renderer:
        if self._display.has_bars:
            # Imported only now: importing rich takes longer than a small upload.
            from ._bar_renderer import BarRenderer

            return BarRenderer(self._display)
        from ._log_renderer import LogRenderer

        return LogRenderer(self._display)
