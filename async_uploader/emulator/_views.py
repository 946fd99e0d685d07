"""The JSON that the service answers with, made from what the store knows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from ._containers import DEFAULTS
from ._rules import ByteRange, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._assets import Assets
    from ._credentials import UploadToken
    from ._store import Video

_UNKNOWN: Final = dict.fromkeys(
    (
        "width",
        "height",
        "bitrate",
        "duration",
        "framerate",
        "samplerate",
        "videoCodec",
        "audioCodec",
        "aspectRatio",
    )
)
# Attributes that shape the processing and do not come back in the Video.
_UNSEEN: Final = {
    "source",
    "clip",
    "watermark",
    "transcript",
    "transcriptSummary",
    "transcriptSummaryAttributes",
}


def atom(seconds: float) -> str:
    """A moment as the service writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def video_view(video: Video, assets: Assets) -> dict[str, object]:
    container = video.container
    details = {**DEFAULTS, **container.details}
    view: dict[str, object] = {
        "videoId": container.video_id,
        **{name: value for name, value in details.items() if name not in _UNSEEN and value is not None},
        "createdAt": atom(container.created_s),
        "updatedAt": atom(container.updated_s),
        "publishedAt": atom(container.created_s),
        "discarded": False,
        "discardedAt": None,
        "deletesAt": None,
        "languageOrigin": "api" if details.get("language") else None,
        "source": {"uri": f"/videos/{container.video_id}/source"},
        "assets": assets.view(video),
    }
    return view


def status_view(video: Video) -> dict[str, object]:
    pieces = [piece.range for piece in video.upload.landed()]
    parts = [part.number for part in pieces if isinstance(part, Part)]
    return {
        "ingest": {
            "status": video.ingest_status,
            "filesize": video.filesize,
            "receivedBytes": [_bytes_view(piece) for piece in pieces if isinstance(piece, ByteRange)],
            "receivedParts": {"parts": parts, "total": video.upload.total if parts else None},
        },
        "encoding": {
            "playable": video.is_finished,
            "qualities": _qualities(video),
            "metadata": _UNKNOWN,
        },
    }


def upload_token_view(token: UploadToken) -> dict[str, object]:
    return {
        "token": token.token,
        "ttl": token.ttl_s,
        "createdAt": atom(token.created_s),
        "expiresAt": None if token.expires_s is None else atom(token.expires_s),
    }


def page_view(
    items: Sequence[dict[str, object]],
    *,
    total: int,
    page: int,
    size: int,
    url: str,
    query: Sequence[tuple[str, str]],
) -> dict[str, object]:
    """One page of a listing with the links to its neighbours; `url` is the listing's own."""
    pages = max(-(-total // size), 1)
    relations = {"self": page, "first": 1, "previous": page - 1, "next": page + 1, "last": pages}
    kept = [(name, value) for name, value in query if name not in ("currentPage", "pageSize")]
    links = [
        {"rel": rel, "uri": f"{url}?{urlencode([*kept, ('currentPage', number), ('pageSize', size)])}"}
        for rel, number in relations.items()
        if rel not in ("previous", "next") or 1 <= number <= pages
    ]
    return {
        "data": list(items),
        "pagination": {
            "currentPage": page,
            "currentPageItems": len(items),
            "pageSize": size,
            "pagesTotal": pages,
            "itemsTotal": total,
            "links": links,
        },
    }


def _bytes_view(piece: ByteRange) -> dict[str, object]:
    view: dict[str, object] = {"from": piece.first, "to": piece.last}
    return view if piece.total is None else {**view, "total": piece.total}


def _qualities(video: Video) -> list[dict[str, object]]:
    status = video.encoding_status
    return [] if status is None else [{"type": "hls", "quality": "240p", "status": status}]
