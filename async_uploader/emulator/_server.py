"""The way of every request: found, counted, let in or refused, handled, answered, written down.

The page's own requests go another way (`_page`).

Requests are dispatched from aiohttp's low-level server and not from an `Application`: there every check would
come after the router and the 100-continue, and here it must come before anything of the body is read.

A refusal that leaves a body unread closes the connection: nothing else could follow that body. To let the
client read the answer, what it still sends is dropped for up to `LINGER_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from ._assets import Assets
from ._board import Board
from ._credentials import Credentials
from ._exchange import Answer, Cut, Exchange, fault_answer, problem_answer
from ._faults import ArmedFaults, FaultPlan
from ._feed import Feed
from ._handlers import Handlers, Route
from ._hosts import Hosts, foreign_origin
from ._page import Page, is_page
from ._problems import Problem
from ._ratelimit import Budget, RateLimiter
from ._records import Ledger
from ._room import problem_of
from ._rules import Range, parse_content_range
from ._throttle import Pacer

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ._config import Config
    from ._store import Store

LINGER_SECONDS: Final = 2.0

_ALREADY_THERE: Final = (
    "video-content-range-by-part-part-already-sent",
    "video-content-range-by-bytes-range-overlap",
    "video-source-already-uploaded",
)
logger = logging.getLogger("async_uploader.emulator")


class Server:
    """Answers requests; one instance an emulator."""

    def __init__(self, config: Config, store: Store, ledger: Ledger, url: str) -> None:
        self.faults = FaultPlan(config.faults)
        self.credentials = Credentials(config.api_key, config.token_ttl, store.bearers)
        self._config = config
        self._hosts = Hosts(config.host, config.allowed_hosts)
        self._ledger = ledger
        self._store = store
        self._limiter = RateLimiter(config.rate_limit, config.rate_window)
        self._link = [Pacer(config.link_rate, _now())] if config.link_rate else []
        assets = Assets(store, url)
        self._routes = Handlers(store, self.credentials, ledger, assets, url=url).routes()
        self._running: set[asyncio.Task[Any]] = set()
        self._live: set[Exchange] = set()  # uploads
        board = Board(config, store, ledger, limiter=self._limiter, faults=self.faults, live=self._live, url=url)
        self._page = Page(store, assets, Feed(board, ledger.bell))

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await self._serve(request)
        finally:
            self._running.discard(task)

    async def stop(self) -> None:
        """Break off every request that is being handled."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._page.close()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = self._hosts.refusal(request) or (foreign_origin(request) if is_page(request) else None)
        if refusal is None and (page := self._page.find(request)) is not None:
            return await self._show(page)
        route, ids = (None, ()) if refusal else self._find(request)
        exchange = self._exchange(request, route, ids, refusal)
        try:
            answer = await self._reply(exchange, route, ids)
            if exchange.has_unread_body:
                await exchange.linger(LINGER_SECONDS)
        except (Cut, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # goes nowhere
        finally:
            exchange.settle()
        return answer

    async def _show(self, page: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        try:
            return await page
        except ConnectionError:  # whoever looked has gone
            return web.Response()
        except OSError as error:
            return problem_answer(await self._problem_of(error, "The page"))

    async def _reply(self, exchange: Exchange, route: Route | None, ids: tuple[str, ...]) -> web.StreamResponse:
        """Answer; an upload counts as in flight until its answer is out."""
        is_upload = route is not None and route.budget is Budget.UPLOADS
        if is_upload:
            self._live.add(exchange)
            self._ledger.upload_begins()
        try:
            answer = await self._answer(exchange, route, ids)
            await self._send(exchange, route, answer)
            exchange.status = answer.status
        finally:
            if is_upload:
                self._live.discard(exchange)
                self._ledger.upload_ends()
            exchange.enter()
        return answer

    async def _answer(self, exchange: Exchange, route: Route | None, ids: tuple[str, ...]) -> web.StreamResponse:
        try:
            await exchange.seam("early")
            if exchange.refusal is not None:
                raise exchange.refusal
            self._admit(exchange, route)
            assert route is not None
            if not exchange.request.body_exists:
                await exchange.seam("middle")
                await exchange.seam("late")
            answer = await route.handler(exchange, *ids)
            await exchange.seam("stored")
        except Problem as problem:
            exchange.again = problem.slug in _ALREADY_THERE
            return problem_answer(problem)
        except Answer as order:
            exchange.is_behind_proxy = order.fault.body in ("html", "empty")
            return fault_answer(order.fault, order.status)
        except web.RequestPayloadError as error:
            return problem_answer(Problem("invalid-payload", detail=str(error)))
        except (Cut, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - `_problem_of` logs it
            if exchange.request.transport is None:
                raise ConnectionResetError from None
            return problem_answer(await self._problem_of(error, f"{exchange.request.method} {exchange.path}"))
        return answer

    async def _problem_of(self, error: Exception, request: str) -> Problem:
        """A failure of our own as an answer: a lack of room or of descriptors has its own, and no traceback."""
        problem = None
        if isinstance(error, OSError):
            problem = problem_of(error, await self._store.short(error))
        if problem is None:
            logger.error("%s failed", request, exc_info=error)
        return problem or Problem("server-error")

    def _admit(self, exchange: Exchange, route: Route | None) -> None:
        """Everything that refuses a request before its endpoint looks at it."""
        request = exchange.request
        if route is None:
            is_known = bool(self._methods(request.path))
            raise Problem("method-not-allowed" if is_known else "unrecognized-request-url")
        if not route.is_open:
            self.credentials.check_authorization(request.headers.get("Authorization"), time.time())
        if route.budget is not None and not self._limiter.admit(route.budget, _now()):
            raise Problem("too-many-requests")

    async def _send(self, exchange: Exchange, route: Route | None, answer: web.StreamResponse) -> None:
        if self._config.latency:
            await asyncio.sleep(self._config.latency)
        request = exchange.request
        if answer.status == 405:
            answer.headers["Allow"] = ", ".join(self._methods(request.path))
        if not (exchange.is_behind_proxy or request.path.startswith("/auth/")):
            budget = route.budget if route and route.budget else Budget.READS
            for name, value in self._limiter.headers(budget, _now()).items():
                answer.headers.setdefault(name, value)
        if exchange.has_unread_body and request.content.is_eof():
            await exchange.linger(LINGER_SECONDS)  # it is all there: the connection can live on
        if exchange.has_unread_body:
            answer.force_close()
        await answer.prepare(request)
        await answer.write_eof()

    def _find(self, request: web.BaseRequest) -> tuple[Route | None, tuple[str, ...]]:
        for route in self._routes:
            if route.method == request.method and (match := route.pattern.fullmatch(request.path)):
                return route, match.groups()
        return None, ()

    def _methods(self, path: str) -> list[str]:
        return sorted(route.method for route in self._routes if route.pattern.fullmatch(path))

    def _exchange(
        self, request: web.BaseRequest, route: Route | None, ids: tuple[str, ...], refusal: Problem | None
    ) -> Exchange:
        wanted: Range | None = None
        endpoint = route.endpoint if route else "other"
        content_range = request.headers.get("Content-Range")
        if endpoint == "upload":
            try:
                wanted = parse_content_range(content_range)
            except Problem:
                wanted = None  # the endpoint will say so, to those who may know
        attempt = self._ledger.attempt((request.method, request.path_qs, content_range))
        line = [Pacer(self._config.connection_rate, _now())] if self._config.connection_rate else []
        return Exchange(
            request,
            endpoint=endpoint,
            path="/upload-tokens/…" if request.path.startswith("/upload-tokens/") else request.path,
            wanted=wanted,
            target=ids[0] if endpoint == "upload" and ids else None,
            attempt=attempt,
            faults=ArmedFaults([]) if refusal else self.faults.arm(endpoint, wanted, attempt),
            refusal=refusal,
            ledger=self._ledger,
            credentials=self.credentials,
            pacers=[*line, *self._link],
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
