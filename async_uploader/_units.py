"""Sizes and times as people write and read them."""

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
    """Bytes in ``50MiB``, ``50M`` (the same), ``50MB`` (decimal) or plain ``52428800``.

    :raises ConfigurationError: it is none of these
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ConfigurationError(f"{text!r} is not a size; write it as 50MiB, 50MB or a number of bytes.")
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def format_size(count_bytes: int) -> str:
    """``52428800`` as ``50 MiB``; exact below 1 KiB, else three digits."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count_bytes >= unit:
            return f"{count_bytes / unit:.4g} {name}"
    return f"{count_bytes} byte{'' if count_bytes == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """``5400`` as ``1.5 h``; three digits, in the largest unit of which there is one."""
    for unit_seconds, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= unit_seconds:
            return f"{float(f'{seconds / unit_seconds:.3g}'):,g} {name}"
    return f"{seconds:.3g} s"
