"""One rate limit for all workers of a cluster: its scheduler counts their requests.

Problem
    The service limits an account, whose requests come from many machines. Machines cannot share a file, and a part
    that is refused after its body was sent has wasted bandwidth.

Approach
    A plugin of the scheduler holds the windows. A worker asks it for a permit before each request, and reports the
    headers of each response. A permit counts when it is granted: the permits of a dead worker remain counted until
    the next window. A worker that was suspended discards an old permit.

    If the scheduler is silent, a worker sends nothing for a while, and then uses its share of the windows that it
    knows.

Rejected
    - A fixed share of the limit for each worker: idle workers would waste their shares, and new workers would
      exceed the limit.
    - Leases of several permits: they save calls of a fraction of a millisecond each, but dead workers waste more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from distributed import Scheduler, SchedulerPlugin

from async_uploader._flow.account_windows import RATE_LIMIT_HEADERS, AccountWindows
from async_uploader._flow.permits import PERMIT_SECONDS, Permit
from async_uploader.events import RequestKind

_PLUGIN: Final = "async_uploader-permits"
_ASK: Final = "async_uploader_ask"
_REPORT: Final = "async_uploader_report"


class PermitPlugin(SchedulerPlugin):
    """Counts the requests of all workers, for each account. It stays on the scheduler when a coordinator ends."""

    name = _PLUGIN
    # Another coordinator must not reset the windows.
    idempotent = True

    def __init__(self) -> None:
        self._windows: dict[str, AccountWindows] = {}
        self._demands: dict[tuple[str, str, str], int] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Accept the calls of workers."""
        self._scheduler = scheduler
        scheduler.handlers[_ASK] = self.ask
        scheduler.stream_handlers[_REPORT] = self.report

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: object) -> None:  # noqa: ARG002 - the interface
        """Forget the demand of a worker. Its permits remain counted."""
        for key in [key for key in self._demands if key[0] == worker]:
            del self._demands[key]

    def ask(self, account: str, kind: str, demand: int, worker: str, window_seconds: float) -> tuple[float, int]:
        """Decide about one request; see :class:`~async_uploader._flow.permits.Permit`.

        :param account: the fingerprint of the account
        :param worker: the address of the worker that asks
        :param window_seconds: length of a window until a response states it
        """
        self._demands[worker, account, kind] = demand
        demands = sum(count for (_, *key), count in self._demands.items() if key == [account, kind])
        windows = self._windows.get(account)
        if windows is None:
            windows = self._windows[account] = AccountWindows(window_seconds=window_seconds)
        now = asyncio.get_running_loop().time()
        wait_seconds = windows.count_or_wait(RequestKind(kind), now, demand=demands)
        return wait_seconds, max(1, len(self._scheduler.workers))

    def report(self, account: str, kind: str, status: int, headers: Mapping[str, str], **_: object) -> None:
        """Learn from a response."""
        if (windows := self._windows.get(account)) is not None:
            windows.read_response(asyncio.get_running_loop().time(), RequestKind(kind), status, headers)


class SchedulerPermits:
    """The permits of a process that is connected to the scheduler.

    :param account: the fingerprint of the account
    :param process: the address that identifies this process
    :param call: calls a handler of the scheduler, and returns its result
    :param send: sends a message to a stream handler of the scheduler, without waiting
    :param window_seconds: length of a window until a response states it
    """

    def __init__(
        self,
        *,
        account: str,
        process: str,
        call: Callable[..., Awaitable[Any]],
        send: Callable[[dict[str, Any]], object],
        window_seconds: float,
    ) -> None:
        self._identity = {"account": account, "worker": process, "window_seconds": window_seconds}
        self._account = account
        self._call = call
        self._send = send

    async def ask(self, kind: RequestKind, demand: int) -> Permit | None:
        """See :class:`~async_uploader._flow.permits.PermitSource`."""
        try:
            async with asyncio.timeout(PERMIT_SECONDS):
                return Permit(*await self._call(kind=str(kind), demand=demand, **self._identity))
        except (OSError, ValueError):  # the connection is closed, or the scheduler was restarted
            return None

    def report(self, kind: RequestKind, status: int, headers: Mapping[str, str]) -> None:
        """See :class:`~async_uploader._flow.permits.PermitSource`."""
        known = {name: value for name in RATE_LIMIT_HEADERS if (value := headers.get(name)) is not None}
        self._send(
            {"op": _REPORT, "account": self._account, "kind": str(kind), "status": status, "headers": known}
        )
