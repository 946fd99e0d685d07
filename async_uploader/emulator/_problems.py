"""The service's error catalogue, and the exception that becomes an error response.

The slugs and their statuses are from the contract ("What it answers"). The titles are our own.
"""

from __future__ import annotations

from typing import Final

DOCS: Final = "https://docs.api.video/reference/"

_SOURCE: Final = {
    "video-source-already-uploaded": "The source of this video is already uploaded.",
    "video-source-already-copied": "The source of this video was copied from another video.",
    "video-source-already-downloaded": "The source of this video was downloaded from a URL.",
    "uploaded-file-empty": "The uploaded file is empty.",
    "uploaded-file-no-file": "There is no file in the request.",
    "uploaded-file-multiple-files": "There is more than one file in the request.",
    "uploaded-file-too-large": "The uploaded file is too large.",
    "uploaded-file-invalid-file": "The uploaded file cannot be read from the request.",
}
_RANGE: Final = {
    "malformed": "The Content-Range header is malformed.",
    "already-initiated": "The upload was started with a Content-Range, so every request needs one.",
    "started-with-bytes": "The upload was started with byte ranges.",
    "started-with-part": "The upload was started with parts.",
}
_BY_PART: Final = {
    "part-zero": "Part numbers start at 1.",
    "part-too-high-allowed": "The part number is higher than allowed.",
    "part-too-high-total": "The part number is higher than the number of parts.",
    "part-already-sent": "This part was already sent.",
    "total-parts-zero": "The number of parts cannot be 0.",
    "total-parts-too-high": "The number of parts is higher than allowed.",
    "total-parts-too-low": "A part at or above this number of parts was already sent.",
    "different-total-parts": "The number of parts differs from the one that was sent before.",
    "uploaded-file-too-small": "Every part but the last must have at least 5 MiB.",
}
_BY_BYTES: Final = {
    "from-byte-too-high": "The first byte is after the last one.",
    "to-byte-too-high-total": "The last byte is after the end of the file.",
    "to-byte-too-high-allowed": "The last byte is higher than allowed.",
    "range-too-small": "Every range but the last must have at least 5 MiB.",
    "range-too-large": "The range is larger than allowed.",
    "range-mismatch": "The length of the file in the request differs from the length of its range.",
    "range-overlap": "Bytes of this range were already sent.",
    "total-bytes-zero": "The number of bytes cannot be 0.",
    "total-bytes-too-high": "The number of bytes is higher than allowed.",
    "total-bytes-too-low": "Bytes at or above this number of bytes were already sent.",
    "different-total-bytes": "The number of bytes differs from the one that was sent before.",
}
_JSON: Final = {
    "invalid-payload": "The body is not a JSON object.",
    "attribute-required": "This attribute is required.",
    "invalid-attribute": "This attribute is invalid.",
    "authentication-invalid-user-credentials": "The user credentials were incorrect.",
}
_UNAUTHENTICATED: Final = {
    "missing-authorization-header": "The Authorization header is missing.",
    "invalid-authorization-header-value": "The Authorization header is neither Basic nor Bearer.",
    "invalid-api-key": "The API key is invalid.",
    "invalid-access-token": "The access token is invalid or has expired.",
    "invalid-refresh-token": "The refresh token is invalid.",
    "missing-upload-token": "The upload token is missing.",
    "invalid-upload-token": "The upload token is invalid or has expired.",
}

# slug -> (status, title). The contract has no slugs for 403, 405 and 5xx; these are our own.
CATALOGUE: Final[dict[str, tuple[int, str]]] = {
    **{slug: (400, title) for slug, title in {**_SOURCE, **_JSON}.items()},
    **{f"video-content-range-{slug}": (400, title) for slug, title in _RANGE.items()},
    **{f"video-content-range-by-part-{slug}": (400, title) for slug, title in _BY_PART.items()},
    **{f"video-content-range-by-bytes-{slug}": (400, title) for slug, title in _BY_BYTES.items()},
    **{f"authentication-{slug}": (401, title) for slug, title in _UNAUTHENTICATED.items()},
    "account-suspended": (403, "This account is suspended."),
    "resource-not-found": (404, "The requested resource was not found."),
    "unrecognized-request-url": (404, "The API has no such URL."),
    "method-not-allowed": (405, "This URL does not support this method."),
    "forbidden-origin": (403, "Requests from other sites are refused."),
    "misdirected-request": (421, "This host name is not served."),
    "too-many-requests": (429, "Too many requests."),
    "not-implemented": (501, "The emulator does not implement this endpoint."),
    "server-error": (500, "The server failed."),
    "service-unavailable": (503, "The server cannot handle another request now."),
    "insufficient-storage": (507, "The server does not have enough disk space."),
}


class Problem(Exception):
    """An error response, by its slug in the catalogue."""

    def __init__(
        self,
        slug: str,
        *,
        name: str | None = None,
        detail: str | None = None,
        problems: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(slug)
        self.slug = slug
        self.status, self.title = CATALOGUE[slug]
        self.name = name
        self.detail = detail
        self.problems = problems

    def body(self) -> dict[str, object]:
        """The JSON of the response: `type`, `title` and `status`; the other fields only if they are set."""
        fields: dict[str, object] = {"type": DOCS + self.slug, "title": self.title, "status": self.status}
        if self.name is not None:
            fields["name"] = self.name
        if self.detail is not None:
            fields["detail"] = self.detail
        if self.problems:
            fields["problems"] = [problem.body() for problem in self.problems]
        return fields


def by_part(slug: str, detail: str | None = None) -> Problem:
    return Problem(f"video-content-range-by-part-{slug}", detail=detail)


def by_bytes(slug: str, detail: str | None = None) -> Problem:
    return Problem(f"video-content-range-by-bytes-{slug}", detail=detail)
