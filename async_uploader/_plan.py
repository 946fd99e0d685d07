"""How a source is split into parts. Pure: no files, sockets or clocks.

A part is identified by its number and its position. Whether it is the last one does not follow from its size: if
the size of a source is a multiple of the part size, the last part is full, too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ._errors import ConfigurationError
from ._limits import MAX_PART_BYTES, MAX_PARTS, MIB, MIN_PART_BYTES
from ._units import format_size

#: The limit of the adaptive concurrency. More connections were not faster on any network that we measured.
MAX_ADAPTIVE_CONCURRENCY: Final = 32

# Two parts per connection, so that slow connections can leave parts to fast ones. Few enough for the account's 100
# uploads per minute, up to 12.5 GiB.
_USUAL_PARTS: Final = 2 * MAX_ADAPTIVE_CONCURRENCY
# Below this size, one part per connection: with smaller parts, waiting for responses costs more than it gains.
_TWO_PARTS_MIN_BYTES: Final = _USUAL_PARTS * 16 * MIB
# If a rate limit window allows this many parts, larger parts are better than waiting for the next window.
_SUFFICIENT_PARTS: Final = 16
# The rest of the rate limit is for retries, and for other clients of the account.
_RATE_LIMIT_SHARE: Final = 0.8
# Parts of a stream before they start to grow.
_PARTS_BEFORE_GROWTH: Final = 20


class Part(Struct, frozen=True, kw_only=True):
    """A contiguous range of a source.

    :param number: counted from 1
    :param offset: of its first byte in the source
    :param last: no part follows
    """

    number: int
    offset: int
    size_bytes: int
    last: bool

    @property
    def end(self) -> int:
        """The offset of the first byte after the part."""
        return self.offset + self.size_bytes


class Plan(Struct, frozen=True, kw_only=True):
    """How a source is split into parts, and how many of them may be in flight.

    :param part_bytes: size of a part; of the first parts, if they grow
    :param concurrency: maximum number of parts in flight
    :param total_bytes: size of the source; None while it is not known
    :param grows: later parts are larger, see :meth:`size_of`
    :param is_shuffled: send the parts in a random order, because another process may be sending them in order
    :param is_adjustable: the part size was not requested, so :func:`fit_to_allowance` may change it
    """

    part_bytes: int
    concurrency: int
    total_bytes: int | None = None
    grows: bool = False
    is_shuffled: bool = False
    is_adjustable: bool = False

    def size_of(self, number: int, allowance: Allowance | None = None) -> int:
        """The size of a part, unless the source ends in it.

        A stream may end soon or run for hours. Small parts are sent early and need little memory, but the rate
        limit of 100 per minute makes them slow. So parts grow in proportion to their number after the first 20,
        and earlier if the rate limit would slow down a fast network.
        """
        if not self.grows:
            return self.part_bytes
        grown_bytes = self.part_bytes * max(1, number // _PARTS_BEFORE_GROWTH)
        balanced_bytes = (allowance.balanced_part_bytes if allowance else None) or 0
        return min(max(grown_bytes, int(balanced_bytes)), MAX_PART_BYTES)

    @property
    def parts_total(self) -> int | None:
        """The number of parts; None while it is not known."""
        return None if self.total_bytes is None else -(-self.total_bytes // self.part_bytes)

    def ordered_parts(self, received: frozenset[int]) -> list[Part]:
        """The parts that are still to be sent, in the order in which they are sent.

        :param received: numbers of parts that the service already has
        """
        parts = [part for part in self.parts() if part.number not in received]
        if self.is_shuffled:
            random.shuffle(parts)
        return parts

    def parts(self) -> Iterator[Part]:
        """All parts in order. The size of the source must be known."""
        assert self.total_bytes is not None
        for index, offset in enumerate(range(0, self.total_bytes, self.part_bytes)):
            end = min(offset + self.part_bytes, self.total_bytes)
            yield Part(number=index + 1, offset=offset, size_bytes=end - offset, last=end == self.total_bytes)


class Allowance(Struct, frozen=True, kw_only=True):
    """The uploads that the rate limit allows an account.

    :param remaining: uploads that remain in the current window
    :param limit: uploads per window
    :param window_bytes: bytes that the network transfers in a window at the measured throughput; None if unknown
    """

    remaining: int
    limit: int
    window_bytes: float | None = None

    @property
    def balanced_part_bytes(self) -> float | None:
        """The part size that exhausts the network and the rate limit at the same time; None if it is unknown."""
        if self.window_bytes is None:
            return None
        return self.window_bytes / (_RATE_LIMIT_SHARE * max(1, self.limit))


def plan_parts(total_bytes: int, *, part_bytes: int | None = None, concurrency: int | None = None) -> Plan:
    """Plan a source of known size.

    The parts have equal sizes, and their number is a multiple of the concurrency if the limits of the service
    allow that, so that all connections finish at the same time.

    :param part_bytes: size of a part; default: planned
    :param concurrency: maximum number of parts in flight; default 32
    :raises ConfigurationError: ``part_bytes`` would need more than 10,000 parts
    """
    in_flight = concurrency or MAX_ADAPTIVE_CONCURRENCY
    is_adjustable = part_bytes is None
    if part_bytes is None:
        parts = _USUAL_PARTS if total_bytes >= _TWO_PARTS_MIN_BYTES else MAX_ADAPTIVE_CONCURRENCY
        part_bytes = _part_bytes(total_bytes, max(in_flight, parts // in_flight * in_flight))
    if total_bytes > part_bytes * MAX_PARTS:
        minimum = format_size(-(-total_bytes // MAX_PARTS // MIB) * MIB)
        raise ConfigurationError(
            f"A source of {format_size(total_bytes)} would need more than {MAX_PARTS:,} parts of "
            f"{format_size(part_bytes)}; choose a part size of at least {minimum}, or omit it."
        )
    return Plan(
        total_bytes=total_bytes,
        part_bytes=part_bytes,
        concurrency=in_flight,
        is_adjustable=is_adjustable,
    )


def plan_stream(
    *, buffer_bytes: int, part_bytes: int | None = None, concurrency: int | None = None, live: bool = False
) -> Plan:
    """Plan a stream of unknown size. Parts grow, unless their size is given or the stream is live.

    10,000 parts of the minimum size hold the largest video that the service accepts, so part numbers suffice.

    :param buffer_bytes: memory for the parts in flight and the two that are being filled
    :param part_bytes: size of a part; default 5 MiB, growing
    :param concurrency: maximum number of parts in flight; default: as many as fit into ``buffer_bytes``, 2 to 32
    :param live: keep parts small, so that they are sent early
    """
    first_bytes = part_bytes or MIN_PART_BYTES
    fitting = min(max(buffer_bytes // first_bytes - 2, 2), MAX_ADAPTIVE_CONCURRENCY)
    return Plan(
        part_bytes=first_bytes,
        concurrency=concurrency or fitting,
        grows=part_bytes is None and not live,
    )


def fit_to_allowance(plan: Plan, allowance: Allowance | None, *, files: int = 1) -> Plan:
    """Enlarge the parts of a plan if the account does not have enough uploads left for it.

    There are as many parts as the connections can use, but no more than the window allows. If it allows too few,
    the parts become so large that the network, and not the rate limit, determines the duration.

    :param allowance: None if the rate limit is not known yet
    :param files: uploads that share the connections and the window, including this one
    """
    if not plan.is_adjustable or plan.total_bytes is None:
        return plan
    parts = max(1, (plan.parts_total or 1) if files == 1 else _USUAL_PARTS // files)
    if allowance is not None and parts > (remaining := allowance.remaining // files):
        if balanced_bytes := allowance.balanced_part_bytes:
            wanted = int(plan.total_bytes / max(1.0, balanced_bytes))
        else:
            wanted = 0 if remaining >= _SUFFICIENT_PARTS else allowance.limit // files
        parts = min(parts, max(1, wanted, remaining if remaining >= _SUFFICIENT_PARTS else 1))
    in_flight = plan.concurrency if files == 1 else 1
    if parts > in_flight:
        parts = parts // in_flight * in_flight
    return replace(plan, part_bytes=max(plan.part_bytes, _part_bytes(plan.total_bytes, parts)))


def _part_bytes(total_bytes: int, parts: int) -> int:
    return min(max(-(-total_bytes // parts), MIN_PART_BYTES), MAX_PART_BYTES)
