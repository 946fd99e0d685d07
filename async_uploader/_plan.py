"""How a source is cut into parts. Pure: no files, sockets or clocks.

A part is known by its number and its extent. Parts may differ in size, and a part knows that it is the last
one because the plan looked ahead, never because of its size: a source whose size is an exact multiple of the
part size closes with a full part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ._errors import ConfigurationError
from ._limits import MAX_PART_BYTES, MAX_PARTS, MIB, MIN_PART_BYTES
from ._units import format_size

# More connections than this gained nothing on any link that was measured.
MOST_CONNECTIONS: Final = 32

# Enough parts to keep all connections busy and end together (a multiple of their number), and so few that a whole
# upload fits into the account's 100 uploads a minute, up to 12.5 GiB. Two for each connection, so that a slow one
# can leave some to the others; but one, where smaller ones would be outweighed by the wait for their answers.
_USUAL_PARTS: Final = 2 * MOST_CONNECTIONS
_WORTH_TWO_BYTES: Final = _USUAL_PARTS * 16 * MIB
# So many parts in one window of the rate limit are enough to begin with: waiting for the next one costs more.
_ENOUGH_PARTS: Final = 16
# Not all of the limit: retries count, too, and so does whoever else uses the account.
_LIMIT_SHARE: Final = 0.8
_PARTS_BEFORE_GROWTH: Final = 20


class Part(Struct, frozen=True, kw_only=True):
    """A piece of the source: ``size_bytes`` from ``offset``. Numbers count from 1."""

    number: int
    offset: int
    size_bytes: int
    last: bool

    @property
    def end(self) -> int:
        """The offset just behind the part."""
        return self.offset + self.size_bytes


class Plan(Struct, frozen=True, kw_only=True):
    """How a source is cut, and how many parts may be in flight.

    :param part_bytes: bytes in a part; in the first ones, if they grow
    :param total_bytes: the source's size; None while its end is not known
    :param concurrency: parts in flight at once, at most
    :param grows: later parts are larger, see :meth:`size_of`
    :param is_free: nobody has asked for this part size; see :func:`fit`
    """

    part_bytes: int
    concurrency: int
    total_bytes: int | None = None
    grows: bool = False
    is_free: bool = False

    def size_of(self, number: int, allowance: Allowance | None = None) -> int:
        """How many bytes a part has, unless the source ends in it.

        A stream may end at once or go on for hours. Small parts leave early and are cheap to keep, but 100 of
        them a minute are slow: so after 20 parts they begin to grow, in proportion to what has gone before; and
        before that, if the account's limit would be what a fast line waits for.
        """
        if not self.grows:
            return self.part_bytes
        grown = self.part_bytes * max(1, number // _PARTS_BEFORE_GROWTH)
        balanced_bytes = (allowance.balanced_bytes if allowance else None) or 0
        return min(max(grown, int(balanced_bytes)), MAX_PART_BYTES)

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

    The parts are equal, and their number is a multiple of the connections where the service's bounds leave room
    for it, so that all of these end together.

    :raises ConfigurationError: the source would need more than 10,000 parts of ``part_bytes``
    """
    in_flight = concurrency or MOST_CONNECTIONS
    is_free = part_bytes is None
    if part_bytes is None:
        parts = _USUAL_PARTS if total_bytes >= _WORTH_TWO_BYTES else MOST_CONNECTIONS
        part_bytes = _part_bytes(total_bytes, max(in_flight, parts // in_flight * in_flight))
    if total_bytes > part_bytes * MAX_PARTS:
        least = format_size(-(-total_bytes // MAX_PARTS // MIB) * MIB)
        raise ConfigurationError(
            f"A source of {format_size(total_bytes)} would need more than {MAX_PARTS:,} parts of "
            f"{format_size(part_bytes)}; choose a part size of at least {least}, or none."
        )
    return Plan(
        total_bytes=total_bytes,
        part_bytes=part_bytes,
        concurrency=in_flight,
        is_free=is_free,
    )


class Allowance(Struct, frozen=True, kw_only=True):
    """What an account may still upload, as far as it is known.

    :param left: uploads in what is left of the present window
    :param limit: uploads in a whole one
    :param window_bytes: what the line moves in a whole window, as it was measured; None while it was not
    """

    left: int
    limit: int
    window_bytes: float | None = None

    @property
    def balanced_bytes(self) -> float | None:
        """In a part, for the line and the limit to be used up at the same time; None while that is not known."""
        return None if self.window_bytes is None else self.window_bytes / (_LIMIT_SHARE * max(1, self.limit))


def fit(plan: Plan, allowance: Allowance | None, *, files: int = 1) -> Plan:
    """The same plan with larger parts, if the usual ones would spend uploads that the account does not have.

    As many parts as the connections can use, but no more than the window has left; and where that is no choice,
    so large that the line and not the limit is what is waited for.

    :param allowance: None while nothing is known
    :param files: how many files share the connections and the window, this one included
    """
    if not plan.is_free or plan.total_bytes is None:
        return plan
    parts = max(1, (plan.parts_total or 1) if files == 1 else _USUAL_PARTS // files)
    if allowance is not None and parts > (left := allowance.left // files):
        if balanced_bytes := allowance.balanced_bytes:
            wanted = int(plan.total_bytes / max(1.0, balanced_bytes))
        else:
            wanted = 0 if left >= _ENOUGH_PARTS else allowance.limit // files
        parts = min(parts, max(1, wanted, left if left >= _ENOUGH_PARTS else 1))
    in_flight = plan.concurrency if files == 1 else 1
    if parts > in_flight:
        parts = parts // in_flight * in_flight
    return replace(plan, part_bytes=max(plan.part_bytes, _part_bytes(plan.total_bytes, parts)))


def _part_bytes(total_bytes: int, parts: int) -> int:
    return min(max(-(-total_bytes // parts), MIN_PART_BYTES), MAX_PART_BYTES)


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
    )
