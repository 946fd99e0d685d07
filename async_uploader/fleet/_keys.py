"""Idempotency keys of items that have none: the same source has the same key, on any machine and in any run."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from async_uploader._urls import display_url, remote_scheme

_PREFIX: Final = "fleet "


def derived_key(source: str) -> str:
    """The key of a source: of a file, by path, size and modification time; of a URL, by what names the object."""
    if remote_scheme(source):
        facts = [display_url(source)]
    else:
        facts = [os.path.realpath(source)]
        try:
            status = os.stat(source)
        except OSError:
            pass  # the workers may see it
        else:
            facts += [str(status.st_size), str(status.st_mtime_ns)]
    text = "\0".join(facts).encode("utf-8", "surrogateescape")
    return _PREFIX + hashlib.blake2b(text, digest_size=16).hexdigest()
