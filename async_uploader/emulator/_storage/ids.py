"""Random ids of videos and upload tokens."""

from __future__ import annotations

import secrets
import string
from typing import Final

_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 24


def new_id(prefix: str) -> str:
    """A new id: `vi…` for a video, `to…` for an upload token."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
