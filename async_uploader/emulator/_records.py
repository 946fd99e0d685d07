"""The log of requests and their counters."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ._notifier import ChangeNotifier

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ._rules import ContentRange

MAX_RECORDS: Final = 50_000
MAX_RECORDS_WITH_HEADERS: Final = 200  # headers take a kilobyte or more, and only the page shows them
MAX_ATTEMPT_KEYS: Final = 100_000
MAX_VIDEOS_WITH_FAILURES: Final = 100
MAX_FAILED_PARTS: Final = 1_000  # of one video


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """A request that has ended.

    `status` is None if no response was sent: the client disconnected, or a fault cut the connection. `attempt`
    counts, from 1, the requests for the same thing: the same video and range, or the same method and path.
    `faults` are the faults that were triggered, and `fault_specs` their specs. `problem` is the slug of an error
    response, and `detail` its detail. `number` counts the requests from 1. Times are seconds of the event loop's
    monotonic clock; at `ended_s`, the response was passed to the socket.
    """

    method: str
    path: str
    endpoint: str
    video_id: str | None
    content_range: str | None
    status: int | None
    body_bytes: int
    attempt: int
    faults: tuple[str, ...]
    started_s: float
    ended_s: float
    fault_specs: tuple[str, ...] = ()
    problem: str | None = None
    detail: str | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class MessageHeaders:
    """The headers of a request and of its response, with secrets: mask them with `mask_headers`."""

    request: Mapping[str, str] = field(repr=False)
    response: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counters since the emulator started. Bytes are those of request bodies, multipart framing included.

    `bytes_discarded` belong to uploads that were not stored, `bytes_again` to parts that had already been
    received, `bytes_into_429` and `bodies_into_429` to requests with the response 429. `peak_uploads_in_flight` is
    the highest number of concurrent uploads.
    """

    requests: int
    requests_by_status: Mapping[int | None, int]
    uploads_in_flight: int
    peak_uploads_in_flight: int
    bytes_received: int
    bytes_stored: int
    bytes_discarded: int
    bytes_again: int
    bytes_into_429: int
    bodies_into_429: int
    logins: int
    refreshes: int
    live_access_tokens: int


class FailedParts:
    """The most recent parts that were refused or interrupted, by video."""

    def __init__(self) -> None:
        self._videos: OrderedDict[str, dict[ContentRange, int | None]] = OrderedDict()

    def add(self, video_id: str, content_range: ContentRange, status: int | None) -> None:
        """Record a failed part; the status is None if the connection was lost."""
        parts = self._videos.setdefault(video_id, {})
        self._videos.move_to_end(video_id)
        parts.pop(content_range, None)
        parts[content_range] = status
        if len(parts) > MAX_FAILED_PARTS:
            del parts[next(iter(parts))]
        if len(self._videos) > MAX_VIDEOS_WITH_FAILURES:
            self._videos.popitem(last=False)

    def clear(self) -> None:
        self._videos.clear()

    def of(self, video_id: str) -> Mapping[ContentRange, int | None]:
        """The status of each failed part of a video, oldest first."""
        return self._videos.get(video_id, {})


@dataclass(slots=True)
class RequestLog:
    """The most recent requests, and counters of all.

    :param on_request: called with each request that has ended
    """

    on_request: Callable[[RequestRecord, MessageHeaders], None]
    notifier: ChangeNotifier = field(default_factory=ChangeNotifier)
    records: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=MAX_RECORDS))
    failed_parts: FailedParts = field(default_factory=FailedParts)
    headers: OrderedDict[int, MessageHeaders] = field(default_factory=OrderedDict)  # by the record's number
    _statuses: Counter[int | None] = field(default_factory=Counter)
    _counts: Counter[str] = field(default_factory=Counter)
    _in_flight: int = 0
    _peak: int = 0
    _attempts: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)

    def next_attempt(self, key: Hashable) -> int:
        """Count a request; returns its number among the requests with the same key."""
        number = self._attempts.pop(key, 0) + 1
        self._attempts[key] = number
        if len(self._attempts) > MAX_ATTEMPT_KEYS:
            self._attempts.popitem(last=False)
        return number

    def upload_started(self) -> None:
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        self.notifier.notify()

    def upload_ended(self) -> None:
        self._in_flight -= 1

    def bytes_received(self, count: int) -> None:
        self._counts["received"] += count
        self.notifier.notify()

    def logged_in(self) -> None:
        self._counts["logins"] += 1

    def token_refreshed(self) -> None:
        self._counts["refreshes"] += 1

    def clear(self) -> None:
        """Forget all requests. Uploads in flight are still counted."""
        self.records.clear()
        self.headers.clear()
        self.failed_parts.clear()
        self._statuses.clear()
        self._counts.clear()
        self._attempts.clear()
        self._peak = self._in_flight
        self.notifier.notify()

    def next_number(self) -> int:
        """The number of the request that ends next."""
        return self._statuses.total() + 1

    def add(self, record: RequestRecord, headers: MessageHeaders) -> None:
        """Add a request when its response is sent."""
        self.records.append(record)
        self.on_request(record, headers)
        self.headers[record.number] = headers
        if len(self.headers) > MAX_RECORDS_WITH_HEADERS:
            self.headers.popitem(last=False)
        self._statuses[record.status] += 1
        self.notifier.notify()

    def add_body(self, record: RequestRecord, body_bytes: int, *, is_stored: bool, is_duplicate: bool) -> None:
        """Count a request's body. After an early response, it may be longer than `record` states."""
        if body_bytes != record.body_bytes:
            place = next((n for n, known in enumerate(reversed(self.records), 1) if known is record), None)
            record = replace(record, body_bytes=body_bytes)
            if place is not None:
                self.records[-place] = record
        if record.endpoint == "upload":
            self._counts["stored" if is_stored else "discarded"] += record.body_bytes
        self._counts["again"] += record.body_bytes if is_duplicate else 0
        if record.status == 429 and record.body_bytes:
            self._counts["into_429"] += record.body_bytes
            self._counts["bodies_into_429"] += 1
        self.notifier.notify()

    def statistics(self, live_access_tokens: int) -> Statistics:
        counts = self._counts
        return Statistics(
            requests=self._statuses.total(),
            requests_by_status=dict(self._statuses),
            uploads_in_flight=self._in_flight,
            peak_uploads_in_flight=self._peak,
            bytes_received=counts["received"],
            bytes_stored=counts["stored"],
            bytes_discarded=counts["discarded"],
            bytes_again=counts["again"],
            bytes_into_429=counts["into_429"],
            bodies_into_429=counts["bodies_into_429"],
            logins=counts["logins"],
            refreshes=counts["refreshes"],
            live_access_tokens=live_access_tokens,
        )
