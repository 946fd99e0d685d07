"""Parse and format sizes and durations."""

from __future__ import annotations

import re
from typing import Final

from ._errors import ConfigurationError
from ._limits import GIB, KIB, MIB

_FACTORS: Final = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "kb": 1000,
    "m": MIB, "mib": MIB, "mb": 1000**2,
    "g": GIB, "gib": GIB, "gb": 1000**3,
}  # fmt: skip


def parse_size(text: str) -> int:
    """Parse a size such as ``50MiB``, ``50M`` (the same), ``50MB`` (decimal) or ``52428800``.

    :returns: the number of bytes
    :raises ConfigurationError: the text is not a size
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ConfigurationError(f"{text!r} is not a size; write it as 50MiB, 50MB or a number of bytes.")
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def parse_rate(text: str) -> int:
    """Parse a rate such as ``2MiB``, ``500kB`` or ``500kB/s``.

    :returns: bytes per second, at least 1
    :raises ConfigurationError: the text is not a rate
    """
    try:
        rate = parse_size(text.strip().removesuffix("/s"))
    except ConfigurationError:
        rate = 0
    if rate < 1:
        raise ConfigurationError(
            f"{text!r} is not a rate; write it as 2MiB, 500kB or a number of bytes per second, from 1."
        )
    return rate


def format_size(count_bytes: int) -> str:
    """Format a size: ``50 MiB`` for ``52428800``. Exact below 1 KiB, else four digits."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count_bytes >= unit:
            return f"{count_bytes / unit:.4g} {name}"
    return f"{count_bytes} byte{'' if count_bytes == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """Format a duration: ``1.5 h`` for ``5400``. Three digits, in the largest unit that fits."""
    for unit_seconds, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= unit_seconds:
            return f"{float(f'{seconds / unit_seconds:.3g}'):,g} {name}"
    return f"{seconds:.3g} s"
