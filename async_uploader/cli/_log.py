"""The package's log on standard error, as ``--verbose`` and ``--quiet`` select it."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

from ._output import LOGGER, STREAM_LOCKS
from ._text import columns_of, printable, wrap

_TOKEN_IN_URL = re.compile(r"\btoken=[^&\s'\"]+")


def set_up_logging(verbosity: int, *, reports_outages: bool = False) -> None:
    """Send the package's log to standard error.

    :param reports_outages: the command reports outages itself, so the requests that they affect are details
    :param verbosity: 0 for warnings, 1 for information, 2 for everything; -1 for errors only
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG, logging.ERROR)[min(verbosity, 2)]
    handler = _StderrHandler()
    if reports_outages and verbosity == 0:
        handler.addFilter(lambda record: not getattr(record, "is_outage_event", False))
    handler.setFormatter(LogFormatter(debug=level == logging.DEBUG))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    if verbosity >= 0:
        # Which video is resumed is important without --verbose, too.
        LOGGER.getChild("resume").setLevel(min(level, logging.INFO))
    LOGGER.propagate = False


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current ``sys.stderr``, which the progress bars replace while they are drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        with STREAM_LOCKS["stderr"]:
            self.stream = sys.stderr
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Wrap messages on a terminal, without breaking a word; tracebacks stay as they are."""
        text = super().format(record)
        return text if record.exc_info else wrap(text, columns_of(sys.stderr))


class LogFormatter(logging.Formatter):
    """Formats a record as ``warning: text``, and with ``debug`` also with its time and logger."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__("%(asctime)s %(name)s %(level)s%(message)s" if debug else "%(level)s%(message)s")
        self._debug = debug

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Hide the upload token: some errors of aiohttp contain the URL."""
        return _TOKEN_IN_URL.sub("token=(hidden)", super().formatException(ei))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        plain = record.levelno == logging.INFO and not self._debug
        record.level = "" if plain else f"{record.levelname.lower()}: "
        record.message = printable(record.message)
        return super().formatMessage(record)
