"""Memory to read a file into.

What is mapped begins with a page. A ``bytearray`` of that size begins 16 bytes after one, and there the copy from
a file's own pages takes twice as long: the processor takes each load for one of the bytes that it stored just
before, as the addresses differ only above their lowest 12 bits ("4K aliasing").
"""

from __future__ import annotations

import mmap
import sys


def page_aligned_buffer(size_bytes: int) -> memoryview:
    """So much memory, from the beginning of a page. Given back when nobody holds it any more."""
    if sys.platform == "win32":
        return memoryview(mmap.mmap(-1, size_bytes))
    # Private: by default a forked process would share it.
    return memoryview(mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
