"""What the page shows, as JSON: made from the state when somebody looks, with nothing secret in it.

It comes in sections, so that only what has changed need be sent. Places in a source are numbers on an axis: part
N lies from N - 1 to N, bytes lie where they are, a whole upload from 0 to 1.
"""

from __future__ import annotations

import asyncio
import re
import time
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ._ratelimit import Budget
from ._rules import ByteRange, Part, Range, Whole
from ._views import atom

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ._config import Config
    from ._exchange import Exchange
    from ._faults import FaultPlan
    from ._ratelimit import RateLimiter
    from ._records import Ledger, RequestRecord
    from ._store import Store, Video

MAX_VIDEOS: Final = 40
MAX_REQUESTS: Final = 40
_DEFAULT_KEY: Final = "local-key"
# An upload token, and whatever is as long as a bearer token: neither belongs into a path, but may get there.
_SECRETS: Final = re.compile(r"to[0-9A-Za-z]{24}|[0-9A-Za-z_-]{48,}")

# The event loop waits for no longer than this, and one video; ten thousand parts take some milliseconds.
PATIENCE_SECONDS: Final = 0.02

Sections = dict[str, bytes]
Made = tuple[object, bytes]  # what a section was made from, and the section


class Board:
    """One emulator's state in sections; `live` are the uploads that are being answered."""

    def __init__(
        self,
        config: Config,
        store: Store,
        ledger: Ledger,
        *,
        limiter: RateLimiter,
        faults: FaultPlan,
        live: Collection[Exchange],
        url: str,
    ) -> None:
        self._config = config
        self._store = store
        self._ledger = ledger
        self._limiter = limiter
        self._faults = faults
        self._live = live
        self._url = url
        self._videos: dict[str, Made] = {}
        self.is_behind = False  # whether there was no time for some video

    def sections(self) -> Sections:
        """Everything, by name: `emulator`, `traffic`, `windows`, `faults`, `requests`, `videos`, `live`, and one
        section named by its id for each of the newest videos and those that are being sent to.
        """
        videos, shown = self._store.videos, self._shown()
        made = {
            "emulator": self._emulator(),
            "traffic": self._traffic(),
            "windows": self._windows(),
            "faults": [{"spec": self._masked(fault.spec), "struck": n} for fault, n in self._faults.struck()],
            "requests": [self._request(r) for r in islice(reversed(self._ledger.records), MAX_REQUESTS)],
            "videos": {
                "shown": [video.container.video_id for video in shown],
                "total": len(videos),
                "finished": sum(video.is_finished for video in videos.values()),
            },
            "live": self._pieces_in_flight(),
        }
        self._make_videos(shown)
        return {name: msgspec.json.encode(section) for name, section in made.items()} | {
            video_id: encoded for video_id, (_, encoded) in self._videos.items()
        }

    def _make_videos(self, shown: list[Video]) -> None:
        """Bring the videos' sections up to date, as far as there is time for it; the rest follow next time."""
        until_s = time.perf_counter() + PATIENCE_SECONDS
        before, self._videos, self.is_behind = self._videos, {}, False
        for video in shown:
            video_id = video.container.video_id
            known = before.get(video_id)
            if time.perf_counter() < until_s:
                self._videos[video_id] = self._video(video, known)
            else:
                self.is_behind = True
                if known is not None:
                    self._videos[video_id] = known

    def _shown(self) -> list[Video]:
        """Newest first."""
        videos = self._store.videos
        busy = {e.target for e in self._live}
        newest = nlargest(MAX_VIDEOS, videos.values(), key=lambda video: video.container.created_s)
        there = {video.container.video_id for video in newest}
        older = [videos[name] for name in islice(busy - there, MAX_VIDEOS) if name in videos]
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
        statistics = self._ledger.statistics(0)
        return {
            "received": statistics.bytes_received,
            "discarded": statistics.bytes_discarded,
            "inFlight": statistics.uploads_in_flight,
            "peak": statistics.peak_uploads_in_flight,
            "requests": statistics.requests,
            "failed": sum(n for status, n in statistics.requests_by_status.items() if not status or status >= 400),
        }

    def _windows(self) -> list[dict[str, object]]:
        now = _now()
        found: list[dict[str, object]] = []
        for budget in Budget:
            used, closes_at = self._limiter.usage(budget, now)
            limit = self._limiter.limit(budget)
            found.append({"name": budget.name.lower(), "limit": limit, "used": used, "closesAt": closes_at})
        return found

    def _request(self, record: RequestRecord) -> dict[str, object]:
        return {
            "endedAt": record.ended_s,
            "method": record.method,
            "path": self._masked(record.path),
            "range": None if record.content_range is None else record.content_range[:80],
            "status": record.status,
            "ms": round((record.ended_s - record.started_s) * 1000),
            "attempt": record.attempt,
            "isFault": bool(record.faults),
        }

    def _masked(self, text: str) -> str:
        return _SECRETS.sub("…", text.replace(self._config.api_key, "…"))[:300]

    def _video(self, video: Video, known: Made | None) -> Made:
        """Made anew only if something about it has changed: it may have ten thousand parts."""
        upload, refused = video.upload, self._ledger.refusals.of(video.container.video_id)
        basis = (video.state, upload.landed_pieces, upload.total, video.container.updated_s, list(refused.items()))
        if known is not None and known[0] == basis:
            return known
        return basis, msgspec.json.encode(_video_view(video, refused))

    def _pieces_in_flight(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for exchange in self._live:
            if exchange.target in self._store.videos and exchange.wanted is not None:
                of = found.setdefault(exchange.target, _axis(exchange.wanted) | {"pieces": []})
                of["pieces"].append([*_place(exchange.wanted), _fraction(exchange)])
        return found


def _video_view(video: Video, refused: Mapping[Range, int | None]) -> dict[str, object]:
    container, upload = video.container, video.upload
    landed = [piece.range for piece in upload.landed()]
    details = container.details
    return {
        "title": details.get("title"),
        "state": video.state,
        "created": atom(container.created_s),
        "isPublic": details.get("public", True),
        "hasMp4": details.get("mp4Support", True),
        "description": details.get("description"),
        "tags": details.get("tags", []),
        "metadata": details.get("metadata", []),
        "bytes": upload.landed_bytes,
        "pieces": upload.landed_pieces,
        "sha256": container.sha256,
        "axis": {**_axis(landed[0]), "total": _total(upload.kind, upload.total)} if landed else None,
        "landed": _runs(landed),
        "refused": [[*_place(wanted), status] for wanted, status in refused.items()],
    }


def _axis(wanted: Range) -> dict[str, object]:
    """What the axis of a source counts, how long it is, and how long one piece is about."""
    if isinstance(wanted, ByteRange):
        return {"kind": "bytes", "total": wanted.total, "unit": wanted.length}
    if isinstance(wanted, Part):
        return {"kind": "parts", "total": wanted.total, "unit": 1}
    return {"kind": "whole", "total": 1, "unit": 1}


def _total(kind: type[Range] | None, total: int | None) -> int | None:
    return 1 if kind is Whole else total


def _place(wanted: Range) -> tuple[int, int]:
    if isinstance(wanted, ByteRange):
        return wanted.first, wanted.last + 1
    return (wanted.number - 1, wanted.number) if isinstance(wanted, Part) else (0, 1)


def _runs(ranges: list[Range]) -> list[list[int]]:
    """Neighbours as one; the ranges are in the file's order."""
    runs: list[list[int]] = []
    for start, end in map(_place, ranges):
        if runs and runs[-1][1] == start:
            runs[-1][1] = end
        else:
            runs.append([start, end])
    return runs


def _fraction(exchange: Exchange) -> float | None:
    """How much of its body is here; None where it does not tell its length."""
    length = exchange.request.content_length
    return round(min(exchange.body_bytes / length, 1.0), 3) if length else None


def _now() -> float:
    return asyncio.get_running_loop().time()
