"""Masks keys and tokens in everything that is logged or shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK: Final = "…"
# An upload token, or anything as long as a bearer token: a client may put these into a path by mistake.
_SECRETS: Final = re.compile(r"to[0-9A-Za-z]{24}|[0-9A-Za-z_-]{48,}")
#: Headers whose values are masked as a whole, except for the authentication scheme.
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
MAX_HEADER_LENGTH: Final = 300

Headers = tuple[tuple[str, str], ...]


def mask_secrets(text: str, api_key: str) -> str:
    """Replace the API key, and anything that looks like a token."""
    return _SECRETS.sub(MASK, text.replace(api_key, MASK))


def mask_headers(headers: Mapping[str, str], api_key: str) -> Headers:
    """The headers of a request or a response, in order, without secrets. Long values are shortened."""
    # multidict's names are a subclass of `str`, which msgspec does not encode.
    return tuple((str(name), _mask_header(name, value, api_key)) for name, value in headers.items())


def _mask_header(name: str, value: str, api_key: str) -> str:
    if name.lower() in _SECRET_HEADERS:
        scheme, space, _ = value.partition(" ")
        return f"{scheme} {MASK}" if space and scheme.isalpha() else MASK
    shortened = value if len(value) <= MAX_HEADER_LENGTH else value[:MAX_HEADER_LENGTH] + MASK
    return mask_secrets(shortened, api_key)
