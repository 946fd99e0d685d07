"""Memory for reading files.

Copying from the page cache into a buffer that starts 16 bytes after a page boundary, as a large ``bytearray``
does, takes twice as long: the addresses differ only above their lowest 12 bits, so the processor mistakes each
load for one of the preceding stores ("4K aliasing"). Mapped memory starts at a page boundary.
"""

from __future__ import annotations

import mmap
import sys


def page_aligned_buffer(size_bytes: int) -> memoryview:
    """Allocate memory that starts at a page boundary. It is freed with its last reference."""
    if sys.platform == "win32":
        return memoryview(mmap.mmap(-1, size_bytes))
    # Private, because a forked process would share it by default.
    return memoryview(mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
