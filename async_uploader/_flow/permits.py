"""Permits to send requests, for processes on several machines that share the rate limit of an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from async_uploader.events import RequestKind

# A permit that arrives later than this is not used: the window in which it was counted may be over. A process that
# was suspended, or a slow network, therefore loses its permit instead of exceeding the limit.
PERMIT_SECONDS: Final = 1.0


class Permit(NamedTuple):
    """The decision about one request.

    :param wait_seconds: 0: the request is counted and may be sent; otherwise, wait for this time and ask again
    :param sharers: how many processes share the account
    """

    wait_seconds: float
    sharers: int


class PermitSource(Protocol):
    """Counts the requests of all processes that share an account."""

    async def ask(self, kind: RequestKind, demand: int) -> Permit | None:
        """Ask whether a request may be sent now.

        :param demand: requests of this kind that this process still has to send
        :returns: None if there is no response within :data:`PERMIT_SECONDS`. A permit counts when it is granted
        """

    def report(self, kind: RequestKind, status: int, headers: Mapping[str, str]) -> None:
        """Report the rate-limit headers of a response. Does not wait."""
