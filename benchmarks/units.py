"""Units of size."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


def size_text(count_bytes: int) -> str:
    """``2 GiB``, ``50 MiB``, ``1 B``."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count_bytes >= unit:
            return f"{count_bytes / unit:g} {name}"
    return f"{count_bytes} B"
