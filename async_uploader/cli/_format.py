"""Formats the numbers of an upload for people, the same for bars and for log lines. Empty means unknown."""

from __future__ import annotations

from math import ceil
from typing import Final

from async_uploader import Progress
from async_uploader._limits import GIB, KIB, MIB
from async_uploader._units import format_size

# What has failed, by operation; a part is `part 3`.
_REQUESTS: Final = {
    "create": "creation of the video",
    "find": "search for the unfinished video",
    "status": "request for the status",
    "video": "request for the video",
    "delete": "deletion of the unfinished video",
    "update": "update of the metadata",
    "sidecar": "upload of captions, chapters or thumbnail",
    "source": "request for the source",
}
_UNITS: Final = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def format_amount(part_bytes: int, total_bytes: int | None, *, sent_bytes: int | None = None) -> str:
    """``412 of 1024 MiB``, in one unit; with ``sent_bytes`` also ``sent 440, delivered 412 of 1024 MiB``."""
    largest = part_bytes if total_bytes is None else total_bytes
    factor, unit = next(((size, name) for size, name in _UNITS if largest >= size), (1, "bytes"))

    def number(count_bytes: int) -> str:
        value = count_bytes / factor
        return str(count_bytes) if factor == 1 else f"{value:.{0 if largest >= 100 * factor else 1}f}"

    total = "?" if total_bytes is None else number(total_bytes)
    sent = "" if sent_bytes is None else f"sent {number(sent_bytes)}, delivered "
    return f"{sent}{number(part_bytes)} of {total} {unit}"


def format_rate(bytes_per_second: float | None) -> str:
    """``12.3 MiB/s``."""
    if bytes_per_second is None:
        return ""
    if bytes_per_second >= MIB / 10:
        return f"{bytes_per_second / MIB:.1f} MiB/s"
    return f"{bytes_per_second / KIB:.1f} KiB/s"


def format_remaining(seconds: float | None) -> str:
    """``1:23`` or ``1:02:03``."""
    if seconds is None:
        return ""
    minutes, rest = divmod(ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_percent(part_bytes: int, total_bytes: int | None, *, is_complete: bool) -> str:
    """``45 %``, rounded down; 100 % means that the service has confirmed all. Empty before the first byte."""
    if not total_bytes or not part_bytes:
        return ""
    percent = part_bytes * 100 // total_bytes
    return "<1 %" if percent == 0 else f"{percent if is_complete else min(percent, 99)} %"


def format_retries(retries_at: dict[str, float], now: float) -> str:
    """``part 12 failed; retrying in 2 s``; empty if no retry is pending.

    :param retries_at: the time of the next attempt, by request; another thread may change it
    """
    pending = {request: at for request, at in list(retries_at.items()) if at > now}
    if not pending:
        return ""
    seconds = max(1, ceil(min(pending.values()) - now))
    if len(pending) == 1:
        request = next(iter(pending))
        return f"{_REQUESTS.get(request, request)} failed; retrying in {seconds} s"
    return f"{len(pending)} requests failed; next retry in {seconds} s"


def format_rate_limit(limited_until: float, now: float) -> str:
    """``rate limit reached; waiting 12 s``; empty if no request is waiting."""
    if limited_until <= now:
        return ""
    return f"rate limit reached; waiting {max(1, ceil(limited_until - now))} s"


def format_acknowledged(progress: Progress) -> str:
    """``3 of 8 parts, 12 MiB of 40 MiB``."""
    parts = "?" if progress.parts_total is None else progress.parts_total
    total = "?" if progress.total_bytes is None else format_size(progress.total_bytes)
    return f"{progress.parts_done} of {parts} parts, {format_size(progress.acknowledged_bytes)} of {total}"
