"""How a source is cut into parts. Pure: no files, sockets or clocks.

A part is known by its number and its extent. Parts may differ in size, and a part knows that it is the last
one because the plan looked ahead, never because of its size: a source whose size is an exact multiple of the
part size closes with a full part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ._errors import ConfigurationError
from ._limits import MAX_PART_BYTES, MAX_PARTS, MIB, MIN_PART_BYTES
from ._units import format_size

# More connections than this gain nothing on any line that was measured; `Climb` finds how many do.
MOST_CONNECTIONS: Final = 32

# Enough parts to keep all connections busy and end together (a multiple of their number), and so few that a whole
# upload fits into the account's 100 uploads a minute, up to 12.5 GiB.
_USUAL_PARTS: Final = 2 * MOST_CONNECTIONS
_PARTS_BEFORE_GROWTH: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of the source: ``size_bytes`` from ``offset``. Numbers count from 1."""

    number: int
    offset: int
    size_bytes: int
    last: bool

    @property
    def end(self) -> int:
        """The offset just behind the part."""
        return self.offset + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a source is cut, and how many parts may be in flight.

    :param part_bytes: bytes in a part; in the first ones, if they grow
    :param total_bytes: the source's size; None while its end is not known
    :param concurrency: parts in flight at once; at most, if it adapts
    :param grows: later parts are larger, see :meth:`size_of`
    :param adapts: how many are in flight is found out while the upload runs
    """

    part_bytes: int
    concurrency: int
    total_bytes: int | None = None
    grows: bool = False
    adapts: bool = False

    def size_of(self, number: int) -> int:
        """How many bytes a part has, unless the source ends in it.

        A stream may end at once or go on for hours. Small parts leave early and are cheap to keep, but 100 of
        them a minute are slow: so after 20 parts they begin to grow, in proportion to what has gone before.
        """
        if not self.grows:
            return self.part_bytes
        return min(self.part_bytes * max(1, number // _PARTS_BEFORE_GROWTH), MAX_PART_BYTES)

    @property
    def parts_total(self) -> int | None:
        """How many parts there are; None while it is not known."""
        return None if self.total_bytes is None else -(-self.total_bytes // self.part_bytes)

    def parts(self) -> Iterator[Part]:
        """All parts of a source of known size, in order."""
        assert self.total_bytes is not None
        for index, offset in enumerate(range(0, self.total_bytes, self.part_bytes)):
            end = min(offset + self.part_bytes, self.total_bytes)
            yield Part(number=index + 1, offset=offset, size_bytes=end - offset, last=end == self.total_bytes)


def plan_parts(total_bytes: int, *, part_bytes: int | None = None, concurrency: int | None = None) -> Plan:
    """Plan a source of ``total_bytes``; what is None is chosen.

    The parts are equal, and depend on nothing but the size and ``concurrency``: so another machine, or a later
    run, cuts the same parts. Their number is a multiple of the connections where the service's bounds leave room
    for it, so that all of these end together.

    :raises ConfigurationError: the source would need more than 10,000 parts of ``part_bytes``
    """
    in_flight = concurrency or MOST_CONNECTIONS
    if part_bytes is None:
        usual = max(in_flight, _USUAL_PARTS // in_flight * in_flight)
        part_bytes = min(max(-(-total_bytes // usual), MIN_PART_BYTES), MAX_PART_BYTES)
    if total_bytes > part_bytes * MAX_PARTS:
        least = format_size(-(-total_bytes // MAX_PARTS // MIB) * MIB)
        raise ConfigurationError(
            f"A source of {format_size(total_bytes)} would need more than {MAX_PARTS:,} parts of "
            f"{format_size(part_bytes)}; choose a part size of at least {least}, or none."
        )
    return Plan(total_bytes=total_bytes, part_bytes=part_bytes, concurrency=in_flight, adapts=concurrency is None)


def plan_stream(
    *, buffer_bytes: int, part_bytes: int | None = None, concurrency: int | None = None, live: bool = False
) -> Plan:
    """Plan a source whose end is not known. Parts grow, unless their size is given or the source is live.

    No more of the first parts are in flight than fit into ``buffer_bytes``, beside the two that are being cut.

    10,000 parts of the smallest size hold the biggest video that the service takes: so no stream runs out of
    part numbers.
    """
    first_bytes = part_bytes or MIN_PART_BYTES
    fitting = min(max(buffer_bytes // first_bytes - 2, 2), MOST_CONNECTIONS)
    return Plan(
        part_bytes=first_bytes,
        concurrency=concurrency or fitting,
        grows=part_bytes is None and not live,
        adapts=concurrency is None,
    )
