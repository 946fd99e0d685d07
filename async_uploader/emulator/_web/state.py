"""The state that the page shows, as JSON without secrets. It is made only while a page is open.

The state has sections, so that only changed ones are sent. Positions in a source are numbers on an axis: part N is
from N - 1 to N, a byte range is at its bytes, and a whole file is from 0 to 1.
"""

from __future__ import annotations

import asyncio
import time
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from async_uploader.emulator._api.views import format_time
from async_uploader.emulator._http.rate_limit import Budget
from async_uploader.emulator._rules import ByteRange, ContentRange, PartRange, Upload, WholeFile
from async_uploader.emulator._secrets import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from async_uploader.emulator._config import Config
    from async_uploader.emulator._faults import FaultInjector
    from async_uploader.emulator._http.exchange import Exchange
    from async_uploader.emulator._http.rate_limit import RateLimiter
    from async_uploader.emulator._records import RequestLog, RequestRecord
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video
    from async_uploader.emulator._webhook_sender import Delivery, WebhookSender

MAX_VIDEOS: Final = 40
MAX_REQUESTS: Final = 40
MAX_DELIVERIES: Final = 10  # of one video
_MAX_TEXT_LENGTH: Final = 300
_DEFAULT_KEY: Final = "local-key"

# Encoding videos blocks the event loop for this time and one video; ten thousand parts take some milliseconds.
TIME_LIMIT_SECONDS: Final = 0.02

Sections = dict[str, bytes]
VideoSection = tuple[object, bytes]  # the values that it depends on, and its JSON


class PageState:
    """The state of one emulator in sections.

    :param uploads: the uploads in flight

    `is_incomplete` is true if there was no time for some videos.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        log: RequestLog,
        *,
        limiter: RateLimiter,
        faults: FaultInjector,
        uploads: Collection[Exchange],
        webhooks: WebhookSender,
        url: str,
    ) -> None:
        self._config = config
        self._store = store
        self._log = log
        self._limiter = limiter
        self._faults = faults
        self._uploads = uploads
        self._webhooks = webhooks
        self._deliveries: dict[str, list[Delivery]] = {}
        self._url = url
        self._videos: dict[str, VideoSection] = {}
        self.is_incomplete = False

    def sections(self) -> Sections:
        """All sections by name: `emulator`, `traffic`, `windows`, `faults`, `requests`, `videos`, `uploads`, and
        for each of the newest videos and those with uploads in flight, a section named by its id.
        """
        videos, visible = self._store.videos, self._visible_videos()
        sections = {
            "emulator": self._emulator(),
            "traffic": self._traffic(),
            "windows": self._windows(),
            "faults": self._fault_views(),
            "requests": [self._request(r) for r in islice(reversed(self._log.records), MAX_REQUESTS)],
            "videos": {
                "visible": [video.container.video_id for video in visible],
                "total": len(videos),
                "finished": sum(video.is_finished for video in videos.values()),
            },
            "uploads": self._parts_in_flight(),
        }
        self._deliveries = self._deliveries_by_video()
        self._update_videos(visible)
        return {name: msgspec.json.encode(section) for name, section in sections.items()} | {
            video_id: encoded for video_id, (_, encoded) in self._videos.items()
        }

    def _fault_views(self) -> list[dict[str, object]]:
        return [
            {"number": number, "spec": self._masked(fault.spec), "triggered": count}
            for number, (fault, count) in zip(self._faults.numbers(), self._faults.counts(), strict=True)
        ]

    def _update_videos(self, visible: list[Video]) -> None:
        """Update the sections of videos within the time limit. The others are updated by the next call."""
        deadline_s = time.perf_counter() + TIME_LIMIT_SECONDS
        previous, self._videos, self.is_incomplete = self._videos, {}, False
        for video in visible:
            video_id = video.container.video_id
            cached = previous.get(video_id)
            if time.perf_counter() < deadline_s:
                self._videos[video_id] = self._video(video, cached)
            else:
                self.is_incomplete = True
                if cached is not None:
                    self._videos[video_id] = cached

    def _visible_videos(self) -> list[Video]:
        """The newest videos and those with uploads in flight, newest first."""
        videos = self._store.videos
        in_flight = {exchange.upload_target for exchange in self._uploads}
        newest = nlargest(MAX_VIDEOS, videos.values(), key=lambda video: video.container.created_s)
        newest_ids = {video.container.video_id for video in newest}
        older = [videos[name] for name in islice(in_flight - newest_ids, MAX_VIDEOS) if name in videos]
        return sorted(newest + older, key=lambda video: video.container.created_s, reverse=True)

    def _emulator(self) -> dict[str, object]:
        config = self._config
        return {
            "url": self._url,
            "connectionRate": config.connection_rate,
            "linkRate": config.link_rate,
            "latency": config.latency,
            "rateWindow": config.rate_window,
            "tokenTtl": config.token_ttl,
            "isKept": config.data is not None,
            "hasDefaultKey": config.api_key == _DEFAULT_KEY,
        }

    def _traffic(self) -> dict[str, object]:
        statistics = self._log.statistics(0)
        return {
            "received": statistics.bytes_received,
            "discarded": statistics.bytes_discarded,
            "inFlight": statistics.uploads_in_flight,
            "peak": statistics.peak_uploads_in_flight,
            "requests": statistics.requests,
            "failed": sum(n for status, n in statistics.requests_by_status.items() if not status or status >= 400),
        }

    def _windows(self) -> list[dict[str, object]]:
        now = asyncio.get_running_loop().time()
        windows: list[dict[str, object]] = []
        for budget in Budget:
            used, closes_at = self._limiter.usage(budget, now)
            limit = self._limiter.limit(budget)
            windows.append({"name": budget.name.lower(), "limit": limit, "used": used, "closesAt": closes_at})
        return windows

    def _request(self, record: RequestRecord) -> dict[str, object]:
        return {
            "number": record.number,
            "endedAt": record.ended_s,
            "method": record.method,
            "path": self._masked(record.path),
            "range": None if record.content_range is None else record.content_range[:80],
            "status": record.status,
            "ms": round((record.ended_s - record.started_s) * 1000),
            "attempt": record.attempt,
            "isFault": bool(record.faults),
            "problem": record.problem,
        }

    def _masked(self, text: str) -> str:
        return mask_secrets(text, self._config.api_key)[:_MAX_TEXT_LENGTH]

    def _video(self, video: Video, cached: VideoSection | None) -> VideoSection:
        """The section of a video, which is encoded again only after a change: it may have ten thousand parts."""
        upload, failed = video.upload, self._log.failed_parts.of(video.container.video_id)
        container, deliveries = video.container, self._deliveries.get(video.container.video_id, [])
        progress = (video.state, upload.stored_count, upload.total, list(failed.items()))
        tracks = (dict(container.captions), list(container.chapters), container.thumbnail, container.thumbnail_s)
        basis = (progress, tracks, container.updated_s, deliveries)
        if cached is not None and cached[0] == basis:
            return cached
        return basis, msgspec.json.encode(_video_view(video, failed, deliveries))

    def _parts_in_flight(self) -> dict[str, Any]:
        """The parts in flight by video: each with its position, and the share of its body that has arrived."""
        found: dict[str, Any] = {}
        for exchange in self._uploads:
            content_range = exchange.info.content_range
            if exchange.upload_target in self._store.videos and content_range is not None:
                view = found.setdefault(
                    exchange.upload_target, _axis(content_range) | {"parts": [], "bytes": 0, "total": None}
                )
                view["parts"].append([*_position(content_range), _received_share(exchange)])
                view["bytes"] += exchange.body_bytes
                view["total"] = view["total"] or _axis(content_range)["total"]
        return found

    def _deliveries_by_video(self) -> dict[str, list[Delivery]]:
        """The latest deliveries of each video."""
        found: dict[str, list[Delivery]] = {}
        for delivery in self._webhooks.deliveries:
            found.setdefault(delivery.video_id, []).append(delivery)
        return {video_id: deliveries[-MAX_DELIVERIES:] for video_id, deliveries in found.items()}


def _video_view(
    video: Video, failed: Mapping[ContentRange, int | None], deliveries: list[Delivery]
) -> dict[str, object]:
    container, upload = video.container, video.upload
    stored = [part.range for part in upload.stored_parts()]
    details = container.details
    return {
        "title": details.get("title"),
        "state": video.state,
        "created": format_time(container.created_s),
        "isPublic": details.get("public", True),
        "hasMp4": details.get("mp4Support", True),
        "description": details.get("description"),
        "tags": details.get("tags", []),
        "metadata": details.get("metadata", []),
        "bytes": upload.stored_bytes,
        "parts": upload.stored_count,
        "sha256": container.sha256,
        "axis": _video_axis(upload, stored, failed),
        "received": _merge_adjacent(stored),
        "failed": [[*_position(content_range), status] for content_range, status in failed.items()],
        "captions": [[language, is_default] for language, is_default in container.captions.items()],
        "chapters": container.chapters,
        "thumbnail": [container.thumbnail, container.thumbnail_s],
        "deliveries": [
            {
                "event": found.event,
                "url": found.url,
                "attempt": found.attempt,
                "status": found.status,
                "error": found.error,
            }
            for found in deliveries
        ],
    }


def _video_axis(
    upload: Upload, stored: list[ContentRange], failed: Mapping[ContentRange, int | None]
) -> dict[str, object] | None:
    """The axis of a source: the total is known as soon as one request has named it, even a refused one."""
    if not stored:
        named = [_axis(content_range) for content_range in failed]
        return max(named, key=lambda axis: axis["total"] or 0) if named else None
    return {**_axis(stored[0]), "total": _total(upload.kind, upload.total)}


def _axis(content_range: ContentRange) -> dict[str, Any]:
    """The unit of the axis, its length, and the approximate length of one part."""
    if isinstance(content_range, ByteRange):
        return {"kind": "bytes", "total": content_range.total, "unit": content_range.length}
    if isinstance(content_range, PartRange):
        return {"kind": "parts", "total": content_range.total, "unit": 1}
    return {"kind": "whole", "total": 1, "unit": 1}


def _total(kind: type[ContentRange] | None, total: int | None) -> int | None:
    return 1 if kind is WholeFile else total


def _position(content_range: ContentRange) -> tuple[int, int]:
    if isinstance(content_range, ByteRange):
        return content_range.first, content_range.last + 1
    if isinstance(content_range, PartRange):
        return content_range.number - 1, content_range.number
    return 0, 1


def _merge_adjacent(ranges: list[ContentRange]) -> list[list[int]]:
    """The positions of ranges, which are in the order of the file; adjacent ones are merged."""
    merged: list[list[int]] = []
    for start, end in map(_position, ranges):
        if merged and merged[-1][1] == start:
            merged[-1][1] = end
        else:
            merged.append([start, end])
    return merged


def _received_share(exchange: Exchange) -> float | None:
    """The share of a body that has arrived; None if its length is unknown."""
    length = exchange.request.content_length
    return round(min(exchange.body_bytes / length, 1.0), 3) if length else None
