"""What bounds an upload, from samples of what its connections wait for. Pure: time and measurements are passed in.

Problem
    An upload is as fast as its slowest step, which can change: the disk, the processor, the network, the rate
    limit. Users see only the throughput.

Approach
    A statistical profile. A sample lists what each part in flight waits for, and what keeps upload slots idle. Its
    time is divided among them equally. Two questions need more than one sample:

    - Is the processor the bound? If the event loop's thread was running, or waiting for a processor, almost all
      the time, then the connections waited for it, whatever they seem to wait for.
    - Is the network slow as a whole, or is each connection slow? The concurrency controller has measured whether
      more connections are faster. With a fixed concurrency, the times with fewer connections than usual show it,
      such as the end of the upload.

Rejected
    - Times of events, such as the duration of a wait: several parts wait at the same time, so that the times add
      up to more than the upload.
    - The kernel's ``tcpi_busy_time``: a connection is busy in every case in which the network is the bound.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from async_uploader.events import Bound

# The thread of the event loop is busy from this share of the time on. The rest are switches to threads that read.
_BUSY_SHARE: Final = 0.85
# What a busy processor slows down. All other waits have a cause of their own.
_NEEDS_CPU: Final = frozenset({Bound.SOURCE, Bound.NETWORK, Bound.SERVICE})
# The relative loss of throughput, divided by the relative loss of connections: 0 means that fewer connections were
# as fast, 1 that each has its own rate. In between, the answer is not clear.
_SHARED_LOSS, _OWN_LOSS = 0.35, 0.65
# Fewer connections than usual must have had this share of the bytes to lose. A shorter time proves nothing.
_MIN_EVIDENCE: Final = 0.03


class BoundSample(NamedTuple):
    """What an upload waited for, in the time since the previous sample.

    :ivar seconds: the time
    :ivar waits: what each part in flight, and each idle upload slot, waits for; empty between requests
    :ivar busy_seconds: how long the event loop's thread was running or waiting for a processor
    :ivar moved_bytes: bytes that the service's host has acknowledged in this time; None if not only of this upload
    :ivar are_more_worthwhile: whether more connections would be faster, as the concurrency controller has measured
    :ivar planned_seconds: when the sample was due
    """

    seconds: float
    waits: Sequence[Bound]
    busy_seconds: float
    moved_bytes: int | None = None
    are_more_worthwhile: bool | None = None
    planned_seconds: float = math.inf

    @property
    def running_seconds(self) -> float:
        """The time, without that for which the process was stopped (Ctrl-Z): then it did not wait for anything."""
        return min(self.seconds, self.planned_seconds + self.busy_seconds)


class BoundProfile:
    """Adds up the samples of an upload."""

    def __init__(self) -> None:
        self.seconds: float = 0.0
        self._seconds: defaultdict[Bound, float] = defaultdict(float)
        # Seconds and bytes by the number of connections that sent.
        self._moved: defaultdict[int, tuple[float, int]] = defaultdict(lambda: (0.0, 0))

    def add(self, sample: BoundSample) -> None:
        """Count a sample."""
        sample_seconds = sample.running_seconds
        self.seconds += sample_seconds
        waits = sample.waits or [Bound.SERVICE]
        is_busy = sample.busy_seconds >= _BUSY_SHARE * sample_seconds
        for bound in waits:
            if is_busy and bound in _NEEDS_CPU:
                bound = Bound.CPU  # noqa: PLW2901
            elif bound is Bound.NETWORK and sample.are_more_worthwhile is not None:
                bound = Bound.CONNECTIONS if sample.are_more_worthwhile else Bound.LINK  # noqa: PLW2901
            self._seconds[bound] += sample_seconds / len(waits)
        if sample.moved_bytes is not None and (sending := waits.count(Bound.NETWORK)) == len(waits):
            seconds, moved_bytes = self._moved[sending]
            self._moved[sending] = (seconds + sample_seconds, moved_bytes + sample.moved_bytes)

    def shares(self) -> dict[Bound, float]:
        """The share of the time by bound, the largest first; together 1."""
        seconds = dict(self._seconds)
        resolved = self._network_bound()
        if Bound.NETWORK in seconds and resolved is not Bound.NETWORK:
            seconds[resolved] = seconds.get(resolved, 0.0) + seconds.pop(Bound.NETWORK)
        total = sum(seconds.values())
        if not total:
            return {Bound.SERVICE: 1.0}
        largest_first = sorted(seconds, key=lambda bound: -seconds[bound])
        return {bound: seconds[bound] / total for bound in largest_first if seconds[bound]}

    def _network_bound(self) -> Bound:
        """The bound of samples in which the answer was not known yet: the one that was found later, if any."""
        link, connections = self._seconds.get(Bound.LINK, 0.0), self._seconds.get(Bound.CONNECTIONS, 0.0)
        if link or connections:
            return Bound.LINK if link >= connections else Bound.CONNECTIONS
        loss = relative_loss(self._moved)
        if loss is None or _SHARED_LOSS < loss < _OWN_LOSS:
            return Bound.NETWORK
        return Bound.LINK if loss <= _SHARED_LOSS else Bound.CONNECTIONS


def relative_loss(moved: Mapping[int, tuple[float, int]]) -> float | None:
    """How much throughput fewer connections lost, in relation to a loss in proportion to their number.

    :param moved: seconds and bytes by the number of connections
    :returns: 0: none, 1: in proportion; None if too little was measured
    """
    usual = max(moved, key=lambda count: moved[count][0], default=0)
    if not usual or not moved[usual][1]:
        return None
    usual_rate = moved[usual][1] / moved[usual][0]
    possible_bytes = lost_bytes = 0.0
    for count, (seconds, moved_bytes) in moved.items():
        if count < usual:
            possible_bytes += usual_rate * seconds * (1 - count / usual)
            lost_bytes += usual_rate * seconds - moved_bytes
    if possible_bytes < _MIN_EVIDENCE * sum(count_bytes for _, count_bytes in moved.values()):
        return None
    return lost_bytes / possible_bytes
