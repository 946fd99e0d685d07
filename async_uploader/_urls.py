"""URLs of sources: which they are, how they are shown without secrets, and how they are recognized again."""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

#: The schemes of object stores.
STORE_SCHEMES: Final = frozenset({"s3", "gs", "az"})
_WEB_SCHEMES: Final = frozenset({"http", "https"})
# Parameters of signed URLs, which differ each time an object is signed: S3, Google, Azure and CloudFront.
_SIGNATURE_PREFIXES: Final = ("x-amz-", "x-goog-")
_SIGNATURE_PARAMETERS: Final = frozenset(
    {"awsaccesskeyid", "expires", "googleaccessid", "key-pair-id", "policy", "signature"}
    | {"se", "sig", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv"}
)
_FRAGMENT_CHARACTERS: Final = 8


def remote_scheme(source: str) -> str:
    """The scheme of the URL of a remote source, in lower case; empty if the source is a path."""
    scheme, separator, _ = source.partition("://")
    return scheme.lower() if separator and scheme.lower() in STORE_SCHEMES | _WEB_SCHEMES else ""


def display_url(url: str) -> str:
    """A URL as messages may show it: without credentials, and without the query and fragment of a web URL."""
    scheme, _, rest = url.partition("://")
    if remote_scheme(url) in STORE_SCHEMES:
        # Not by urlsplit(): keys may contain "?" and "#".
        bucket, slash, key = rest.partition("/")
        return f"{scheme}://{bucket.rpartition('@')[2]}{slash}{key}"
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are no IPv6 address
        return f"{scheme}://"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def url_digest(url: str) -> str:
    """Identifies what a web URL names, without naming it: URLs can contain secrets. Signatures do not count."""
    parts = urlsplit(url)
    text = repr((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, _unsigned_parameters(parts.query)))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def distinct_url(url: str) -> str:
    """:func:`display_url`, with a digest as the fragment if the query tells objects of the same path apart."""
    shown = display_url(url)
    if remote_scheme(url) in STORE_SCHEMES or not _unsigned_parameters(url.partition("?")[2].partition("#")[0]):
        return shown
    return f"{shown}#{url_digest(url)[:_FRAGMENT_CHARACTERS]}"


def _unsigned_parameters(query: str) -> list[tuple[str, str]]:
    return [pair for pair in parse_qsl(query, keep_blank_values=True) if not _is_signature(pair[0])]


def _is_signature(parameter: str) -> bool:
    name = parameter.lower()
    return name in _SIGNATURE_PARAMETERS or name.startswith(_SIGNATURE_PREFIXES)
