"""What the emulator remembers of its requests, and the bell that wakes whoever waits for a change."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from ._rules import Range

MAX_RECORDS: Final = 50_000
MAX_ATTEMPT_KEYS: Final = 100_000
MAX_REFUSED_VIDEOS: Final = 100
MAX_REFUSED_PIECES: Final = 1_000  # of one video


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request that has ended.

    `status` is None where no answer left: the client went away, or a fault cut the connection. `attempt` counts
    from 1 over the requests for the same thing: the same video and range, or the same method and path. Times are
    the event loop's monotonic seconds; `ended_s` is when the answer had been handed to the socket.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counters since the emulator started. Bytes are those of bodies, multipart framing included.

    `bytes_discarded` came in uploads that were not stored, `bytes_again` for a video and range that was already
    there, `bytes_into_429` and `bodies_into_429` for a request that was answered 429.
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


class Bell:
    """Wakes every waiter at once; ringing costs nothing while nobody waits."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self.rings = 0

    def ring(self) -> None:
        self.rings += 1
        if self._waiter is not None:
            self._waiter.set_result(None)
            self._waiter = None

    async def wait_until(self, holds: Callable[[], object]) -> None:
        while not holds():
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiter)


class Refusals:
    """Which pieces of which videos were last refused, or broke off: the latest of each, within bounds."""

    def __init__(self) -> None:
        self._videos: OrderedDict[str, dict[Range, int | None]] = OrderedDict()

    def note(self, video_id: str, wanted: Range, status: int | None) -> None:
        """A piece came to nothing; `status` None stands for a connection that broke."""
        found = self._videos.setdefault(video_id, {})
        self._videos.move_to_end(video_id)
        found.pop(wanted, None)
        found[wanted] = status
        if len(found) > MAX_REFUSED_PIECES:
            del found[next(iter(found))]
        if len(self._videos) > MAX_REFUSED_VIDEOS:
            self._videos.popitem(last=False)

    def of(self, video_id: str) -> Mapping[Range, int | None]:
        """What became of a video's refused pieces, oldest first."""
        return self._videos.get(video_id, {})


@dataclass(slots=True)
class Ledger:
    """The running counts and the bounded log of requests."""

    bell: Bell = field(default_factory=Bell)
    records: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=MAX_RECORDS))
    statuses: Counter[int | None] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Refusals = field(default_factory=Refusals)
    in_flight: int = 0
    peak: int = 0
    _attempts: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)

    def attempt(self, key: Hashable) -> int:
        """The number of this request among those for the same thing."""
        number = self._attempts.pop(key, 0) + 1
        self._attempts[key] = number
        if len(self._attempts) > MAX_ATTEMPT_KEYS:
            self._attempts.popitem(last=False)
        return number

    def upload_begins(self) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self.bell.ring()

    def upload_ends(self) -> None:
        self.in_flight -= 1

    def received(self, count: int) -> None:
        self.counts["received"] += count
        self.bell.ring()

    def enter(self, record: RequestRecord) -> None:
        """Note a request as it is answered."""
        self.records.append(record)
        self.statuses[record.status] += 1
        self.bell.ring()

    def settle(self, record: RequestRecord, body_bytes: int, *, stored: bool, again: bool) -> None:
        """Account for its body, of which more may have come after an early answer."""
        if body_bytes != record.body_bytes:
            place = next((n for n, known in enumerate(reversed(self.records), 1) if known is record), None)
            record = replace(record, body_bytes=body_bytes)
            if place is not None:
                self.records[-place] = record
        if record.endpoint == "upload":
            self.counts["stored" if stored else "discarded"] += record.body_bytes
        self.counts["again"] += record.body_bytes if again else 0
        if record.status == 429 and record.body_bytes:
            self.counts["into_429"] += record.body_bytes
            self.counts["bodies_into_429"] += 1
        self.bell.ring()

    def statistics(self, live_access_tokens: int) -> Statistics:
        counts = self.counts
        return Statistics(
            requests=self.statuses.total(),
            requests_by_status=dict(self.statuses),
            uploads_in_flight=self.in_flight,
            peak_uploads_in_flight=self.peak,
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
