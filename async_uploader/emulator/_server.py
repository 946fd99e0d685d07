"""Handles every request: checks it, passes it to its endpoint, sends the response and logs it.

Requests are dispatched by aiohttp's low-level server, not by an `Application`: there, every check would happen
after the routing and the 100-continue; here, it must happen before anything of the body is read.

A refusal that leaves a body unread closes the connection, because nothing can follow that body. For up to
`DRAIN_SECONDS`, the rest of the body is read and dropped, so that the client can read the response.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from ._api.assets import Assets
from ._api.endpoints import Endpoints
from ._credentials import Credentials
from ._faults import FaultInjector, RequestFaults
from ._http.cors import ALLOW_ORIGIN, is_preflight, preflight_response
from ._http.exchange import ConnectionCut, Exchange, FaultTriggered, RequestInfo
from ._http.hosts import HostCheck, check_origin
from ._http.rate_limit import Budget, RateLimiter
from ._http.responses import fault_response, fault_slug, problem_response
from ._http.throttle import Pacer
from ._problems import Problem
from ._rules import ContentRange, parse_content_range
from ._storage.disk_space import problem_of
from ._web.control import Control
from ._web.event_stream import EventStream
from ._web.page import Page, is_page
from ._web.state import PageState

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ._api.routing import Route
    from ._config import Config
    from ._records import RequestLog
    from ._storage.store import Store
    from ._webhook_sender import WebhookSender

DRAIN_SECONDS: Final = 2.0

_DUPLICATES: Final = (
    "video-content-range-by-part-part-already-sent",
    "video-content-range-by-bytes-range-overlap",
    "video-source-already-uploaded",
)
logger = logging.getLogger("async_uploader.emulator")


class Server:
    """The request handler of one emulator."""

    def __init__(
        self, config: Config, store: Store, log: RequestLog, webhooks: WebhookSender, *, url: str
    ) -> None:
        self.faults = FaultInjector(config.faults)
        self.credentials = Credentials(config.api_key, config.token_ttl, store.tokens.bearers)
        self._config = config
        self._hosts = HostCheck(config.host, config.allowed_hosts)
        self._log = log
        self._store = store
        self._webhooks = webhooks
        self._limiter = RateLimiter(config.rate_limit, config.rate_window)
        self._link_pacers = [Pacer(config.link_rate, _now())] if config.link_rate else []
        assets = Assets(store, url)
        endpoints = Endpoints(
            store,
            self.credentials,
            log,
            assets,
            url=url,
            listing_lag_s=config.listing_lag,
            restores=config.video_restore,
        )
        self._routes = endpoints.routes()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._exchanges: dict[asyncio.Task[Any], Exchange] = {}
        self._uploads: set[Exchange] = set()  # in flight
        state = PageState(
            config,
            store,
            log,
            limiter=self._limiter,
            faults=self.faults,
            uploads=self._uploads,
            webhooks=webhooks,
            url=url,
        )
        self._page = Page(store, assets, EventStream(state, log.notifier))
        self._control = Control(
            store, log, self.faults, webhooks=webhooks, api_key=config.api_key, reset=self.reset
        )

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await self._handle(request)
        finally:
            self._tasks.discard(task)

    async def stop(self) -> None:
        """Cancel all requests that are being processed."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._page.close()

    async def reset(self) -> None:
        """Forget videos, tokens, faults, requests and rate-limit windows. Requests in flight are cut."""
        self.faults.clear()  # first: a client may retry a request as soon as it is cut
        exchanges = dict(self._exchanges)
        for task, exchange in exchanges.items():
            if exchange.request.transport is not None:
                exchange.request.transport.abort()
            task.cancel()
        if exchanges:
            await asyncio.wait(exchanges)
        await self._store.clear()
        self._store.clock.reset()
        self._limiter.reset()
        self._webhooks.deliveries.clear()
        self._log.clear()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = self._hosts.refusal(request) or (check_origin(request) if is_page(request) else None)
        if refusal is None and (found := self._control.find(request) or self._page.find(request)):
            return await self._serve_unlogged(found)
        route, ids = (None, ()) if refusal else self._find_route(request)
        exchange = self._exchange(request, route, ids, refusal)
        task = asyncio.current_task()
        assert task is not None
        self._exchanges[task] = exchange
        try:
            response = await self._serve(exchange, route, ids)
            if exchange.has_unread_body:
                await exchange.drain(DRAIN_SECONDS)
        except (ConnectionCut, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # is not sent
        finally:
            del self._exchanges[task]
            exchange.log_body()
        return response

    async def _serve_unlogged(self, found: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        """Serve the page and the control endpoints."""
        try:
            return await found
        except ConnectionError:  # the client disconnected
            return web.Response()
        except OSError as error:
            return problem_response(await self._problem_of(error, "The page"))

    async def _serve(self, exchange: Exchange, route: Route | None, ids: tuple[str, ...]) -> web.StreamResponse:
        """Make and send the response. An upload is in flight until its response is sent."""
        is_upload = route is not None and route.budget is Budget.UPLOADS
        if is_upload:
            self._uploads.add(exchange)
            self._log.upload_started()
        try:
            response = await self._respond(exchange, route, ids)
            await self._send(exchange, route, response)
            exchange.response = response
        finally:
            if is_upload:
                self._uploads.discard(exchange)
                self._log.upload_ended()
            exchange.log_response()
        return response

    async def _respond(self, exchange: Exchange, route: Route | None, ids: tuple[str, ...]) -> web.StreamResponse:
        try:
            return await self._call_endpoint(exchange, route, ids)
        except Problem as problem:
            exchange.is_duplicate = problem.slug in _DUPLICATES
            return self._refuse(exchange, problem)
        except FaultTriggered as triggered:
            exchange.is_behind_proxy = triggered.fault.body in ("html", "empty")
            exchange.problem = fault_slug(triggered.fault, triggered.status)
            return fault_response(triggered.fault, triggered.status)
        except web.RequestPayloadError as error:
            return self._refuse(exchange, Problem("invalid-payload", detail=str(error)))
        except (ConnectionCut, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - `_problem_of` logs it
            if exchange.request.transport is None:
                raise ConnectionResetError from None
            name = f"{exchange.request.method} {exchange.info.path}"
            return self._refuse(exchange, await self._problem_of(error, name))

    def _refuse(self, exchange: Exchange, problem: Problem) -> web.Response:
        exchange.problem, exchange.detail = problem.slug, problem.detail
        return problem_response(problem)

    async def _call_endpoint(
        self, exchange: Exchange, route: Route | None, ids: tuple[str, ...]
    ) -> web.StreamResponse:
        await exchange.inject_faults("early")
        await self._store.delete_expired()
        if exchange.refusal is not None:
            raise exchange.refusal
        if is_preflight(exchange.request) and not is_page(exchange.request):
            return preflight_response({route.method for route in self._routes})
        self._check(exchange, route)
        assert route is not None
        if not exchange.request.body_exists:
            await exchange.inject_faults("middle")
            await exchange.inject_faults("late")
        response = await route.handler(exchange, *ids)
        await exchange.inject_faults("stored")
        return response

    async def _problem_of(self, error: Exception, request: str) -> Problem:
        """The problem for an internal error, which is logged unless disk space or descriptors are exhausted."""
        problem = None
        if isinstance(error, OSError):
            problem = problem_of(error, await self._store.shortages.report(error))
        if problem is None:
            logger.error("%s failed", request, exc_info=error)
        return problem or Problem("server-error")

    def _check(self, exchange: Exchange, route: Route | None) -> None:
        """Check the URL, the credentials and the rate limit, in this order.

        :raises Problem: the request is refused
        """
        request = exchange.request
        if route is None:
            is_known = bool(self._methods(request.path))
            raise Problem("method-not-allowed" if is_known else "unrecognized-request-url")
        if not route.is_open:
            self.credentials.check_authorization(request.headers.get("Authorization"), self._store.clock.now())
        if route.budget is not None and not self._limiter.admit(route.budget, _now()):
            raise Problem("too-many-requests")

    async def _send(self, exchange: Exchange, route: Route | None, response: web.StreamResponse) -> None:
        if self._config.latency:
            await asyncio.sleep(self._config.latency)
        request = exchange.request
        if response.status == 405:
            response.headers["Allow"] = ", ".join(self._methods(request.path))
        if not (exchange.is_behind_proxy or request.path.startswith("/auth/")):
            budget = route.budget if route and route.budget else Budget.READS
            for name, value in self._limiter.headers(budget, _now()).items():
                response.headers.setdefault(name, value)
        if not exchange.is_behind_proxy and exchange.refusal is None and not is_page(request):
            response.headers.update(ALLOW_ORIGIN)
        if exchange.has_unread_body and request.content.is_eof():
            await exchange.drain(DRAIN_SECONDS)  # the body has arrived, so the connection can be kept
        if exchange.has_unread_body:
            response.force_close()
        await response.prepare(request)
        await response.write_eof()

    def _find_route(self, request: web.BaseRequest) -> tuple[Route | None, tuple[str, ...]]:
        for route in self._routes:
            if route.method == request.method and (match := route.pattern.fullmatch(request.path)):
                return route, match.groups()
        return None, ()

    def _methods(self, path: str) -> list[str]:
        return sorted(route.method for route in self._routes if route.pattern.fullmatch(path))

    def _exchange(
        self, request: web.BaseRequest, route: Route | None, ids: tuple[str, ...], refusal: Problem | None
    ) -> Exchange:
        content_range: ContentRange | None = None
        endpoint = route.endpoint if route else "other"
        header = request.headers.get("Content-Range")
        if endpoint == "upload":
            try:
                content_range = parse_content_range(header)
            except Problem:
                content_range = None  # the endpoint reports it, after it has checked the credentials
        attempt = self._log.next_attempt((request.method, request.path_qs, header))
        rate = self._config.connection_rate
        return Exchange(
            request,
            RequestInfo(
                endpoint=endpoint,
                path="/upload-tokens/…" if request.path.startswith("/upload-tokens/") else request.path,
                attempt=attempt,
                content_range=content_range,
                video_id=ids[0] if endpoint == "upload" and ids else None,
            ),
            faults=RequestFaults([])
            if refusal or is_preflight(request)
            else self.faults.select(endpoint, content_range, attempt),
            refusal=refusal,
            log=self._log,
            credentials=self.credentials,
            pacers=[*([Pacer(rate, _now())] if rate else []), *self._link_pacers],
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
