"""Finds a connection that is much slower than the others at the same time. Pure: time is an argument.

Problem
    A connection can become very slow while others are fast: packet loss on one path, or a bad server behind a load
    balancer. The part on it then delays the end of the upload, for hours at 1 byte per second. The stall timeout
    does not help, because bytes move.

Approach
    Compare the connection with the mean of the others, over the time in which others were sending. If it has at
    most a tenth of their throughput, and sending the whole part again is expected to be much faster, replace the
    connection. Bytes that are sent twice are limited.

Rejected
    - A minimum rate: slow links exist, and a replacement does not make them faster.
    - A comparison with earlier throughput: the link as a whole may have become slower.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

# Only the throughput of this time counts.
_WINDOW_SECONDS: Final = 10.0


class SlowConnectionPolicy(Struct, frozen=True, kw_only=True):
    """Thresholds for the replacement of a connection.

    :param ratio: a connection is slow if it has at most this ratio of the others' throughput
    :param watch_seconds: a connection is watched for this long. It includes slow start on most paths
    :param others_seconds: the others must have sent for this long, in total
    :param gain: sending the part again must be expected to be this many times faster,
    :param gain_seconds: and this much earlier
    :param resent_ratio: at most this ratio of the delivered bytes is sent twice
    """

    ratio: float = 0.1
    watch_seconds: float = 3.0
    others_seconds: float = 1.0
    gain: float = 2.0
    gain_seconds: float = 3.0
    resent_ratio: float = 0.1


class Checkpoint(NamedTuple):
    """The bytes delivered up to a time.

    :ivar at_seconds: the time
    :ivar own_bytes: bytes that this connection has delivered of its part
    :ivar others_bytes: bytes that the others have delivered
    :ivar others_seconds: how long the others have been sending, in total
    """

    at_seconds: float
    own_bytes: int
    others_bytes: int
    others_seconds: float


def replacement_factor(
    policy: SlowConnectionPolicy,
    *,
    first: Checkpoint,
    together: Checkpoint,
    now: Checkpoint,
    part_bytes: int,
    resent_bytes: int,
) -> float | None:
    """How many times slower than the others a connection is; None if it is not to be replaced.

    :param first: when the watch began
    :param together: the last moment at which others were sending
    :param now: the current state
    :param part_bytes: size of the part, all of which would be sent again
    :param resent_bytes: what replacements have cost so far
    """
    seconds, together_seconds = now.at_seconds - first.at_seconds, together.at_seconds - first.at_seconds
    others_seconds = together.others_seconds - first.others_seconds
    if seconds < policy.watch_seconds or others_seconds < policy.others_seconds or together_seconds <= 0:
        return None
    usual = (together.others_bytes - first.others_bytes) / others_seconds
    # It was slow while the others were not, and still is.
    rate = max(
        (together.own_bytes - first.own_bytes) / together_seconds, (now.own_bytes - first.own_bytes) / seconds
    )
    if usual <= 0 or rate > usual * policy.ratio:
        return None
    rate = max(rate, 1.0)
    rest_seconds, again_seconds = (part_bytes - now.own_bytes) / rate, part_bytes / usual
    if rest_seconds < max(policy.gain * again_seconds, again_seconds + policy.gain_seconds):
        return None
    if resent_bytes + now.own_bytes > policy.resent_ratio * (now.own_bytes + now.others_bytes):
        return None
    return usual / rate


class SlowConnections:
    """Watches the connections that send parts, and chooses those to replace."""

    def __init__(self, policy: SlowConnectionPolicy) -> None:
        self._policy = policy
        self._watches: dict[object, _Watch] = {}
        self._sending_seconds = 0.0  # added up over all connections
        self._counted_at = 0.0
        self._resent_bytes = 0

    def add(self, now: float, key: object) -> None:
        """A connection begins to send a part."""
        self._count(now)
        self._watches[key] = _Watch(now)

    def remove(self, now: float, key: object, *, delivered: Callable[[], Mapping[object, int]]) -> None:
        """It no longer sends the part.

        :param delivered: all bytes that were delivered, by connection; ``None`` is the key of ended ones
        """
        self._count(now)
        del self._watches[key]
        if len(self._watches) == 1:
            # From now on, there is nothing to compare the last connection with.
            (last,) = self._watches
            self._check(now, last, delivered())

    def replacement_factor(
        self, now: float, key: object, *, delivered: Mapping[object, int], part_bytes: int
    ) -> float | None:
        """See :func:`replacement_factor`. Unless it is None, the caller has to replace the connection."""
        self._count(now)
        checked = self._check(now, key, delivered)
        watch = self._watches[key]
        factor = replacement_factor(
            self._policy,
            first=watch.checkpoints[0],
            together=watch.together or watch.checkpoints[0],
            now=checked,
            part_bytes=part_bytes,
            resent_bytes=self._resent_bytes,
        )
        if factor is not None:
            self._resent_bytes += checked.own_bytes
        return factor

    def _count(self, now: float) -> None:
        self._sending_seconds += len(self._watches) * (now - self._counted_at)
        self._counted_at = now

    def _check(self, now: float, key: object, delivered: Mapping[object, int]) -> Checkpoint:
        watch = self._watches[key]
        own_bytes = delivered.get(key, 0)
        own_seconds = now - watch.began_at_seconds
        checked = Checkpoint(
            now, own_bytes, sum(delivered.values()) - own_bytes, self._sending_seconds - own_seconds
        )
        checkpoints = watch.checkpoints
        if not checkpoints or checked.others_seconds > checkpoints[-1].others_seconds:
            watch.together = checked
        checkpoints.append(checked)
        while checkpoints[0].at_seconds < now - _WINDOW_SECONDS:
            checkpoints.popleft()
        return checked


class _Watch:
    def __init__(self, now: float) -> None:
        self.began_at_seconds = now
        self.checkpoints: deque[Checkpoint] = deque()
        self.together: Checkpoint | None = None
