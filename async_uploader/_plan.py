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

DEFAULT_CONCURRENCY: Final = 8

# Large enough that the wait for an answer is short beside sending the part, on lines up to about 1 Gbit/s.
_USUAL_PART_BYTES: Final = 32 * MIB
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
    :param grows: later parts are larger, see :meth:`size_of`
    """

    part_bytes: int
    concurrency: int
    total_bytes: int | None = None
    grows: bool = False

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

    The chosen part size makes the parts equal and their number a multiple of ``concurrency``, so that all
    workers end together, as far as the service's bounds leave room for it.

    :raises ConfigurationError: the source would need more than 10,000 parts of ``part_bytes``
    """
    in_flight = concurrency or DEFAULT_CONCURRENCY
    if part_bytes is None:
        rounds = max(1, -(-total_bytes // (_USUAL_PART_BYTES * in_flight)))
        equal = -(-total_bytes // (rounds * in_flight))
        part_bytes = min(max(equal, MIN_PART_BYTES), MAX_PART_BYTES)
    if total_bytes > part_bytes * MAX_PARTS:
        least = format_size(-(-total_bytes // MAX_PARTS // MIB) * MIB)
        raise ConfigurationError(
            f"A source of {format_size(total_bytes)} would need more than {MAX_PARTS:,} parts of "
            f"{format_size(part_bytes)}; choose a part size of at least {least}, or none."
        )
    return Plan(total_bytes=total_bytes, part_bytes=part_bytes, concurrency=in_flight)


def plan_stream(*, part_bytes: int | None = None, concurrency: int | None = None, live: bool = False) -> Plan:
    """Plan a source whose end is not known. Parts grow, unless their size is given or the source is live.

    10,000 parts of the smallest size hold the biggest video that the service takes: so no stream runs out of
    part numbers.
    """
    return Plan(
        part_bytes=part_bytes or MIN_PART_BYTES,
        concurrency=concurrency or DEFAULT_CONCURRENCY,
        grows=part_bytes is None and not live,
    )
