"""Figures of an upload as people read them, the same in bars and in lines."""

from __future__ import annotations

from math import ceil
from typing import Final

from async_uploader._limits import GIB, KIB, MIB
from async_uploader._progress import Progress
from async_uploader._units import format_size

_UNITS: Final = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def amount(part_bytes: int, total_bytes: int | None, *, sent_bytes: int | None = None) -> str:
    """``412 of 1024 MiB``, in one unit; with ``sent_bytes`` also ``sent 440, stored 412 of 1024 MiB``."""
    largest = part_bytes if total_bytes is None else total_bytes
    factor, unit = next(((size, name) for size, name in _UNITS if largest >= size), (1, "bytes"))

    def number(count_bytes: int) -> str:
        value = count_bytes / factor
        return str(count_bytes) if factor == 1 else f"{value:.{0 if largest >= 100 * factor else 1}f}"

    total = "?" if total_bytes is None else number(total_bytes)
    sent = "" if sent_bytes is None else f"sent {number(sent_bytes)}, stored "
    return f"{sent}{number(part_bytes)} of {total} {unit}"


def rate(bytes_per_second: float | None) -> str:
    """``12.3 MiB/s``; nothing where it is not known yet."""
    if bytes_per_second is None:
        return ""
    if bytes_per_second >= MIB / 10:
        return f"{bytes_per_second / MIB:.1f} MiB/s"
    return f"{bytes_per_second / KIB:.1f} KiB/s"


def left(seconds: float | None) -> str:
    """``1:23``, ``1:02:03``; nothing where it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def percent(part_bytes: int, total_bytes: int | None) -> str:
    """``45 %``: of what is known to have arrived, and never 100 % before all of it has."""
    return f"{part_bytes * 100 // total_bytes} %" if total_bytes else ""


def again(waits: dict[str, float], now: float) -> str:
    """What is going to be tried again, and when; nothing where nothing is.

    :param waits: until when, by what: ``"part 12"``; may be changed by another thread
    """
    pending = {what: until for what, until in list(waits.items()) if until > now}
    if not pending:
        return ""
    seconds = max(1, ceil(min(pending.values()) - now))
    if len(pending) == 1:
        return f"{next(iter(pending))} failed; again in {seconds} s"
    return f"{len(pending)} requests failed; the first again in {seconds} s"


def rate_limit(until: float, now: float) -> str:
    """How long the account's window is closed; nothing where it is open."""
    if until <= now:
        return ""
    return f"waiting for the account's rate limit; going on in {max(1, ceil(until - now))} s"


def arrived(progress: Progress) -> str:
    """``3 of 8 parts, 12 MiB of 40 MiB``."""
    parts = "?" if progress.parts_total is None else progress.parts_total
    total = "?" if progress.total_bytes is None else format_size(progress.total_bytes)
    return f"{progress.parts_done} of {parts} parts, {format_size(progress.acknowledged_bytes)} of {total}"
