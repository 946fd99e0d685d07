"""The access log: one line for each request, at the level INFO; at DEBUG, also the headers, without secrets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ._secrets import mask_headers, mask_secrets

if TYPE_CHECKING:
    from ._records import MessageHeaders, RequestRecord

logger = logging.getLogger("async_uploader.emulator.access")


class AccessLog:
    """Writes to the logger `async_uploader.emulator.access`.

    :param api_key: is masked
    """

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def write(self, record: RequestRecord, headers: MessageHeaders) -> None:
        """Log a request that has ended."""
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", format_record(record, self._api_key))
        if logger.isEnabledFor(logging.DEBUG):
            for sign, lines in ((">", headers.request), ("<", headers.response)):
                for name, value in mask_headers(lines, self._api_key):
                    logger.debug("  %s %s: %s", sign, name, value)


def format_record(record: RequestRecord, api_key: str) -> str:
    """A request in one line: what was sent, the response with its problem, and what explains it."""
    sent = f"{record.path} ({record.content_range})" if record.content_range else record.path
    status = "no response" if record.status is None else str(record.status)
    problem = f" {record.problem}" if record.problem else ""
    detail = f": {mask_secrets(record.detail, api_key)}" if record.detail else ""
    notes = [f"{(record.ended_s - record.started_s) * 1000:.0f} ms"]
    notes += [f"{record.body_bytes:,} bytes"] if record.body_bytes else []
    notes += [f"attempt {record.attempt}"] if record.attempt > 1 else []
    notes += [f"fault '{mask_secrets(spec, api_key)}'" for spec in record.fault_specs]
    return f"{record.method} {mask_secrets(sent, api_key)} → {status}{problem}{detail} [{', '.join(notes)}]"
