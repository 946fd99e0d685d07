"""Detects that a file was replaced or modified, without reading it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

# Linux takes time stamps from a clock that ticks every 1 to 10 ms. Two writes within one tick leave the same time.
_CLOCK_TICK_SECONDS: Final = 0.02


class Identity(Struct, frozen=True, kw_only=True):
    """Attributes of a file that a replacement or an ordinary modification changes."""

    size_bytes: int
    mtime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The identity in the result of a ``stat()``."""
        return cls(
            size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, device=status.st_dev, inode=status.st_ino
        )

    def difference(self, other: Identity) -> str:
        """The difference between this identity and the current one, for a message."""
        if self.size_bytes != other.size_bytes:
            return f"it had {self.size_bytes:,} bytes and has {other.size_bytes:,} now"
        if (self.device, self.inode) != (other.device, other.inode):
            return "it was replaced by another file"
        return "it was modified"


def ctime_ns_of(status: os.stat_result) -> int | None:
    """When contents or attributes last changed; None on Windows, where ``st_ctime`` is the creation time."""
    return None if os.name == "nt" else status.st_ctime_ns


def settled_status(path: Path) -> os.stat_result:
    """``path.stat()``, at a time when any later change gets a different change time. Blocks for up to 20 ms."""
    status = path.stat()
    age_seconds = time.time() - status.st_ctime
    # A time in the future comes from another machine's clock. Waiting does not help there.
    if 0 <= age_seconds < _CLOCK_TICK_SECONDS:
        time.sleep(_CLOCK_TICK_SECONDS - age_seconds)
        return path.stat()
    return status
