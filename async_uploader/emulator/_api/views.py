"""The JSON of the service's responses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from async_uploader.emulator._limits import DISCARDED_SECONDS
from async_uploader.emulator._rules import ByteRange, PartRange

from .attributes import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from async_uploader.emulator._credentials import UploadToken
    from async_uploader.emulator._storage.video import Video

    from .assets import Assets

#: The only quality that the status and the webhooks name: nothing is encoded.
HLS_QUALITY: Final = "240p"
_UNKNOWN_METADATA: Final = dict.fromkeys(
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
# Attributes that control the processing and are not part of the Video.
_WRITE_ONLY: Final = {
    "source",
    "clip",
    "watermark",
    "transcript",
    "transcriptSummary",
    "transcriptSummaryAttributes",
}


def format_time(seconds: float) -> str:
    """Format a time as the service does (ISO 8601, UTC)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def video_view(video: Video, assets: Assets) -> dict[str, object]:
    container = video.container
    details = {**DEFAULTS, **container.details}
    view: dict[str, object] = {
        "videoId": container.video_id,
        **{name: value for name, value in details.items() if name not in _WRITE_ONLY and value is not None},
        "createdAt": format_time(container.created_s),
        "updatedAt": format_time(container.updated_s),
        "publishedAt": format_time(container.created_s),
        **_discarded_view(container.discarded_s),
        "languageOrigin": "api" if details.get("language") else None,
        "source": {"uri": f"/videos/{container.video_id}/source"},
        "assets": assets.view(video),
    }
    return view


def _discarded_view(discarded_s: float | None) -> dict[str, object]:
    if discarded_s is None:
        return {"discarded": False, "discardedAt": None, "deletesAt": None}
    deletes_at = format_time(discarded_s + DISCARDED_SECONDS)
    return {"discarded": True, "discardedAt": format_time(discarded_s), "deletesAt": deletes_at}


def status_view(video: Video) -> dict[str, object]:
    ranges = [part.range for part in video.upload.stored_parts()]
    parts = [found.number for found in ranges if isinstance(found, PartRange)]
    return {
        "ingest": {
            "status": video.ingest_status,
            "filesize": video.file_size_bytes,
            "receivedBytes": [_byte_range_view(found) for found in ranges if isinstance(found, ByteRange)],
            "receivedParts": {"parts": parts, "total": video.upload.total if parts else None},
        },
        "encoding": {
            "playable": video.is_finished,
            "qualities": _qualities(video),
            "metadata": _UNKNOWN_METADATA,
        },
    }


def upload_token_view(token: UploadToken) -> dict[str, object]:
    return {
        "token": token.token,
        "ttl": token.ttl_s,
        "createdAt": format_time(token.created_s),
        "expiresAt": None if token.expires_s is None else format_time(token.expires_s),
    }


def list_view(
    items: Sequence[dict[str, object]],
    *,
    total: int,
    page: int,
    size: int,
    url: str,
    query: Sequence[tuple[str, str]],
) -> dict[str, object]:
    """One page of a listing, with links to the other pages. `url` is the URL of the listing."""
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


def _byte_range_view(byte_range: ByteRange) -> dict[str, object]:
    view: dict[str, object] = {"from": byte_range.first, "to": byte_range.last}
    return view if byte_range.total is None else {**view, "total": byte_range.total}


def _qualities(video: Video) -> list[dict[str, object]]:
    status = video.encoding_status
    return [] if status is None else [{"type": "hls", "quality": HLS_QUALITY, "status": status}]
